"""Image files and metadata to read and write in tests."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageCms

from nic import images

RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16)


def stored(image: Image.Image, format: str, **options) -> io.BytesIO:
    """The image as a file in memory."""
    file = io.BytesIO()
    image.save(file, format, **options)
    file.seek(0)
    return file


def load(source) -> tuple[np.ndarray, list[str]]:
    """The pixels as a viewer without colour management shows them, and the notes."""
    picture, notes = images.load(source, strip=True)
    return picture.pixels, notes


def read(image: Image.Image) -> tuple[np.ndarray, list[str]]:
    picture, notes = images.from_pil(image, strip=True)
    return picture.pixels, notes


def profile(red_x: float = 0.64) -> bytes:
    """An RGB profile like sRGB's, its red primary moved: not sRGB unless `red_x` is 0.64."""
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    count = int.from_bytes(data[128:132], "big")
    for entry in range(132, 132 + 12 * count, 12):
        if data[entry : entry + 4] == b"rXYZ":
            at = int.from_bytes(data[entry + 4 : entry + 8], "big") + 8
            value = int.from_bytes(data[at : at + 4], "big")
            data[at : at + 4] = int(value * red_x / 0.64).to_bytes(4, "big")
    return bytes(data)


def block(orientation: int = 6) -> bytes:
    """EXIF as Pillow writes it."""
    exif = Image.Exif()
    exif[0x0110] = "camera"
    exif[0x0112] = orientation
    exif.get_ifd(0x8769)[0x829A] = 0.5
    return exif.tobytes()


METADATA = {
    "icc_profile": profile(0.55),
    "exif": block(),
    "xmp": b"<x:xmpmeta>\xc3\xa9</x:xmpmeta>",
}
