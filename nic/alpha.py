"""Transparency: an alpha channel <-> bytes, and what hidden pixels are replaced by."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from nic.errors import FormatError, LimitExceeded

OPAQUE = 255

SIGNATURE = 0x2F
"""First byte of a lossless WebP bitstream (RFC 9649, section 3.4)."""

RIFF_SIZE = 20
"""Bytes of a WebP file before its bitstream."""

WEBP_OPTIONS = {"lossless": True, "quality": 100, "method": 5}
"""Pillow's options: about a second for a hard megapixel, a sixth of the next method's time."""


def encode(alpha: np.ndarray) -> bytes:
    """uint8 (H, W), at most 16384 a side -> a lossless WebP bitstream of three equal channels."""
    file = io.BytesIO()
    Image.fromarray(alpha).save(file, "WEBP", **WEBP_OPTIONS)
    size = int.from_bytes(file.getvalue()[RIFF_SIZE - 4 : RIFF_SIZE], "little")
    return file.getvalue()[RIFF_SIZE : RIFF_SIZE + size]


def decode(data: bytes, height: int, width: int) -> np.ndarray:
    """Inverse of `encode`; FormatError unless `data` is just such an image of that size,
    LimitExceeded where it is larger than the application lets Pillow read."""
    sizes = int.from_bytes(data[1:5], "little")
    found = (sizes >> 14 & 0x3FFF) + 1, (sizes & 0x3FFF) + 1
    if len(data) < 5 or data[0] != SIGNATURE or found != (height, width):
        raise FormatError(f"the alpha channel is no lossless WebP of {width}x{height} pixels")
    try:
        with Image.open(io.BytesIO(_webp_file(data)), formats=["WEBP"]) as image:
            return np.array(image.convert("RGB").getchannel("G"))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise LimitExceeded(f"the alpha channel: {error}") from error
    except (OSError, ValueError) as error:
        raise FormatError("the alpha channel is damaged") from error


def _webp_file(bitstream: bytes) -> bytes:
    size, padding = len(bitstream), b"\0" * (len(bitstream) % 2)
    chunk = b"VP8L" + size.to_bytes(4, "little") + bitstream + padding
    return b"RIFF" + (4 + len(chunk)).to_bytes(4, "little") + b"WEBP" + chunk


def coarsen(alpha: np.ndarray, quality: float) -> np.ndarray:
    """Alpha on fewer levels, 0 and 255 always among them.

    quality: 0 (two levels) to 100 (all 256), the number of levels rising by a constant factor.
    """
    steps = round(2 ** (1 + 7 * quality / 100)) - 1
    table = np.rint(np.rint(np.arange(256) * steps / 255) * 255 / steps).astype(np.uint8)
    return table[alpha]


def fill(pixels: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Pixels, uint8 (H, W[, 3]), with those not `known`, bool (H, W), diffused from the others.

    What nobody sees should cost few bits, and the edge towards what is seen none. An unknown pixel
    is interpolated from the image at half the size, whose pixels are means of the known ones.
    """
    if known.all():
        return pixels
    if known.size == 1:
        return np.full_like(pixels, 128)
    filled = _doubled(fill(*_halved(pixels, known)))[: len(pixels), : pixels.shape[1]]
    np.copyto(filled, pixels, where=known.reshape(known.shape + (1,) * (pixels.ndim - 2)))
    return filled


def _halved(pixels: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means over the known ones of 2x2 pixels, and where there was one."""
    h, w = -(-known.shape[0] // 2), -(-known.shape[1] // 2)
    sums = np.zeros((h, w, *pixels.shape[2:]), np.uint16)
    counts = np.zeros((h, w) + (1,) * (pixels.ndim - 2), np.uint16)
    for dy in range(2):
        for dx in range(2):
            part = known[dy::2, dx::2]
            part = part.reshape(part.shape + counts.shape[2:])
            at = slice(part.shape[0]), slice(part.shape[1])
            sums[at] += pixels[dy::2, dx::2] * part
            counts[at] += part
    return (sums // np.maximum(counts, 1)).astype(np.uint8), counts.reshape(h, w) > 0


def _doubled(pixels: np.ndarray) -> np.ndarray:
    """Twice the size, by bilinear interpolation: the nearest pixel counts 3, the next one 1."""
    for axis in range(2):
        x = np.moveaxis(pixels, axis, 0)
        nearest = 3 * x.astype(np.uint16) + 2
        doubled = np.empty((2 * len(x), *x.shape[1:]), np.uint8)
        doubled[0::2] = (nearest + np.concatenate([x[:1], x[:-1]])) >> 2
        doubled[1::2] = (nearest + np.concatenate([x[1:], x[-1:]])) >> 2
        pixels = np.moveaxis(doubled, 0, axis)
    return pixels
