"""Images in and out through Pillow: any mode to 8-bit sRGB or gray, saying what is lost.

What a .nic file cannot hold is never dropped silently: reading returns notes, one line each.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import ExifTags, Image, ImageCms

from nic import container
from nic.errors import InputError, LimitExceeded, NicError

PIXEL_MODES = {
    **dict.fromkeys(("1", "L"), "L"),
    **dict.fromkeys(("LA", "La"), "LA"),
    **dict.fromkeys(("P", "RGB", "RGBX", "YCbCr", "HSV", "LAB"), "RGB"),
    **dict.fromkeys(("PA", "RGBA", "RGBa"), "RGBA"),
    "CMYK": "CMYK",
}
"""Pillow's modes of up to 8 bits -> the one of L, LA, RGB, RGBA and CMYK that holds them."""

AUXILIARY_FRAMES = {"MPO", "PSD"}
"""Formats whose first frame is the picture; the others are previews, depth maps or layers."""

TIFF_METADATA = {
    ExifTags.Base.ImageDescription,
    ExifTags.Base.Make,
    ExifTags.Base.Model,
    ExifTags.Base.DateTime,
    ExifTags.Base.Artist,
    ExifTags.Base.Copyright,
    ExifTags.IFD.Exif,
    ExifTags.IFD.GPSInfo,
}
"""Tags of a TIFF that describe the picture; its other ones describe its bytes."""

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

SAVE_OPTIONS = {
    "AVIF": {"quality": 95, "subsampling": "4:4:4"},
    "JPEG": {"quality": 95, "subsampling": 0},
    "WEBP": {"lossless": True},
}
"""For formats that by Pillow's default would visibly lose what was just decoded."""


def find(folder: str | Path) -> list[Path]:
    """Files directly in a folder whose extension is of an image, by name; InputError if none."""
    if not Path(folder).is_dir():
        raise InputError(f"{folder}: no such folder")
    known = {e for e, kind in Image.registered_extensions().items() if kind in Image.OPEN}
    paths = sorted(Path(folder).iterdir())
    found = [path for path in paths if path.suffix.lower() in known and path.is_file()]
    if not found:
        raise InputError(f"{folder}: no images in it")
    return found


def load(source: str | Path | BinaryIO) -> tuple[np.ndarray, list[str]]:
    """Read an image from a path or a binary file.

    Returns uint8 (H, W, 3) sRGB or (H, W) gray, upright, and notes on what was lost or converted.
    Errors: InputError where it is no readable still image, LimitExceeded where it is too large.
    """
    if not isinstance(source, (str, Path)):
        return _load(source, getattr(source, "name", "image"))
    try:
        file = open(source, "rb")
    except OSError as error:
        raise InputError(f"{source}: {error.strerror or error}") from error
    except ValueError as error:  # a name with a null character
        raise InputError(f"{source}: {error}") from error
    with file:
        return _load(file, source)


def _load(file: BinaryIO, name: str | Path) -> tuple[np.ndarray, list[str]]:
    try:
        with _reading():
            seekable = file if file.seekable() else io.BytesIO(file.read())
            with warnings.catch_warnings():
                # nic has a limit of its own, below the one at which Pillow refuses.
                warnings.simplefilter("ignore", Image.DecompressionBombWarning)
                image = Image.open(seekable)
        with image:
            return from_pil(image)
    except NicError as error:
        raise type(error)(f"{name}: {error}") from error


def from_pil(image: Image.Image) -> tuple[np.ndarray, list[str]]:
    """As `load`, from a Pillow image."""
    if 0 in image.size:
        raise InputError("the image has no pixels")
    container.check_size(*image.size)
    notes: list[str] = []
    with _reading():
        _check_frames(image, notes)
        # Where Pillow itself reduces 16-bit colour to 8 bits, only the raw mode tells.
        if image.mode in PIXEL_MODES and ";16" in str(getattr(image, "tile", "")):
            notes.append("16-bit samples reduced to 8 bits")
        image.load()
    # Lab is absolute: a profile beside it is not of its samples.
    profile = image.info.get("icc_profile") if image.mode != "LAB" else None
    image = _upright(image, notes)
    image = (_simplify if image.mode in PIXEL_MODES else _reduce_depth)(image, notes)
    image = _flatten(image, notes)
    image = _to_srgb(image, profile, notes)
    return np.array(image), notes


@contextmanager
def _reading() -> Iterator[None]:
    """Turns whatever a decoder throws at a broken file into one typed error."""
    try:
        yield
    except (NicError, MemoryError):
        raise
    except Image.UnidentifiedImageError as error:
        raise InputError("not an image that Pillow can read") from error
    except Image.DecompressionBombError as error:
        raise LimitExceeded("more pixels than a .nic file can hold") from error
    except Exception as error:
        raise InputError(f"unreadable image: {error}") from error


def _check_frames(image: Image.Image, notes: list[str]) -> None:
    frames = getattr(image, "n_frames", 1)
    if frames == 1:
        return
    if image.format not in AUXILIARY_FRAMES:
        raise InputError(f"{frames} frames or pages, but a .nic file holds one picture")
    notes.append(f"only the first of {frames} pictures is kept")


