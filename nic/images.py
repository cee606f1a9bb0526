"""Images in through Pillow: any mode to 8-bit RGB or gray, with alpha and metadata.

What a .nic file or an output format cannot hold is never dropped silently: reading returns notes,
one line each, and writing, which `image_output.py` does, warns.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import ExifTags, Image

from nic import container, image_notes, tiff_tags, transparent_colour
from nic.appearance import flattened, stripped, to_srgb
from nic.errors import InputError, LimitExceeded, NicError
from nic.image_output import EXIF_PREFIX, METADATA_FORMATS, format_for, to_bytes, to_pil
from nic.picture import Picture

__all__ = [
    "EXIF_PREFIX",
    "METADATA_FORMATS",
    "extensions",
    "find",
    "format_for",
    "from_pil",
    "load",
    "load_pixels",
    "to_bytes",
    "to_pil",
]

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

NEVER_DECODED = {"BUFR", "GRIB", "HDF5", "MPEG", "WMF"}
"""What Pillow recognises, but by itself does not read."""


def extensions() -> set[str]:
    """Those of image files, lower case, each with its dot; .nic is none of them."""
    readable = Image.registered_extensions().items()  # loads the plugins, which fill OPEN
    return {e for e, kind in readable if kind in Image.OPEN.keys() - NEVER_DECODED} - {".nic"}


def find(folder: str | Path) -> list[Path]:
    """Files directly in a folder whose extension is of an image, by name; InputError if none."""
    if not Path(folder).is_dir():
        raise InputError(f"{folder}: no such folder")
    known, paths = extensions(), sorted(Path(folder).iterdir())
    found = [path for path in paths if path.suffix.lower() in known and path.is_file()]
    if not found:
        raise InputError(f"{folder}: no images in it")
    return found


def load(
    source: str | Path | BinaryIO, *, strip: bool = False, frame: int | None = None
) -> tuple[Picture, list[str]]:
    """Read an image from a path or a binary file; also returns notes on what was lost.

    strip: without metadata, but upright and in sRGB; frame: which of several to take, from 0.
    Errors: InputError where it is no readable still image, LimitExceeded where it is too large.
    """
    if not isinstance(source, (str, Path)):
        return _load(source, getattr(source, "name", "image"), strip, frame)
    try:
        file = open(source, "rb")
    except OSError as error:
        raise InputError(f"{source}: {error.strerror or error}") from error
    except ValueError as error:  # a name with a null character
        raise InputError(f"{source}: {error}") from error
    with file:
        return _load(file, source, strip, frame)


def load_pixels(source: str | Path | BinaryIO) -> np.ndarray:
    """Pixels alone, as a viewer shows them on white: uint8 (H, W, 3) sRGB or (H, W) gray."""
    return flattened(load(source, strip=True)[0]).pixels


def _load(
    file: BinaryIO, name: str | Path, strip: bool, frame: int | None
) -> tuple[Picture, list[str]]:
    try:
        with _reading():
            seekable = file if file.seekable() else io.BytesIO(file.read())
            with warnings.catch_warnings():
                # nic has a limit of its own, below the one at which Pillow refuses.
                warnings.simplefilter("ignore", Image.DecompressionBombWarning)
                image = _open(seekable)
        with image:
            return from_pil(image, strip=strip, frame=frame)
    except NicError as error:
        raise type(error)(f"{name}: {error}") from error


def _open(file: BinaryIO) -> Image.Image:
    """`Image.open`, but of a PNG every checksum is compared."""
    start = file.tell()
    image = Image.open(file)
    if image.format != "PNG" or not image.tile:
        return image
    image.verify()  # after which it cannot be loaded any more
    file.seek(start)
    return Image.open(file)


def from_pil(
    image: Image.Image, *, strip: bool = False, frame: int | None = None
) -> tuple[Picture, list[str]]:
    """As `load`, from a Pillow image."""
    notes: list[str] = []
    with _reading():
        _choose_frame(image, frame, notes)
        if 0 in image.size:
            raise InputError("the image has no pixels")
        container.check_size(*image.size)
        if image.mode in PIXEL_MODES and (bits := image_notes.depth(image)) > 8:
            notes.append(f"{bits}-bit samples reduced to 8 bits")
        notes += image_notes.beside_pixels(image)
        opacity = transparent_colour.load(image, notes)
        metadata = _metadata(image, notes)
        # Lab is absolute: a profile beside it is not of its samples.
        icc = image.info.get("icc_profile") if image.mode != "LAB" else None
        if opacity is not None:
            image = Image.merge(f"{image.mode}A", [*image.split(), Image.fromarray(opacity)])
        image = (_simplify if image.mode in PIXEL_MODES else _reduce_depth)(image, notes)
        if image.mode == "CMYK":
            image, icc = _from_cmyk(image, icc, notes), None
    samples = np.array(image)
    alpha = None
    if image.mode in ("LA", "RGBA"):
        samples, alpha = samples[..., :-1], samples[..., -1]
        samples = samples[..., 0] if image.mode == "LA" else samples
        samples, alpha = np.ascontiguousarray(samples), np.ascontiguousarray(alpha)
    picture = Picture(samples, alpha, icc, **metadata)
    if strip:
        picture, converted = stripped(picture)
        notes += converted
    return picture, notes


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
        raise InputError(f"unreadable image: {str(error) or type(error).__name__}") from error


def _choose_frame(image: Image.Image, frame: int | None, notes: list[str]) -> None:
    frames = getattr(image, "n_frames", 1)
    if frame is not None:
        if not 0 <= frame < frames:
            raise InputError(f"no frame {frame}: there are {frames}, counted from 0")
        image.seek(frame)
    elif frames > 1:
        if image.format not in AUXILIARY_FRAMES:
            raise InputError(f"{frames} frames or pages, but a .nic file holds one (--frame N)")
        notes.append(f"only the first of {frames} pictures is kept")


def _metadata(image: Image.Image, notes: list[str]) -> dict[str, bytes | None]:
    """EXIF and XMP of a loaded image, and a note of what else there is."""
    exif, xmp = image.info.get("exif"), image.info.get("xmp")
    if exif is None:
        exif = _rebuilt_exif(image, notes)
    if isinstance(xmp, str):
        xmp = xmp.encode()
    notes += image_notes.dropped_metadata(image)
    return {"exif": exif or None, "xmp": xmp or None}


def _rebuilt_exif(image: Image.Image, notes: list[str]) -> bytes | None:
    """EXIF where it stands in no block of its own: among a TIFF's tags, as text in an old PNG."""
    if image.format != "TIFF" and image_notes.RAW_EXIF not in image.info:
        return None
    try:
        found, kept = image.getexif(), Image.Exif()
        for tag in found.keys() & tiff_tags.DESCRIPTIVE if image.format == "TIFF" else found.keys():
            kept[tag] = found.get_ifd(tag) if tag in {*ExifTags.IFD} else found[tag]
        return kept.tobytes() if kept else None
    except Exception:  # whatever a broken block makes the parser raise: the pixels are sound
        notes.append("unreadable EXIF dropped")
        return None


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
    values = np.asarray(image)
    if not np.isfinite(values).all():
        raise InputError("samples that are infinite or no numbers")
    low, high = float(values.min()), float(values.max())
    for scale in (1, 255) if image.mode == "F" else (65535,):
        if 0 <= low and high <= scale:
            low, high = 0, scale
            break
    samples = np.empty(values.shape, np.uint8)
    for row, target in zip(values, samples):  # one at a time: in doubles all would take much memory
        target[:] = np.floor((row.astype(np.float64) - low) * 255 / max(high - low, 1e-300) + 0.5)
    kind = {"F": "float", "I": "integer"}.get(image.mode, "16-bit")
    notes.append(f"{kind} samples, {low:g} to {high:g}, reduced to 8 bits")
    gray = Image.fromarray(samples)
    if "transparency" not in image.info:
        return gray
    opaque = values != image.info["transparency"]
    return Image.merge("LA", (gray, Image.fromarray(np.where(opaque, 255, 0).astype(np.uint8))))


def _from_cmyk(image: Image.Image, profile: bytes | None, notes: list[str]) -> Image.Image:
    """CMYK -> RGB, in sRGB where there is a usable profile."""
    if profile:
        converted = to_srgb(image, profile, notes)
        if converted.mode == "RGB":
            return converted
        notes.pop()
    notes.append("CMYK converted to RGB without a colour profile")
    return image.convert("RGB")
