"""Image files written: as good as the picture, or with a warning of what they lack."""

from __future__ import annotations

import io
import struct
import warnings

import numpy as np
import pytest
from image_files import METADATA, RAMP, block, load, profile
from PIL import ExifTags, Image

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


@pytest.mark.parametrize("extension", ["png", "bmp", "tif", "webp", "ppm", "jp2", "qoi"])
@pytest.mark.parametrize("gray", [False, True])
def test_saved_pixels_come_back(photo, tmp_path, extension, gray):
    pixels = photo[:, :, 0].copy() if gray else photo
    data = images.to_bytes(Picture(pixels), images.format_for(extension))
    (tmp_path / f"a.{extension}").write_bytes(data)
    back = load(tmp_path / f"a.{extension}")[0]
    assert np.array_equal(back if back.ndim == pixels.ndim else back[:, :, 0], pixels)


@pytest.mark.parametrize("extension", ["png", "tif", "webp", "jp2", "tga"])
@pytest.mark.parametrize("gray", [False, True])
def test_saved_alpha_comes_back(photo, extension, gray):
    pixels = photo[:, :, 0].copy() if gray else photo
    picture = Picture(pixels, photo[:, :, 1] // 2 * 2)
    data = images.to_bytes(picture, images.format_for(extension))
    back = images.load(io.BytesIO(data))[0]
    assert np.array_equal(back.alpha, picture.alpha)
    assert np.array_equal(back.pixels if back.gray == gray else back.pixels[:, :, 0], pixels)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_metadata_is_written(photo, format):
    picture = Picture(photo, None, METADATA["icc_profile"], block(1), METADATA["xmp"])
    back = Image.open(io.BytesIO(images.to_bytes(picture, format)))
    assert back.info["icc_profile"] == picture.icc and back.info["xmp"] == picture.xmp
    if format in ("JPEG", "PNG", "WEBP"):
        exif = back.info["exif"].removeprefix(b"Exif\0\0")
        assert exif == picture.exif.removeprefix(b"Exif\0\0")
    assert back.getexif()[0x0110] == "camera"
    assert back.getexif().get_ifd(0x8769)[0x829A] == 0.5


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_orientation_survives_for_viewers(photo, format):
    data = images.to_bytes(Picture(photo, exif=block(6).removeprefix(b"Exif\0\0")), format)
    assert load(io.BytesIO(data))[0].shape == (56, 40, 3)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.filterwarnings("ignore:unreadable EXIF dropped")
def test_exif_that_cannot_be_written_does_not_stop_the_picture(photo, format):
    # A pointer to GPS data, whose version is a text: Pillow reads it, and trips writing it.
    gps = struct.pack(">HHHI4sI", 1, 0, 2, 3, b"abc", 0)
    exif = b"MM\0*" + struct.pack(">IHHHIII", 8, 1, 0x8825, 4, 1, 26, 0) + gps
    data = images.to_bytes(Picture(photo, exif=exif), format)
    assert Image.open(io.BytesIO(data)).size == (56, 40)


def test_formats_without_metadata_get_the_picture_as_seen(photo):
    with pytest.warns(UserWarning, match="BMP holds no metadata, dropped: exif"):
        data = images.to_bytes(Picture(photo, exif=block(6)), "BMP")
    turned = np.asarray(Image.open(io.BytesIO(data)))
    assert np.array_equal(turned, np.rot90(photo, 3))


def test_formats_without_alpha_get_white(photo):
    with pytest.warns(UserWarning, match="PPM holds no transparency"):
        data = images.to_bytes(Picture(photo, np.zeros((40, 56), np.uint8)), "PPM")
    assert np.asarray(Image.open(io.BytesIO(data))).min() == 255


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF", "BMP"])
@pytest.mark.filterwarnings("ignore")
def test_broken_metadata_never_stops_a_picture(photo, format):
    picture = Picture(photo, None, b"no profile", b"no EXIF", b"\xff no XMP")
    back = Image.open(io.BytesIO(images.to_bytes(picture, format)))
    assert back.size == (56, 40)


def test_jpeg_is_saved_at_high_quality(photo):
    decoded = np.asarray(Image.open(io.BytesIO(images.to_bytes(Picture(photo), "JPEG"))))
    assert np.abs(decoded.astype(int) - photo).mean() < 3  # 3.4 at Pillow's default


def test_formats_by_name():
    names = ["a.PNG", "png", "jpg", "jpeg", "a.b.tif", "JPEG2000", "/x/é.webp"]
    found = [images.format_for(name) for name in names]
    assert found == ["PNG", "PNG", "JPEG", "JPEG", "TIFF", "JPEG2000", "WEBP"]
    for name in ("a", "a.", "a.nic", "a.xyz", "a.psd"):
        with pytest.raises(InputError):
            images.format_for(name)


@pytest.mark.parametrize("name", ["noextension", "/x/fo.d/bar", "/x/png", "", "xyz"])
def test_names_without_extension_are_called_so(name):
    with pytest.raises(InputError, match="no extension, nor a format"):
        images.format_for(name)


@pytest.mark.parametrize("name", ["a.xyz", "fo.d/b.xyz", "a.b.XYZ"])
def test_extensions_that_are_unknown_are_named(name):
    with pytest.raises(InputError, match=r"of type '\.xyz'"):
        images.format_for(name)


@pytest.mark.parametrize("extension", ["blp", "h5", "msp", "palm", "wmf", "xbm"])
def test_formats_that_hold_no_photographs_are_refused(extension):
    with pytest.raises(InputError, match="no photographs"):
        images.format_for(f"a.{extension}")


def test_formats_that_cannot_hold_the_image(photo):
    with pytest.raises(InputError, match="as XBM"):
        images.to_bytes(Picture(photo), "XBM")
    with pytest.raises(InputError, match="as WEBP"):
        images.to_bytes(Picture(np.zeros((1, 20000, 3), np.uint8)), "WEBP")
