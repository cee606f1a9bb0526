"""The Pillow plugin as users of Pillow's own formats expect it to behave."""

from __future__ import annotations

import gc
import io
import json
import pickle
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile, UnidentifiedImageError

import nic.pillow

VECTORS = Path(__file__).parent / "vectors"
PHOTO = VECTORS / "rgb-48x33-q50.nic"
GRAY = VECTORS / "gray-40x40-q60.nic"
DATA = PHOTO.read_bytes()


def roundtrip(image: Image.Image, **options) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "NIC", **options)
    return Image.open(file)


@pytest.fixture
def picture(photo) -> Image.Image:
    return Image.fromarray(photo)


def damaged(at: int) -> bytes:
    return DATA[:at] + bytes([DATA[at] ^ 1]) + DATA[at + 1 :]


# Opening


def test_open_reads_the_header_alone(monkeypatch):
    monkeypatch.setattr(nic, "decode", None)
    with Image.open(PHOTO) as image:
        assert (image.format, image.mode, image.size) == ("NIC", "RGB", (48, 33))
        assert image.get_format_mimetype() == "image/x-nic"
        assert image.tell() == 0 and image.n_frames == 1 and not image.is_animated
    with Image.open(GRAY) as image:
        assert (image.mode, image.size) == ("L", (40, 40))


def test_open_imports_neither_numpy_nor_torch():
    code = (
        "import json, sys, nic.pillow; from PIL import Image; Image.open(sys.argv[1]);"
        "print(json.dumps([name for name in ('numpy', 'torch') if name in sys.modules]))"
    )
    root = Path(__file__).parents[1]
    run = subprocess.run([sys.executable, "-c", code, PHOTO], stdout=subprocess.PIPE, cwd=root)
    assert json.loads(run.stdout) == []


def test_registered():
    assert Image.registered_extensions()[".nic"] == "NIC"
    assert Image.MIME["NIC"] == "image/x-nic"


@pytest.mark.parametrize("path", [PHOTO, GRAY], ids=lambda path: path.stem)
def test_pixels_are_those_of_decode(model, path):
    with Image.open(path) as image:
        assert np.array_equal(np.asarray(image), np.asarray(nic.decode(path.read_bytes())))


def test_open_from_streams(model):
    expected = nic.decode(DATA).tobytes()
    with open(PHOTO, "rb") as file:  # the caller's file: neither closed nor used up
        for _ in range(2):
            assert Image.open(file).tobytes() == expected
        assert not file.closed
    assert Image.open(io.BytesIO(DATA)).tobytes() == expected
    parser = ImageFile.Parser()
    parser.feed(DATA)
    assert parser.close().tobytes() == expected


def test_load_twice_and_after_changes(model):
    with Image.open(PHOTO) as image:
        first = image.load()[3, 4]
        image.putpixel((3, 4), (1, 2, 3))
        assert image.load()[3, 4] == (1, 2, 3) != first


def test_usual_operations(model):
    with Image.open(PHOTO) as image:
        copy = image.copy()
        pickled = pickle.loads(pickle.dumps(image))
        assert copy.tobytes() == pickled.tobytes() == image.tobytes()
        assert image.convert("L").mode == "L" and image.crop((0, 0, 5, 4)).size == (5, 4)
        image.thumbnail((24, 24))
        assert image.size == (24, 17)
        image.seek(0)
        with pytest.raises(EOFError):
            image.seek(1)


def test_no_file_is_left_open(model, tmp_path):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with Image.open(PHOTO) as image:
            file = image.fp
        assert file.closed
        image = Image.open(PHOTO)
        file = image.fp
        image.load()
        assert file.closed  # as soon as the pixels are there
        image.save(tmp_path / "again.nic")
        image.close()
        del image
        gc.collect()
    assert not [w for w in caught if w.category is ResourceWarning]


