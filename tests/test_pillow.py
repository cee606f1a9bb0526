"""The Pillow plugin as users of Pillow's own formats expect it to behave."""

from __future__ import annotations

import gc
import io
import json
import pickle
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import crafted
import numpy as np
import pytest
from PIL import Image, ImageFile, UnidentifiedImageError

import nic.pillow
from nic import codec
from nic.stored import PIECE

VECTORS = Path(__file__).parent / "vectors"
PHOTO = VECTORS / "rgb-48x33-q50.nic"
GRAY = VECTORS / "gray-40x40-q60.nic"
ALPHA = VECTORS / "alpha-20x12-q60.nic"
GRAY_ALPHA = VECTORS / "gray-alpha-33x17-q30.nic"
METADATA = VECTORS / "metadata-24x16-q50.nic"
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


@pytest.mark.parametrize(
    "path, mode, size",
    [(GRAY, "L", (40, 40)), (ALPHA, "RGBA", (20, 12)), (GRAY_ALPHA, "LA", (33, 17))],
    ids=["gray", "alpha", "gray-alpha"],
)
def test_modes_of_files(golden_model, path, mode, size):
    with Image.open(path) as image:
        assert (image.mode, image.size) == (mode, size)
        image.load()
        assert (image.mode, image.size) == (mode, size)


def test_open_imports_neither_numpy_nor_torch():
    code = (
        "import json, sys, nic.pillow; from PIL import Image; Image.open(sys.argv[1]).info['xmp'];"
        "print(json.dumps([name for name in ('numpy', 'torch') if name in sys.modules]))"
    )
    root = Path(__file__).parents[1]
    run = subprocess.run([sys.executable, "-c", code, METADATA], stdout=subprocess.PIPE, cwd=root)
    assert json.loads(run.stdout) == []


def test_registered():
    assert Image.registered_extensions()[".nic"] == "NIC"
    assert Image.MIME["NIC"] == "image/x-nic"


@pytest.mark.parametrize("path", [PHOTO, GRAY, ALPHA, GRAY_ALPHA], ids=lambda path: path.stem)
def test_pixels_are_those_of_decode(golden_model, path):
    with Image.open(path) as image:
        assert np.array_equal(np.asarray(image), np.asarray(nic.decode(path.read_bytes())))


def test_open_from_streams(golden_model):
    expected = nic.decode(DATA).tobytes()
    with open(PHOTO, "rb") as file:  # the caller's file: neither closed nor used up
        for _ in range(2):
            assert Image.open(file).tobytes() == expected
        assert not file.closed
    assert Image.open(io.BytesIO(DATA)).tobytes() == expected
    parser = ImageFile.Parser()
    parser.feed(DATA)
    assert parser.close().tobytes() == expected


def test_load_twice_and_after_changes(golden_model):
    with Image.open(PHOTO) as image:
        first = image.load()[3, 4]
        image.putpixel((3, 4), (1, 2, 3))
        assert image.load()[3, 4] == (1, 2, 3) != first


def test_usual_operations(golden_model):
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


def test_no_file_is_left_open(golden_model, tmp_path):
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


def test_verify(golden_model):
    image = Image.open(PHOTO)
    image.verify()
    with pytest.raises(RuntimeError, match="directly after open"):
        image.verify()
    with Image.open(PHOTO) as image, pytest.raises(RuntimeError):
        image.load()
        image.verify()


# Saving


def test_save_writes_what_encode_returns(golden_model, picture, tmp_path):
    picture.save(tmp_path / "photo.nic")
    assert (tmp_path / "photo.nic").read_bytes() == nic.encode(picture)
    picture.save(tmp_path / "PHOTO.NIC", quality=12.5)
    assert (tmp_path / "PHOTO.NIC").read_bytes() == nic.encode(picture, quality=12.5)
    with open(tmp_path / "stream", "wb") as file:
        picture.save(file, "nic")
    assert (tmp_path / "stream").read_bytes() == nic.encode(picture)


def test_only_given_settings_are_passed_on(monkeypatch, picture):
    calls = []
    monkeypatch.setattr(codec, "encode", lambda _, **options: calls.append(options) or b"")
    picture.save(io.BytesIO(), "NIC", optimize=True)
    given = {"effort": 3, "exact": True, "alpha_quality": 80, "lanes": "auto"}
    for target in ({"quality": 7}, {"size": 900}, {"bpp": 0.5}, {"psnr": 30}):
        picture.save(io.BytesIO(), "NIC", **target, **given)
        assert calls.pop() == target | given
    assert calls == [{}]


@pytest.mark.parametrize(
    "options",
    [{"effort": 5.0}, {"lanes": 3}, {"size": "100k"}, {"quality": 50, "psnr": 30}]
    + [{name: 5} for name in ("icc_profile", "exif", "xmp")],
)
def test_options_of_a_wrong_kind(golden_model, picture, options):
    with pytest.raises(ValueError, match=list(options)[-1]):
        roundtrip(picture, **options)


