"""Rearrangements of (rows, columns, channels) arrays."""

from __future__ import annotations

import numpy as np


def shuffle(x: np.ndarray, n: int) -> np.ndarray:
    """PixelShuffle: (h, w, n * n * c) -> (n h, n w, c).

    Channel n * n * k + n * dy + dx goes to row n * i + dy, column n * j + dx, channel k.
    """
    h, w, channels = x.shape
    x = x.reshape(h, w, channels // n**2, n, n).transpose(0, 3, 1, 4, 2)
    return x.reshape(h * n, w * n, -1)


def unshuffle(x: np.ndarray, n: int) -> np.ndarray:
    """Inverse of `shuffle`."""
    h, w, c = x.shape
    x = x.reshape(h // n, n, w // n, n, c).transpose(0, 2, 4, 1, 3)
    return x.reshape(h // n, w // n, -1)
