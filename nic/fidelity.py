"""PSNR: how far decoded 8-bit pixels are from the original ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from nic.picture import Picture

PEAK = 255


def same_channels(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both as (H, W, C): some codecs return gray as RGB, and every channel then counts."""
    return np.broadcast_arrays(np.atleast_3d(a), np.atleast_3d(b))


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """Peak signal-to-noise ratio in dB over all of two uint8 arrays; inf when they are equal."""
    # In pieces: the doubles of a large image would take eight times its memory.
    pieces = a.size // 2**22 + 1
    errors = zip(np.array_split(a, pieces), np.array_split(b, pieces))
    squares = sum(np.square(x.astype(np.float64) - y).sum() for x, y in errors)
    return float(10 * np.log10(PEAK**2 * a.size / squares)) if squares else float("inf")


def visible_psnr(original: Picture, decoded: Picture) -> float:
    """PSNR of the pixels that are not wholly transparent; inf where there are none."""
    pixels = same_channels(original.pixels, decoded.pixels)
    if decoded.alpha is None:
        return psnr(*pixels)
    return psnr(*(p[decoded.alpha > 0] for p in pixels))
