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

from nic import tiff_tags
from nic.appearance import flattened, without
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

NO_GRAY = {"AVIF": {"LA"}, "QOI": {"L", "LA"}, "SGI": {"LA"}, "WEBP": {"L", "LA"}}
"""Formats -> modes that they hold as RGB or RGBA."""

NO_PHOTOGRAPHS = {"BLP", "BUFR", "GRIB", "HDF5", "MSP", "PALM", "WMF", "XBM"}
"""Formats of which Pillow writes only palettes, bits, or nothing by itself."""

LARGEST = {
    "JPEG": {"icc": 255 * 65519, "exif": 65533 - len(EXIF_PREFIX), "xmp": 65533 - 29},
    "PNG": {"icc": 2**20 - 1},
}
"""Bytes of metadata, by its kind: in JPEG those of one segment, or of 255; in PNG as many as Pillow
reads."""

OPTION_NAMES = {"icc": "icc_profile", "exif": "exif", "xmp": "xmp"}
"""Fields of a `Picture` -> Pillow's names of them."""


def to_pil(picture: Picture) -> Image.Image:
    """A Pillow image of mode L, LA, RGB or RGBA; metadata in `info`, as Pillow's own readers do."""
    image = Image.fromarray(picture.pixels)
    if picture.alpha is not None:
        image.putalpha(Image.fromarray(picture.alpha))
    image.info |= _metadata(picture)
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
    picture = _fitting(picture, format)
    image = to_pil(picture)
    if image.mode in NO_GRAY.get(format, ()):
        image = image.convert(image.mode.replace("L", "RGB"))
    if format == "GIF" and image.getcolors(256) is None:
        warnings.warn("GIF holds 256 colours: the others are approximated", stacklevel=2)
    file = io.BytesIO()
    try:
        image.save(file, format, **_options(image, format), **_metadata_options(picture, format))
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


def _fitting(picture: Picture, format: str) -> Picture:
    """The picture that a format can hold, with warnings of what it has lost."""
    if picture.alpha is not None and format not in ALPHA_FORMATS:
        warnings.warn(f"{format} holds no transparency: placed on white", stacklevel=3)
        picture = flattened(picture)
    fitting, _ = without(picture, _unheld(picture, format))
    if dropped := _metadata(picture).keys() - _metadata(fitting).keys():
        what = "cannot hold all" if format in METADATA_FORMATS else "holds no"
        names = ", ".join(name for name in OPTION_NAMES.values() if name in dropped)
        warnings.warn(f"{format} {what} metadata, dropped: {names}", stacklevel=3)
    return fitting


def _unheld(picture: Picture, format: str) -> set[str]:
    """Kinds of metadata, as fields of a `Picture`, that a format has no place for."""
    if format not in METADATA_FORMATS:
        return set(OPTION_NAMES)
    sizes = {kind: len(_bare(getattr(picture, kind))) for kind in OPTION_NAMES}
    unheld = {kind for kind, limit in LARGEST.get(format, {}).items() if sizes[kind] > limit}
    mode = "L" if picture.alpha is None else "LA"
    if picture.gray and mode in NO_GRAY.get(format, ()) and _is_of_gray(picture.icc):
        unheld.add("icc")
    return unheld


def _is_of_gray(profile: bytes | None) -> bool:
    return profile is not None and profile[16:20] == b"GRAY"


def _bare(data: bytes | None) -> bytes:
    """Metadata without what JPEG puts before it."""
    return (data or b"").removeprefix(EXIF_PREFIX)


def _options(image: Image.Image, format: str) -> dict[str, Any]:
    """How a format's writer in Pillow keeps the picture as it is."""
    options = dict(SAVE_OPTIONS.get(format, {}))
    if format == "AVIF" and image.mode == "L":
        options["subsampling"] = "4:0:0"
    if format == "ICO":
        options["sizes"] = [image.size]
    return options


def _metadata(picture: Picture) -> dict[str, bytes]:
    """Metadata there is, by Pillow's names."""
    named = {name: getattr(picture, kind) for kind, name in OPTION_NAMES.items()}
    return {name: value for name, value in named.items() if value}


def _metadata_options(picture: Picture, format: str) -> dict[str, Any]:
    """Metadata as the options of a format's writer in Pillow, which differ."""
    options: dict[str, Any] = _metadata(picture)
    exif = options.get("exif")
    if format == "JPEG" and exif:
        options["exif"] = EXIF_PREFIX + _bare(exif)
    if format == "PNG" and "xmp" in options:
        options["pnginfo"] = PngImagePlugin.PngInfo()
        options["pnginfo"].add_itxt("XML:com.adobe.xmp", options.pop("xmp"))
    if format in ("AVIF", "TIFF") and exif:
        options["exif"] = _parsed_exif(exif)
    if format == "TIFF":
        options["exif"] = _tiff_tags(options.get("exif", Image.Exif()), options.pop("xmp", None))
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


def _tiff_tags(exif: Image.Exif, xmp: bytes | None) -> Image.Exif:
    """EXIF without what it says of another file's bytes, which would stand for this file's."""
    for tag in exif.keys() & (tiff_tags.LAYOUT | tiff_tags.OTHER_PICTURES | tiff_tags.OWN_FIELDS):
        del exif[tag]
    if xmp:
        exif[ExifTags.Base.XMLPacket] = xmp
    return exif
