"""What an image file holds that a .nic file does not keep: notes, one line each."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from PIL import Image

from nic import tiff_tags

RAW_EXIF = "Raw profile type exif"
"""Name of the text in which PNGs carried EXIF before there was a chunk for it."""

EXTENDED_XMP = b"http://ns.adobe.com/xmp/extension/"

MARKER = re.compile(rb"\xff([^\x00\xd0-\xd7\xff])")
"""Of JPEG, but those that stand among the coded samples."""

AV1_CONFIGURATION = re.compile(rb"av1C\x81.(.)", re.DOTALL)
"""Of which the bits 64 and 32 say that samples have more than 8 bits, and 12."""

PADDING = b"\0\xff\r\n"
"""Bytes after a picture's end that mean nothing."""

SRGB_CICP = b"\0\0\0\4cICP\1\x0d\0\1"

SRGB_CHROMATICITIES = (0.3127, 0.329, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06)
"""x and y of white, red, green and blue."""


def beside_pixels(image: Image.Image) -> Iterator[str]:
    """Notes on a file's other pictures, colours and bytes; ask before the image is loaded."""
    icons = image.ico.entry if hasattr(image, "ico") else image.info.get("sizes", ())
    if image.format in ("ICO", "ICNS") and len(icons) > 1:
        yield f"only one of {len(icons)} sizes is kept"
    if space := _colour_space(image):
        yield f"colour space dropped: {space}"
    data = _file(image) if image.format in ENDS else b""
    if data and data[ENDS[image.format](image, data) :].strip(PADDING):
        yield "data after the end of the picture dropped"


def depth(image: Image.Image) -> int:
    """Bits of the samples that Pillow will reduce to 8 as it loads an image; else 8."""
    if image.format in DEPTHS:
        return DEPTHS[image.format](_file(image))
    for codec, _, _, args in getattr(image, "tile", ()):
        raw, *others = args if isinstance(args, tuple) else (args,)
        if codec == "SGI16" or str(raw).endswith((";16B", ";16L", ";16N")):
            return 16
        if codec in ("ppm", "ppm_plain") and others and others[0] > 255:  # the greatest value
            return 16
    return 8


def dropped_metadata(image: Image.Image) -> list[str]:
    """Notes on kinds of metadata that a loaded image has and a .nic file does not."""
    segments = getattr(image, "applist", [])
    tags = set(getattr(image, "tag_v2", ()))
    others = tags - tiff_tags.DESCRIPTIVE - tiff_tags.RENDERING - tiff_tags.LAYOUT
    others -= tiff_tags.OWN_FIELDS | tiff_tags.IPTC
    found = {
        "IPTC": "photoshop" in image.info or tags & tiff_tags.IPTC,
        "comments": _has_comments(image),
        "extended XMP": any(data.startswith(EXTENDED_XMP) for _, data in segments),
        "APP11": any(name == "APP11" for name, _ in segments),
        f"TIFF tags {' '.join(map(str, sorted(others)))}": others,
    }
    kinds = [kind for kind, items in found.items() if items]
    return [f"metadata dropped: {', '.join(kinds)}"] if kinds else []


def _has_comments(image: Image.Image) -> bool:
    comment = image.info.get("comment", b"")
    if image.format == "JPEG2000" and comment.startswith(b"Created by "):
        return False  # the encoder's own
    return bool(comment or getattr(image, "text", {}).keys() - {"XML:com.adobe.xmp", RAW_EXIF})


def _colour_space(image: Image.Image) -> str | None:
    """What a PNG or TIFF says of its colours other than that they are sRGB or of an ICC profile."""
    if image.format == "TIFF" and "icc_profile" not in image.info:
        return _primaries([*_numbers(image, 318, 2), *_numbers(image, 319, 6)])
    if image.format != "PNG":
        return None
    head = _file(image, image.tile[0].offset) if image.tile else b""
    at = head.find(SRGB_CICP[:8])
    if at >= 0:
        return "cICP" if head[at : at + len(SRGB_CICP)] != SRGB_CICP else None
    gamma = image.info.get("gamma", 1 / 2.2)
    if image.info.keys() & {"srgb", "icc_profile"}:
        return None
    if abs(gamma - 1 / 2.2) >= 0.01:
        return f"gAMA {gamma:g}"
    return _primaries(image.info.get("chromaticity", ()))


def _primaries(found: Sequence[float]) -> str | None:
    same = all(abs(a - b) < 0.01 for a, b in zip(found, SRGB_CHROMATICITIES))
    return None if same else "white point and primaries"


def _numbers(image: Image.Image, tag: int, count: int) -> list[float]:
    """Of a TIFF's tag; sRGB's where it is missing or no such numbers."""
    usual = SRGB_CHROMATICITIES[:2] if count == 2 else SRGB_CHROMATICITIES[2:]
    value = image.tag_v2.get(tag, ())
    return [float(v) for v in value] if len(value) == count else [*usual]


def _file(image: Image.Image, size: int = -1) -> bytes:
    """The bytes of an image's file, from its beginning; none where it is loaded already."""
    if not (file := getattr(image, "fp", None)):
        return b""
    position = file.tell()
    file.seek(0)
    data = file.read(size)
    file.seek(position)
    return data


def _end_of_jpeg(image: Image.Image, data: bytes) -> int:
    at = 0
    while found := MARKER.search(data, at):
        at = found.end()
        if found[0] == b"\xff\xd9":
            return at
        if found[0] not in (b"\xff\xd8", b"\xff\x01"):  # which alone have no length
            at += int.from_bytes(data[at : at + 2], "big")
    return len(data)


def _end_of_ppm(image: Image.Image, data: bytes) -> int:
    """Of the binary kinds, of which several may stand in a file; the others are text."""
    codec, _, start, args = image.tile[0]
    if codec == "ppm_plain":
        return len(data)
    if image.mode == "1":
        return start + (image.width + 7) // 8 * image.height
    deep = codec == "ppm" and args[-1] > 255
    sample = {"F": 4, "I": 2}.get(image.mode, 2 if deep else 1)
    return start + image.width * image.height * len(image.getbands()) * sample


def _end_of_png(image: Image.Image, data: bytes) -> int:
    at, kind = 8, b""
    while kind != b"IEND" and at < len(data):
        size, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        at += size + 12
    return at


def _end_of_webp(image: Image.Image, data: bytes) -> int:
    return 8 + int.from_bytes(data[4:8], "little")


ENDS = {"JPEG": _end_of_jpeg, "PNG": _end_of_png, "PPM": _end_of_ppm, "WEBP": _end_of_webp}
"""Formats -> where their picture ends in the file."""


def _depth_of_avif(data: bytes) -> int:
    """By the configurations of its pictures, alpha's among them."""
    flags = [found[1][0] >> 5 & 3 for found in AV1_CONFIGURATION.finditer(data)]
    return max((8, 8, 10, 12)[flag] for flag in [0, *flags])


def _depth_of_jpeg_2000(data: bytes) -> int:
    """By the precision of the components, at the beginning of the codestream."""
    at = data.find(b"\xff\x4f\xff\x51") + 40
    count = int.from_bytes(data[at : at + 2], "big")
    return max([8, *(1 + (bits & 127) for bits in data[at + 2 : at + 2 + 3 * count : 3])])


DEPTHS = {"AVIF": _depth_of_avif, "JPEG2000": _depth_of_jpeg_2000}
"""Formats -> the bits of a file's samples, or 8 if these are fewer."""
