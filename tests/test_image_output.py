"""Image files written: as good as the picture, or with a warning of what they lack."""

from __future__ import annotations

import io
import struct
import warnings

import numpy as np
import pytest
from PIL import ExifTags, Image
from test_images import RAMP, block, profile

from nic import images
from nic.errors import InputError
from nic.picture import Picture


def written(picture: Picture, format: str) -> Image.Image:
    """The file's image, having been written in silence."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return Image.open(io.BytesIO(images.to_bytes(picture, format)))


def gray_profile(gamma: float) -> bytes:
    curve = b"curv\0\0\0\0\0\0\0\1" + int(gamma * 256).to_bytes(2, "big") + b"\0\0"
    white = b"XYZ \0\0\0\0" + struct.pack(">3I", 63190, 65536, 54061)
    tags = struct.pack(">I4sII4sII", 2, b"kTRC", 156, 16, b"wtpt", 172, 20) + curve + white
    head = struct.pack(">I4sI4s4s4s12s4s", 128 + len(tags), b"", 0x02100000, b"mntr", b"GRAY",
                       b"XYZ ", struct.pack(">6H", 2000, 1, 1, 0, 0, 0), b"acsp")  # fmt: skip
    return head.ljust(68, b"\0") + white[8:] + bytes(48) + tags


def padded_exif(size: int, orientation: int) -> bytes:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    exif[ExifTags.Base.ImageDescription] = "x" * size
    return exif.tobytes()


STRUCTURE = {
    256: 9, 257: 9, 258: 4, 259: 5, 262: 0, 266: 2, 273: 1, 277: 1, 278: 3, 279: 1, 284: 2,
    317: 2, 320: (1,) * 768, 322: 16, 323: 16, 330: 8, 338: 1, 339: 3, 530: (2, 2), 34675: b"no",
}  # fmt: skip


@pytest.mark.parametrize("alpha", [False, True])
@pytest.mark.parametrize("gray", [False, True])
def test_exif_says_nothing_of_a_tiffs_bytes(photo, gray, alpha):
    exif = Image.Exif()
    exif.load(block(1))
    for tag, value in STRUCTURE.items():
        exif[tag] = value
    pixels = photo[:, :, 0].copy() if gray else photo
    picture = Picture(pixels, photo[:, :, 1].copy() if alpha else None, None, exif.tobytes())
    back = written(picture, "TIFF")
    assert np.array_equal(np.asarray(back), np.asarray(images.to_pil(picture)))
    assert back.getexif()[0x0110] == "camera" and "icc_profile" not in back.info
    assert back.getexif().get_ifd(0x8769)[0x829A] == 0.5


@pytest.mark.parametrize("format, alpha", [("WEBP", False), ("WEBP", True), ("AVIF", True)])
def test_gray_stored_as_rgb_has_no_profile_of_gray(format, alpha):
    picture = Picture(RAMP, RAMP if alpha else None, gray_profile(1.0))
    with pytest.warns(UserWarning) as caught:
        back = Image.open(io.BytesIO(images.to_bytes(picture, format)))
    assert [str(w.message) for w in caught] == [
        f"{format} cannot hold all metadata, dropped: icc_profile"
    ]
    assert back.mode in ("RGB", "RGBA") and "icc_profile" not in back.info
    assert abs(back.getpixel((0, 8))[0] - 188) < 3  # 128 in linear light


def test_gray_avif_stays_gray_with_its_profile():
    back = written(Picture(RAMP, None, gray_profile(1.0)), "AVIF")
    assert back.mode == "L" and back.info["icc_profile"] == gray_profile(1.0)


def test_other_profiles_stay_with_gray():
    assert written(Picture(RAMP, None, profile(0.55)), "WEBP").info["icc_profile"] == profile(0.55)


@pytest.mark.parametrize("size", [(1, 1), (40, 30), (256, 256), (17, 200)])
def test_icons_are_written_at_their_size(size):
    assert written(Picture(np.zeros((*size[::-1], 3), np.uint8)), "ICO").size == size


@pytest.mark.parametrize(
    "format, shape, reason",
    [
        ("ICO", (30, 257, 3), "at most 256x256 pixels, not 257x30"),
        ("ICNS", (512, 512), "1024x1024 pixels, not 512x512"),
        ("SPIDER", (30, 40, 3), "holds no colours"),
    ],
)
def test_formats_that_would_change_size_or_colours_refuse(format, shape, reason):
    with pytest.raises(InputError, match=f"{format} .*{reason}"):
        images.to_bytes(Picture(np.zeros(shape, np.uint8)), format)


def test_sizes_and_colours_that_fit():
    assert written(Picture(np.zeros((1024, 1024), np.uint8)), "ICNS").size == (1024, 1024)
    assert np.array_equal(np.asarray(written(Picture(RAMP), "SPIDER")), RAMP)


def test_gif_of_more_than_256_colours_is_said_to_be_approximated(photo):
    with pytest.warns(UserWarning, match="GIF holds 256 colours"):
        images.to_bytes(Picture(photo), "GIF")
    few = photo // 64 * 64
    assert np.array_equal(np.asarray(written(Picture(few), "GIF").convert("RGB")), few)
    assert np.array_equal(np.asarray(written(Picture(RAMP), "GIF").convert("L")), RAMP)


@pytest.mark.parametrize("format", ["JPEG", "MPO", "PDF"])
def test_formats_of_jpeg_are_saved_at_its_high_quality(photo, format):
    data = images.to_bytes(Picture(photo), format)
    data = data[data.index(b"\xff\xd8") : data.rindex(b"\xff\xd9") + 2]
    decoded = np.asarray(Image.open(io.BytesIO(data)))
    assert np.abs(decoded.astype(int) - photo).mean() < 3  # 3.4 at Pillow's default


def dropped(picture: Picture, format: str) -> tuple[Image.Image, str]:
    """The file's image, and the names of the metadata that the one warning says it lacks."""
    with pytest.warns(UserWarning, match=f"{format} cannot hold all metadata") as caught:
        back = Image.open(io.BytesIO(images.to_bytes(picture, format)))
    assert len(caught) == 1
    return back, str(caught[0].message).rpartition("dropped: ")[2]


