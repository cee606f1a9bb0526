"""What a file holds and a .nic file does not is said in one note each, and nothing else is."""

from __future__ import annotations

import io
import pickle
import struct
import warnings
from zlib import crc32

import numpy as np
import pytest
from image_files import METADATA, profile, stored
from PIL import ExifTags, Image

from nic import image_notes, images

TRAILER = "data after the end of the picture dropped"
PRIMARIES = "colour space dropped: white point and primaries"
PICTURE = Image.fromarray(np.arange(35 * 40, dtype=np.uint8).reshape(35, 40))


def notes(data: bytes) -> list[str]:
    """On a file, which are the same whether nic or Pillow opens it."""
    found = images.load(io.BytesIO(data))[1]
    with Image.open(io.BytesIO(data)) as image:
        assert images.from_pil(image)[1] == found
    return found


def file(format: str, image: Image.Image = PICTURE, **options) -> bytes:
    return stored(image, format, **options).getvalue()


def segment(kind: int, data: bytes) -> bytes:
    """Of JPEG."""
    return bytes([0xFF, kind]) + struct.pack(">H", len(data) + 2) + data


CAMERA = file("JPEG", icc_profile=profile(0.55), exif=METADATA["exif"], xmp=METADATA["xmp"],
              extra=segment(0xEE, b"Adobe\0\x64\0\0\0\0\0"))  # fmt: skip


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_blocks": 1}])
def test_ordinary_jpegs_have_no_notes(options):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (200, 99, 3), np.uint8))
    data = file("JPEG", noise, quality=100, **options)
    assert b"\xff\x00" in data and notes(data) == notes(CAMERA) == []
    for padding in (b"\0" * 5000, b"\xff\xff\0", b"\r\n"):
        assert notes(data + padding) == []
    assert notes(data + b"a film") == [TRAILER]


def test_pictures_and_films_after_a_jpeg():
    thumbnail = segment(0xE1, b"Exif\0\0" + file("JPEG"))
    for data in (CAMERA, CAMERA[:2] + thumbnail + CAMERA[2:]):
        assert notes(data + b"\0\0\0\x18ftypmp42" + bytes(50)) == [TRAILER]
        assert notes(data + data) == [TRAILER]


@pytest.mark.parametrize(
    "kind, data, note",
    [
        (0xE1, b"http://ns.adobe.com/xmp/extension/\0" + bytes(40), "extended XMP"),
        (0xEB, b"JP" + bytes(30), "APP11"),
        (0xFE, b"hello", "comments"),
    ],
)
def test_segments_of_jpeg(kind, data, note):
    assert notes(CAMERA[:2] + segment(kind, data) + CAMERA[2:]) == [f"metadata dropped: {note}"]


@pytest.mark.parametrize("mode", ["1", "L", "RGB", "I;16", "F"])
def test_images_after_a_ppm(mode):
    image = Image.fromarray(np.zeros((35, 41), np.uint16)) if mode == "I;16" else (
        PICTURE.convert(mode))  # fmt: skip
    data = file("PPM", image)
    assert TRAILER not in notes(data + b"\n") and TRAILER in notes(data + data)


@pytest.mark.parametrize("head", [b"P5 2 1 100\n", b"P5 1 1 1000\n", b"P6 1 1 4\n"])
def test_images_after_a_ppm_of_other_depths(head):
    samples = b"\1" * (3 if head[1:2] == b"6" else 2)
    assert TRAILER not in notes(head + samples) and TRAILER in notes(head + samples + head)


def test_plain_ppm_has_one_image():
    assert notes(b"P2 2 1 255 7 8\n") == []


@pytest.mark.parametrize("count", [1, 3])
def test_sizes_of_icons(count):
    sizes = [(16, 16), (24, 24), (32, 32)][:count]
    expected = [f"only one of {count} sizes is kept"] if count > 1 else []
    assert notes(file("ICO", Image.new("RGB", (64, 64)), sizes=sizes)) == expected


def test_depths_of_icons():
    icon = file("ICO", Image.new("RGB", (16, 16)), sizes=[(16, 16)])
    head, entry, body = icon[:6], icon[6:22], icon[22:]
    entry = entry[:12] + struct.pack("<I", 38)
    data = head[:4] + b"\2\0" + entry[:6] + b"\x08\0" + entry[8:] + entry + body
    assert notes(data) == ["only one of 2 sizes is kept"]
    with Image.open(io.BytesIO(icon)) as image:
        assert images.from_pil(pickle.loads(pickle.dumps(image)))[1] == []


def test_sizes_of_mac_icons():
    assert notes(file("ICNS")) == ["only one of 8 sizes is kept"]