def _upright(image: Image.Image, notes: list[str]) -> Image.Image:
    """Applies the orientation that EXIF asks for, and notes the metadata left behind."""
    try:
        exif = dict(image.getexif())
    except Exception:  # whatever a broken block makes the parser raise: the pixels are sound
        exif = {}
        notes.append("unreadable EXIF dropped")
    orientation = exif.pop(ExifTags.Base.Orientation, 1)
    found = {
        "EXIF": exif.keys() & TIFF_METADATA if image.format == "TIFF" else exif,
        "XMP": image.info.keys() & {"xmp", "XML:com.adobe.xmp"},
        "IPTC": image.info.keys() & {"photoshop"},
        "comments": image.info.keys() & {"comment"}
        or getattr(image, "text", {}).keys() - {"XML:com.adobe.xmp"},
    }
    if dropped := [kind for kind, items in found.items() if items]:
        notes.append(f"metadata dropped: {', '.join(dropped)}")
    return image.transpose(ORIENTATIONS[orientation]) if orientation in ORIENTATIONS else image


def _simplify(image: Image.Image, notes: list[str]) -> Image.Image:
    """Any mode of up to 8 bits -> L, LA, RGB, RGBA or CMYK."""
    if image.mode == "LAB":
        notes.append("colours converted from Lab to sRGB")
    mode = PIXEL_MODES[image.mode]
    if image.has_transparency_data and mode in ("L", "RGB"):
        mode += "A"
    return image if image.mode == mode else image.convert(mode)


def _reduce_depth(image: Image.Image, notes: list[str]) -> Image.Image:
    """Gray of 16 bits, 32 bits or floats -> L, or LA where one value stands for transparent.

    Integers are taken as 0..65535 and floats as 0..1 or 0..255; samples beyond that are stretched
    from their least to their greatest.
    """
    values = np.asarray(image).astype(np.float64)
    if not np.isfinite(values).all():
        raise InputError("samples that are infinite or no numbers")
    low, high = values.min(), values.max()
    for scale in (1, 255) if image.mode == "F" else (65535,):
        if 0 <= low and high <= scale:
            low, high = 0, scale
            break
    samples = np.floor((values - low) * 255 / max(high - low, 1e-300) + 0.5).astype(np.uint8)
    kind = {"F": "float", "I": "integer"}.get(image.mode, "16-bit")
    notes.append(f"{kind} samples, {low:g} to {high:g}, reduced to 8 bits")
    gray = Image.fromarray(samples)
    if "transparency" not in image.info:
        return gray
    opaque = values != image.info["transparency"]
    return Image.merge("LA", (gray, Image.fromarray(np.where(opaque, 255, 0).astype(np.uint8))))


def _flatten(image: Image.Image, notes: list[str]) -> Image.Image:
    """LA -> L and RGBA -> RGB."""
    if image.mode not in ("LA", "RGBA"):
        return image
    alpha = image.getchannel("A")
    image = image.convert(image.mode.removesuffix("A"))
    if alpha.getextrema() == (255, 255):
        return image
    notes.append("transparency dropped: placed on white")
    white = Image.new(image.mode, image.size, "white")
    return Image.composite(image, white, alpha)


def _to_srgb(image: Image.Image, profile: bytes | None, notes: list[str]) -> Image.Image:
    """L, RGB or CMYK in the colour space of an ICC profile -> L or RGB in sRGB."""
    if profile:
        try:
            return _convert_colours(image, profile, notes)
        except (ImageCms.PyCMSError, OSError):
            notes.append("unusable ICC profile dropped")
    if image.mode != "CMYK":
        return image
    notes.append("CMYK converted to RGB without a colour profile")
    return image.convert("RGB")


def _convert_colours(image: Image.Image, profile: bytes, notes: list[str]) -> Image.Image:
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    srgb = ImageCms.createProfile("sRGB")
    transform = ImageCms.buildTransform(source, srgb, image.mode, "RGB")
    if image.mode != "CMYK" and _keeps_colours(transform, image.mode):
        return image
    name = " ".join(ImageCms.getProfileDescription(source).split())
    notes.append(f"colours converted from {name or 'an unnamed profile'} to sRGB")
    converted = ImageCms.applyTransform(image, transform)
    return converted.getchannel("G") if image.mode == "L" else converted


def _keeps_colours(transform: ImageCms.ImageCmsTransform, mode: str) -> bool:
    """Whether a profile is sRGB, whatever it calls itself: a grid of colours hardly changes."""
    levels = np.arange(0, 256, 17, dtype=np.uint8)
    grid = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(64, 64, 3)
    probe = Image.fromarray(grid if mode == "RGB" else grid[:, :, 0])
    after = np.asarray(ImageCms.applyTransform(probe, transform)).astype(int)
    return np.abs(after - np.asarray(probe.convert("RGB"))).max() <= 2


def format_for(name: str | Path) -> str:
    """Pillow's name of the format that a file name, an extension or a format's name stands for.

    Raises InputError where Pillow cannot write it.
    """
    extension = f".{str(name).rpartition('.')[2]}".lower()
    known = Image.registered_extensions().get(extension, extension[1:].upper())
    if known not in Image.SAVE:
        raise InputError(f"{name}: Pillow writes no images of type '{extension}'")
    return known


def to_bytes(pixels: np.ndarray, format: str) -> bytes:
    """An image file of uint8 (H, W, 3) or (H, W) pixels; `format` as `format_for` returns it."""
    file = io.BytesIO()
    try:
        Image.fromarray(pixels).save(file, format, **SAVE_OPTIONS.get(format, {}))
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"Pillow cannot write this image as {format}: {error}") from error
    return file.getvalue()
