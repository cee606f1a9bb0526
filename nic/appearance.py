"""What a picture looks like without what stands beside its pixels.

Orientation applied, colours in sRGB, transparency placed on white: for `--strip`, for formats that
do not hold all metadata or no transparency, and for whoever wants pixels alone.
"""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
from PIL import ExifTags, Image, ImageCms

from nic.picture import Picture

ORIENTATIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""Values of EXIF's Orientation -> what makes the picture upright."""


def stripped(picture: Picture) -> tuple[Picture, list[str]]:
    """The picture without metadata, upright and in sRGB, and notes on what was converted."""
    return without(picture, {"icc", "exif", "xmp"})


def without(picture: Picture, kinds: set[str]) -> tuple[Picture, list[str]]:
    """The picture without some of `icc`, `exif` and `xmp`: what they say of its look is applied.

    Returns notes on what was converted, too.
    """
    kept = replace(picture, **dict.fromkeys(kinds))
    if "exif" in kinds and _orientation(kept) not in (None, 1):
        kept = replace(kept, xmp=None)  # which would turn the picture once more
    image, notes = Image.fromarray(picture.pixels), []
    if picture.icc and not kept.icc:
        image = to_srgb(image, picture.icc, notes)
    parts = [image] if picture.alpha is None else [image, Image.fromarray(picture.alpha)]
    turned = _orientation(picture) != _orientation(kept)
    turn = ORIENTATIONS.get(_orientation(picture)) if turned else None
    upright = [np.array(part if turn is None else part.transpose(turn)) for part in parts]
    return Picture(*upright, icc=kept.icc, exif=kept.exif, xmp=kept.xmp), notes


def flattened(picture: Picture) -> Picture:
    """The picture placed on white where it is transparent."""
    if picture.alpha is None:
        return picture
    image = Image.fromarray(picture.pixels)
    white = Image.new(image.mode, image.size, "white")
    pixels = np.array(Image.composite(image, white, Image.fromarray(picture.alpha)))
    return Picture(pixels, None, picture.icc, picture.exif, picture.xmp)


def _orientation(picture: Picture) -> int | None:
    """EXIF's or, where it says nothing, XMP's."""
    image = Image.new("L", (1, 1))
    image.info = {"exif": picture.exif or b"", "xmp": picture.xmp or b""}
    try:
        return image.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # whatever a broken block makes the parser raise: it says nothing then
        return None


def to_srgb(image: Image.Image, profile: bytes, notes: list[str]) -> Image.Image:
    """L, RGB or CMYK in the colours of an ICC profile -> L or RGB in sRGB; CMYK stays as it is
    where the profile is unusable."""
    try:
        return _convert_colours(image, profile, notes)
    except (ImageCms.PyCMSError, OSError):
        notes.append("unusable ICC profile dropped")
        return image


def _convert_colours(image: Image.Image, profile: bytes, notes: list[str]) -> Image.Image:
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    srgb = ImageCms.createProfile("sRGB")
    transform = ImageCms.buildTransform(source, srgb, image.mode, "RGB")
    if image.mode != "CMYK" and _keeps_colours(transform, image.mode):
        return image
    name = " ".join(ImageCms.getProfileDescription(source).split())
    kind = "CMYK" if image.mode == "CMYK" else "colours"
    notes.append(f"{kind} converted from {name or 'an unnamed profile'} to sRGB")
    converted = ImageCms.applyTransform(image, transform)
    return converted.getchannel("G") if image.mode == "L" else converted


def _keeps_colours(transform: ImageCms.ImageCmsTransform, mode: str) -> bool:
    """Whether a profile is sRGB, whatever it calls itself: a grid of colours hardly changes."""
    levels = np.arange(0, 256, 17, dtype=np.uint8)
    grid = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(64, 64, 3)
    probe = Image.fromarray(grid if mode == "RGB" else grid[:, :, 0])
    after = np.asarray(ImageCms.applyTransform(probe, transform)).astype(int)
    return np.abs(after - np.asarray(probe.convert("RGB"))).max() <= 2