@pytest.mark.parametrize(
    "tags, note",
    [
        ({33723: b"iptc"}, "IPTC"),
        ({34377: b"8BIM", 42113: "-1"}, "IPTC, TIFF tags 42113"),
        ({33550: (1.0, 1.0, 0.0), 330: 8}, "TIFF tags 330 33550"),
        ({}, None),
        ({282: 72.0, 283: 72.0, 296: 2, 318: (0.313, 0.329), 297: (0, 1), 700: b"<x/>"}, None),
    ],
)
def test_tags_of_tiff(tags, note):
    assert notes(file("TIFF", tiffinfo=tags)) == ([f"metadata dropped: {note}"] if note else [])


def test_what_describes_a_tiff_is_kept():
    texts = {269: "a.tif", 270: "here", 285: "page", 305: "editor", 316: "machine", 33432: "mine"}
    picture, lost = images.load(stored(PICTURE, "TIFF", tiffinfo=texts))
    exif = Image.Exif()
    exif.load(picture.exif)
    assert dict(exif) == texts and not lost


def png(kind: bytes, data: bytes, **options) -> bytes:
    """With another chunk after the header."""
    whole = file("PNG", **options)
    chunk = struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc32(kind + data))
    return whole[:33] + chunk + whole[33:]


@pytest.mark.parametrize(
    "kind, data, note",
    [
        (b"gAMA", struct.pack(">I", 100000), "gAMA 1"),
        (b"gAMA", struct.pack(">I", 45455), None),
        (b"sRGB", b"\0", None),
        (b"cICP", bytes([9, 16, 0, 1]), "cICP"),
        (b"cICP", bytes([1, 13, 0, 1]), None),  # sRGB
    ],
)
def test_colour_spaces_of_png(kind, data, note):
    assert notes(png(kind, data)) == ([f"colour space dropped: {note}"] if note else [])


SRGB = 0.3127, 0.329, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06
ADOBE = 0.3127, 0.329, 0.64, 0.33, 0.21, 0.71, 0.15, 0.06


@pytest.mark.parametrize("found, expected", [(SRGB, []), (ADOBE, [PRIMARIES])])
def test_primaries(found, expected):
    assert notes(png(b"cHRM", struct.pack(">8I", *(round(1e5 * x) for x in found)))) == expected
    assert notes(file("TIFF", tiffinfo={318: found[:2], 319: found[2:]})) == expected
    assert (
        notes(file("TIFF", tiffinfo={318: found[:2], 319: found[2:]}, icc_profile=profile(0.55)))
        == []
    )


@pytest.mark.parametrize("format", ["PNG", "WEBP"])
def test_data_after_a_png_or_webp(format):
    data = file(format, Image.new("RGB", (7, 5)))
    assert notes(data) == notes(data + b"\0\0\n") == []
    assert notes(data + b"PK\3\4 an archive") == [TRAILER]


def test_a_profile_outranks_gamma():
    data = png(b"gAMA", struct.pack(">I", 100000), icc_profile=profile(0.55))
    assert notes(data) == []


def test_the_encoders_own_comment_is_no_loss():
    data = file("JPEG2000")
    assert b"Created by OpenJPEG" in data and notes(data) == []
    assert notes(file("JPEG2000", comment="mine")) == ["metadata dropped: comments"]


def test_loaded_images_have_the_notes_that_can_be_known():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        image = Image.open(io.BytesIO(CAMERA[:2] + segment(0xEB, b"JP") + CAMERA[2:] + b"film"))
        image.load()
        assert images.from_pil(image)[1] == ["metadata dropped: APP11"]
        assert ExifTags.Base.Model in image.getexif()


def test_depths_of_avif():
    data = bytearray(file("AVIF", Image.new("RGB", (32, 32), "red")))
    flags, at = data.index(b"av1C") + 6, data.index(b"pixi") + 9
    assert notes(bytes(data)) == []
    # The same coded bits said to be of 10, in the sequence header too: another picture.
    data[flags] |= 0x40
    data[at : at + 3] = bytes([10] * 3)
    data[data.index(b"\n\t\x18\x11\x3f") + 6] |= 0x20
    assert notes(bytes(data)) == ["10-bit samples reduced to 8 bits"]
    # Of 12 bits they would need another profile of AV1.
    data[flags] |= 0x20
    assert image_notes.DEPTHS["AVIF"](bytes(data)) == 12


@pytest.mark.parametrize("bits", [5, 8, 12, 16])
@pytest.mark.parametrize("boxes", [True, False])
def test_depths_of_jpeg_2000(bits, boxes):
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    data = bytearray(file("JPEG2000", Image.fromarray(pixels), no_jp2=not boxes))
    at = data.index(b"\xff\x4f\xff\x51") + 42
    data[at : at + 9 : 3] = bytes([bits - 1] * 3)
    if boxes:
        data[data.index(b"ihdr") + 14] = bits - 1
    expected = [f"{bits}-bit samples reduced to 8 bits"] if bits > 8 else []
    assert notes(bytes(data)) == expected