@pytest.mark.parametrize("quality", [-1, 101, "high", float("nan")])
def test_invalid_quality(golden_model, picture, tmp_path, quality):
    with pytest.raises(ValueError, match="quality"):
        picture.save(tmp_path / "photo.nic", quality=quality)
    assert not list(tmp_path.iterdir())


MODES = {
    **dict.fromkeys(("1", "L", "I", "I;16", "F"), "L"),
    **dict.fromkeys(("RGB", "CMYK", "YCbCr", "HSV"), "RGB"),
    **dict.fromkeys(("RGBA", "P", "PA"), "RGBA"),
    "LA": "LA",
}


@pytest.mark.parametrize("mode", MODES)
def test_modes(golden_model, picture, mode):
    picture.putalpha(Image.linear_gradient("L").resize(picture.size))
    image = (picture.convert("L") if mode in ("I", "I;16", "F") else picture).convert(mode)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tests/test_images.py knows what is lost, and says so
        saved = roundtrip(image, quality=100)
    assert saved.mode == MODES[mode] and saved.size == image.size
    if mode in ("RGBA", "LA", "PA"):
        assert saved.getchannel("A").tobytes() == image.getchannel("A").tobytes()
    if mode in ("L", "RGB", "YCbCr"):
        error = np.asarray(saved.convert("RGB"), float) - np.asarray(image.convert("RGB"), float)
        assert np.abs(error).mean() < 12


def test_transparent_colour_of_a_palette(golden_model):
    image = Image.new("P", (20, 20), 1)
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.paste(0, (0, 0, 10, 20))
    image.info["transparency"] = 0
    saved = roundtrip(image)
    assert saved.mode == "RGBA" and saved.getchannel("A").getcolors() == [(200, 0), (200, 255)]


def test_animations_give_their_current_frame(golden_model, picture):
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


def test_a_loaded_file_can_be_overwritten_by_itself(golden_model, tmp_path):
    path = tmp_path / "photo.nic"
    path.write_bytes(DATA)
    with Image.open(path) as image:
        image.save(path, quality=20)
    with Image.open(path) as image:
        assert image.size == (48, 33)
        image.load()


# Metadata


def test_metadata_before_anything_is_decoded(monkeypatch):
    decoded = nic.decode(METADATA.read_bytes())
    monkeypatch.setattr(nic, "decode", None)
    with Image.open(METADATA) as image:
        assert image.info == decoded.info
        assert image.info.keys() == {"icc_profile", "exif", "xmp"}


def test_damaged_metadata_says_so():
    data = bytearray(METADATA.read_bytes())
    data[nic.info(data).size + 5] ^= 255
    with pytest.raises(OSError, match="icc"):
        Image.open(io.BytesIO(data))


def test_metadata_that_a_header_only_claims_take_no_memory():
    class Sparing(io.BytesIO):
        def read(self, count: int = -1) -> bytes:
            assert count <= PIECE
            return super().read(count)

    header = replace(nic.info(DATA), chunks=(("H", 0), ("L", 0), ("e", 2**35 - 1)))
    with pytest.raises(OSError, match="exif"):
        Image.open(Sparing(crafted.header_alone(header)))


@pytest.fixture
def exif() -> Image.Exif:
    exif = Image.Exif()
    exif[274] = 6  # orientation
    return exif


def test_metadata_of_the_image_is_kept(golden_model, picture, exif):
    for data in (exif.tobytes(), exif.tobytes().removeprefix(b"Exif\0\0")):
        picture.info.update(icc_profile=b"icc", exif=data, xmp=b"<x/>")
        saved = roundtrip(picture)
        assert saved.info == picture.info and saved.getexif()[274] == 6
        assert saved.size == picture.size  # turned upright by viewers, as with other formats


def test_metadata_through_other_formats(golden_model, picture, exif):
    jpeg = io.BytesIO()
    picture.save(jpeg, "JPEG", exif=exif, xmp=b"<x/>", icc_profile=b"icc")
    with Image.open(jpeg) as image:
        assert roundtrip(image).info == {
            key: image.info[key] for key in ("exif", "xmp", "icc_profile")
        }


def test_metadata_as_arguments(golden_model, picture, exif):
    picture.info["icc_profile"] = b"old"
    expected = {"exif": exif.tobytes(), "xmp": "<\u00fc/>".encode()}
    saved = roundtrip(picture, exif=exif, xmp="<\u00fc/>", icc_profile=b"new")
    assert saved.info == {**expected, "icc_profile": b"new"}
    assert roundtrip(picture, exif=memoryview(exif.tobytes()), icc_profile=None).info == {
        "exif": exif.tobytes()
    }
    assert picture.info == {"icc_profile": b"old"}


@pytest.mark.parametrize("exif", [b"invalid", b"Exif\0\0II*\0"])
def test_invalid_exif(picture, exif):
    with pytest.raises(ValueError, match="exif"):
        roundtrip(picture, exif=exif)