def test_large_images_meet_pillows_own_limit(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 48 * 33 // 3)
    with pytest.raises(Image.DecompressionBombError):
        Image.open(PHOTO)


# Bad files


@pytest.mark.parametrize("data", [b"", b"\x89NIC", DATA[:20], b"\x89NIX" + DATA[4:], b"GIF89a"])
def test_what_is_no_nic_file_is_not_identified(data):
    with pytest.raises(UnidentifiedImageError):
        Image.open(io.BytesIO(data))
    with pytest.raises(SyntaxError):
        nic.pillow.NicImageFile(io.BytesIO(data))


@pytest.mark.parametrize(
    "data, message",
    [(damaged(15), "header is damaged"), (DATA[:4] + b"\x20" + DATA[5:], "version 2.0")],
    ids=["damaged", "newer"],
)
def test_a_header_that_cannot_be_used_says_why(data, message):
    with pytest.raises(OSError, match=message):
        Image.open(io.BytesIO(data))


@pytest.mark.parametrize(
    "data, message",
    [(DATA[:-1], "ends early"), (DATA + b"x", "bytes after"), (damaged(len(DATA) - 9), "damaged")],
    ids=["truncated", "longer", "damaged"],
)
@pytest.mark.parametrize("use", [Image.Image.verify, Image.Image.load])
def test_a_body_that_cannot_be_used_says_why(tmp_path, data, message, use):
    path = tmp_path / "bad.nic"
    path.write_bytes(data)
    with Image.open(path) as image:
        with pytest.raises(OSError, match=message):
            getattr(image, use.__name__)()


def test_verify(model):
    image = Image.open(PHOTO)
    image.verify()
    with pytest.raises(RuntimeError, match="directly after open"):
        image.verify()
    with Image.open(PHOTO) as image, pytest.raises(RuntimeError):
        image.load()
        image.verify()


# Saving


def test_save_writes_what_encode_returns(model, picture, tmp_path):
    picture.save(tmp_path / "photo.nic")
    assert (tmp_path / "photo.nic").read_bytes() == nic.encode(picture)
    picture.save(tmp_path / "PHOTO.NIC", quality=12.5)
    assert (tmp_path / "PHOTO.NIC").read_bytes() == nic.encode(picture, quality=12.5)
    with open(tmp_path / "stream", "wb") as file:
        picture.save(file, "nic")
    assert (tmp_path / "stream").read_bytes() == nic.encode(picture)


def test_only_given_settings_are_passed_on(monkeypatch, picture):
    calls = []
    monkeypatch.setattr(nic, "encode", lambda image, **options: calls.append(options) or b"")
    picture.save(io.BytesIO(), "NIC", optimize=True)
    picture.save(io.BytesIO(), "NIC", quality=7, effort=3)
    assert calls == [{}, {"quality": 7, "effort": 3}]


@pytest.mark.parametrize("quality", [-1, 101, "high", None, float("nan")])
def test_invalid_quality(model, picture, tmp_path, quality):
    with pytest.raises(ValueError, match="quality"):
        picture.save(tmp_path / "photo.nic", quality=quality)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("mode", ["1", "L", "I", "I;16", "F", "P", "RGB", "CMYK", "YCbCr", "HSV"])
def test_modes(model, picture, mode):
    image = picture.convert("L").convert(mode) if mode == "I;16" else picture.convert(mode)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tests/test_images.py knows what is lost, and says so
        saved = roundtrip(image, quality=100)
    gray = mode in ("1", "L", "I", "I;16", "F")
    assert saved.mode == ("L" if gray else "RGB") and saved.size == image.size
    if mode in ("L", "RGB", "YCbCr"):
        error = np.asarray(saved.convert("RGB"), float) - np.asarray(image.convert("RGB"), float)
        assert np.abs(error).mean() < 6


def test_animations_give_their_current_frame(model, picture):
    file = io.BytesIO()
    picture.save(file, "GIF", save_all=True, append_images=[Image.new("RGB", picture.size, "red")])
    with Image.open(file) as animation:
        animation.seek(1)
        saved = roundtrip(animation, quality=100).convert("RGB")
        assert np.abs(np.asarray(saved, float) - (255, 0, 0)).mean() < 8
        with pytest.raises(ValueError, match="one picture"):
            animation.save(io.BytesIO(), "NIC", save_all=True)
    with pytest.raises(ValueError, match="one picture"):
        picture.save(io.BytesIO(), "NIC", append_images=[picture])
    assert roundtrip(picture, save_all=True).size == picture.size


def test_too_large_for_the_format(tmp_path):
    with pytest.raises(ValueError, match="65535"):
        Image.new("L", (65536, 1)).save(tmp_path / "wide.nic")


def test_a_loaded_file_can_be_overwritten_by_itself(model, tmp_path):
    path = tmp_path / "photo.nic"
    path.write_bytes(DATA)
    with Image.open(path) as image:
        image.save(path, quality=20)
    with Image.open(path) as image:
        assert image.size == (48, 33)
        image.load()


# Metadata


@pytest.fixture
def stored(monkeypatch):
    """Encodes nothing; returns the metadata that came with the last image to encode."""
    found = {}

    def encode(image, **_):
        found.clear()
        found.update({k: v for k, v in image.info.items() if k in nic.pillow.METADATA})
        return DATA

    monkeypatch.setattr(nic, "encode", encode)
    return found


def test_metadata_of_the_image_is_handed_on(picture, stored):
    picture.info.update(icc_profile=b"icc", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\0", xmp=b"<x/>")
    roundtrip(picture)
    assert stored == {k: picture.info[k] for k in ("icc_profile", "exif", "xmp")}


def test_metadata_as_arguments(picture, stored):
    exif = Image.Exif()
    exif[274] = 6
    picture.info["icc_profile"] = b"old"
    roundtrip(picture, exif=exif, xmp="<ü/>", icc_profile=b"new")
    assert stored == {"exif": exif.tobytes(), "xmp": "<ü/>".encode(), "icc_profile": b"new"}
    roundtrip(picture, exif=exif.tobytes(), icc_profile=None)
    assert stored == {"exif": exif.tobytes()}
    assert picture.info["icc_profile"] == b"old"


@pytest.mark.parametrize("exif", [b"invalid", b"Exif\0\0II*\0"])
def test_invalid_exif(picture, exif):
    with pytest.raises(ValueError, match="exif"):
        roundtrip(picture, exif=exif)
