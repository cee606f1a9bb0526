"""The picture that flows through nic: pixels, and what a file keeps beside them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nic import container
from nic.errors import InputError


@dataclass(frozen=True, eq=False)
class Picture:
    """One still image. InputError where the parts do not fit, LimitExceeded beyond the format."""

    pixels: np.ndarray
    """uint8 (H, W, 3) RGB or (H, W) gray, as stored: not turned by EXIF's orientation."""
    alpha: np.ndarray | None = None
    """uint8 (H, W), 0 transparent to 255 opaque; None: opaque. Colours are not multiplied by it."""
    icc: bytes | None = None
    """ICC profile of the pixels; None: sRGB."""
    exif: bytes | None = None
    """A TIFF structure, with or without the six bytes `Exif 00 00` that JPEG puts before it."""
    xmp: bytes | None = None
    """An XMP packet."""

    def __post_init__(self):
        p = self.pixels
        if p.dtype != np.uint8 or p.ndim not in (2, 3) or p.shape[2:] not in ((), (3,)):
            raise InputError(f"pixels must be uint8 (H, W, 3) or (H, W), not {p.dtype} {p.shape}")
        if not (self.height and self.width):
            raise InputError("the image has no pixels")
        container.check_size(self.width, self.height)
        a = self.alpha
        if a is not None and (a.dtype != np.uint8 or a.shape != p.shape[:2]):
            raise InputError(f"alpha must be uint8 {p.shape[:2]}, not {a.dtype} {a.shape}")

    @property
    def height(self) -> int:
        return self.pixels.shape[0]

    @property
    def width(self) -> int:
        return self.pixels.shape[1]

    @property
    def gray(self) -> bool:
        return self.pixels.ndim == 2