def test_what_is_too_large_for_jpeg_is_dropped(photo):
    picture = Picture(photo, None, None, block(6), bytes(65505))
    back, names = dropped(picture, "JPEG")
    assert names == "xmp" and back.getexif()[0x0110] == "camera" and back.size == (56, 40)
    back, names = dropped(Picture(photo, None, None, padded_exif(65500, 6), b"<x/>"), "JPEG")
    assert names == "exif" and back.info["xmp"] == b"<x/>" and back.size == (40, 56)
    assert not back.getexif()


def test_xmp_turns_no_picture_a_second_time(photo):
    xmp = b'<x tiff:Orientation="6"/>'
    back, names = dropped(Picture(photo, None, None, padded_exif(65500, 6), xmp), "JPEG")
    assert names == "exif, xmp" and back.size == (40, 56) and not back.getexif()


@pytest.mark.parametrize("size", [65504, 65505])
def test_the_largest_xmp_of_jpeg(photo, size):
    picture = Picture(photo, None, None, None, b"x" * size)
    back = written(picture, "JPEG") if size == 65504 else dropped(picture, "JPEG")[0]
    assert back.info.get("xmp") == (picture.xmp if size == 65504 else None)


@pytest.mark.parametrize("size", [2**20 - 1, 2**20])
def test_the_largest_profile_of_png(photo, size):
    picture = Picture(photo, None, profile(0.55).ljust(size, b"\0"))
    back = written(picture, "PNG") if size < 2**20 else dropped(picture, "PNG")[0]
    assert back.info.get("icc_profile") == (picture.icc if size < 2**20 else None)
    assert np.array_equal(np.asarray(back), photo) == (size < 2**20)  # else in sRGB


@pytest.mark.parametrize("format, alpha", [("QOI", False), ("QOI", True), ("SGI", True)])
def test_gray_is_written_as_rgb_where_there_is_none(photo, format, alpha):
    picture = Picture(RAMP, RAMP // 2 * 2 if alpha else None)
    back = np.asarray(written(picture, format))
    assert back.shape == (16, 16, 4 if alpha else 3)
    assert all(np.array_equal(back[:, :, band], RAMP) for band in range(3))
    assert not alpha or np.array_equal(back[:, :, 3], picture.alpha)


@pytest.mark.parametrize("gray", [False, True])
@pytest.mark.parametrize("alpha", [False, True])
@pytest.mark.filterwarnings("ignore:.* holds", "ignore:IM image format")
def test_every_format_that_is_not_refused_holds_every_picture(photo, gray, alpha):
    pixels = photo[:, :, 0].copy() if gray else photo
    picture = Picture(pixels, photo[:, :, 1].copy() if alpha else None)
    for extension in Image.registered_extensions():
        try:
            format = images.format_for(extension)
        except InputError:
            continue
        if format not in ("ICNS", "SPIDER"):
            assert images.to_bytes(picture, format)
