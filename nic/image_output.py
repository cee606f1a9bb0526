"""Pictures -> Pillow images and image files.

A picture that a format can hold is written; what of it the format cannot hold is applied to the
pixels or left out, with a warning that says so.
"""

from __future__ import annotations

import io
import os
import warnings
from pathlib import Path
from typing import Any

from PIL import ExifTags, Image, PngImagePlugin

from nic.appearance import flattened, stripped
from nic.errors import InputError
from nic.picture import Picture

EXIF_PREFIX = b"Exif\0\0"
"""What JPEG puts before a block of EXIF."""

SAVE_OPTIONS = {
    "AVIF": {"quality": 95, "subsampling": "4:4:4"},
    **dict.fromkeys(("JPEG", "MPO", "PDF"), {"quality": 95, "subsampling": 0}),
    "WEBP": {"lossless": True, "exact": True},
}
"""For formats that by Pillow's default would visibly lose what was just decoded."""

ALPHA_FORMATS = set("AVIF DDS ICNS ICO IM JPEG2000 PNG QOI SGI TGA TIFF WEBP".split())

METADATA_FORMATS = {"AVIF", "JPEG", "PNG", "TIFF", "WEBP"}


NO_PHOTOGRAPHS = {"BLP", "BUFR", "GRIB", "HDF5", "MSP", "PALM", "WMF", "XBM"}
"""Formats of which Pillow writes only palettes, bits, or nothing by itself."""


def to_pil(picture: Picture) -> Image.Image:
    """A Pillow image of mode L, LA, RGB or RGBA; metadata in `info`, as Pillow's own readers do."""
    image = Image.fromarray(picture.pixels)
    if picture.alpha is not None:
        image.putalpha(Image.fromarray(picture.alpha))
    image.info |= _metadata_options(picture)
    return image


def format_for(name: str | Path) -> str:
    """Pillow's name of the format that a file name, an extension or a format's name stands for.

    Raises InputError where Pillow cannot write photographs in it.
    """
    extension = os.path.splitext(os.path.basename(name))[1]
    kind = (extension or str(name)).lstrip(".").lower()
    known = Image.registered_extensions().get(f".{kind}", kind.upper())
    if known in Image.SAVE.keys() - NO_PHOTOGRAPHS - {"NIC"}:  # which nic.pillow, if imported, adds
        return known
    if extension:
        raise InputError(f"{name}: Pillow writes no photographs of type '{extension.lower()}'")
    raise InputError(f"{name}: no extension, nor a format in which Pillow writes photographs")


def to_bytes(picture: Picture, format: str) -> bytes:
    """An image file; `format` as `format_for` returns it. Errors: InputError.

    What the format cannot hold is applied to the pixels, with a UserWarning: transparency is placed
    on white, orientation and colours are made those of the picture as seen. A picture whose size or
    colours it cannot hold is refused.
    """
    _check_held(picture, format)
    if picture.alpha is not None and format not in ALPHA_FORMATS:
        warnings.warn(f"{format} holds no transparency: placed on white", stacklevel=2)
        picture = flattened(picture)
    held = _metadata_options(picture)
    if held and format not in METADATA_FORMATS:
        names = ", ".join(held)
        warnings.warn(f"{format} holds no metadata, dropped: {names}", stacklevel=2)
        picture, held = stripped(picture)[0], {}
    image = to_pil(picture)
    if format == "GIF" and image.getcolors(256) is None:
        warnings.warn("GIF holds 256 colours: the others are approximated", stacklevel=2)
    file = io.BytesIO()
    try:
        image.save(file, format, **_options(image, format), **_fitting(held, format))
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"Pillow cannot write this image as {format}: {error}") from error
    return file.getvalue()


def _check_held(picture: Picture, format: str) -> None:
    """Refuse what Pillow would write at another size or in gray."""
    size = f"{picture.width}x{picture.height}"
    if format == "ICO" and max(picture.width, picture.height) > 256:
        raise InputError(f"ICO holds pictures of at most 256x256 pixels, not {size}")
    if format == "ICNS" and size != "1024x1024":
        raise InputError(f"ICNS holds pictures of 1024x1024 pixels, not {size}")
    if format == "SPIDER" and not picture.gray:
        raise InputError("SPIDER holds no colours")


def _options(image: Image.Image, format: str) -> dict[str, Any]:
    """How a format's writer in Pillow keeps the picture as it is."""
    options = dict(SAVE_OPTIONS.get(format, {}))
    if format == "ICO":
        options["sizes"] = [image.size]
    return options


def _metadata_options(picture: Picture) -> dict[str, bytes]:
    """Metadata there is, by Pillow's names."""
    named = {"icc_profile": picture.icc, "exif": picture.exif, "xmp": picture.xmp}
    return {key: value for key, value in named.items() if value}


def _fitting(metadata: dict[str, bytes], format: str) -> dict[str, Any]:
    """Metadata as the options of a format's writer in Pillow, which differ."""
    options: dict[str, Any] = dict(metadata)
    exif = options.get("exif")
    if format == "JPEG" and exif and not exif.startswith(EXIF_PREFIX):
        options["exif"] = EXIF_PREFIX + exif
    if format == "PNG" and "xmp" in options:
        options["pnginfo"] = PngImagePlugin.PngInfo()
        options["pnginfo"].add_itxt("XML:com.adobe.xmp", options.pop("xmp"))
    if format in ("AVIF", "TIFF") and exif:
        options["exif"] = _parsed_exif(exif)
    if format == "TIFF" and "xmp" in options:
        tags = options.setdefault("exif", Image.Exif())
        tags[ExifTags.Base.XMLPacket] = options.pop("xmp")
    return options


def _parsed_exif(data: bytes) -> Image.Exif:
    """For writers that take EXIF apart; nothing, with a warning, where it is broken."""
    exif = Image.Exif()
    try:
        exif.load(data)
        exif.tobytes()  # values are parsed, and refused, no sooner than that
    except Exception:  # whatever a broken block makes the parser raise
        warnings.warn("unreadable EXIF dropped", stacklevel=2)
        return Image.Exif()
    return exif
