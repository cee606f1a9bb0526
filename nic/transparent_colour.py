"""The colour that a PNG calls transparent, where Pillow compares it with samples of another depth.

Pillow scales samples of 2 and 4 bits and cuts those of 16, but takes the colour as it stands.
"""

from __future__ import annotations

import numpy as np
from PIL import Image, PngImagePlugin

FACTORS = {"L;2": 85, "L;4": 17}
"""Raw modes -> what Pillow multiplies their samples by."""

DEEP, LOW_BYTES = "RGB;16B", "RGB;16L"
"""Raw mode of 16-bit RGB; read as if little-endian, it gives the bytes that Pillow cuts."""


def load(image: Image.Image, notes: list[str]) -> np.ndarray | None:
    """Load an image, and return its alpha channel where Pillow's own would be wrong."""
    key = image.info.get("transparency")
    raw = _raw_mode(image, key) if image.format == "PNG" and key is not None else None
    guessed = not getattr(image, "tile", None)
    low = _low_bytes(image) if raw == DEEP and _is_unread(image) else None
    image.load()
    if raw in FACTORS:
        transparent = np.asarray(image) == key * FACTORS[raw]
        if guessed and transparent.any():
            notes.append(f"transparent colour taken for one of samples of {raw[-1]} bits")
    elif raw == DEEP:
        transparent = _equal(image, np.array(key) >> 8)
        if low is not None:
            transparent &= _equal(low, np.array(key) & 255)
        elif transparent.any():
            notes.append("transparent colour compared by its upper 8 bits of 16")
    else:
        return None
    return np.where(transparent, 0, 255).astype(np.uint8)


def _raw_mode(image: Image.Image, key: int | tuple[int, ...] | bytes) -> str | None:
    """Of an image that is loaded already, a guess by its values: Pillow no longer knows."""
    if tile := getattr(image, "tile", None):
        return tile[0].args
    if image.mode == "RGB" and isinstance(key, tuple):
        return DEEP if max(key) > 255 else None
    if image.mode != "L" or not isinstance(key, int):
        return None
    levels = [level for level, count in enumerate(image.histogram()) if count]
    for raw, factor in FACTORS.items():
        if key * factor <= 255 and not any(level % factor for level in levels):
            return raw
    return None


def _is_unread(image: Image.Image) -> bool:
    """Whether its file still is at the first picture."""
    return bool(getattr(image, "tile", None)) and image.tell() == 0


def _low_bytes(image: Image.Image) -> Image.Image:
    position = image.fp.tell()
    image.fp.seek(0)  # where Pillow, too, begins
    low = PngImagePlugin.PngImageFile(image.fp)
    low.tile = [low.tile[0]._replace(args=LOW_BYTES)]
    low.load()
    image.fp.seek(position)
    return low


def _equal(image: Image.Image, colour: np.ndarray) -> np.ndarray:
    return (np.asarray(image) == colour).all(axis=2)
