"""Image files read: every mode, and what is said to be lost."""

from __future__ import annotations

import io
import struct
import warnings
from zlib import compress, crc32

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from image_files import METADATA, RAMP, block, load, profile, read, stored
from PIL import Image, PngImagePlugin

from nic import images
from nic.errors import InputError, LimitExceeded, NicError


@pytest.mark.parametrize("format", ["PNG", "BMP", "TIFF", "PPM", "WEBP", "TGA", "QOI"])
def test_rgb_is_read_unchanged_and_in_silence(photo, format):
    options = {"lossless": True} if format == "WEBP" else {}
    pixels, notes = load(stored(Image.fromarray(photo), format, **options))
    assert np.array_equal(pixels, photo) and pixels.dtype == np.uint8 and not notes


def test_gray_is_two_dimensional():
    pixels, notes = load(stored(Image.fromarray(RAMP), "PNG"))
    assert np.array_equal(pixels, RAMP) and not notes
    pixels, notes = load(stored(Image.fromarray(RAMP > 99), "PNG"))
    assert np.array_equal(pixels, (RAMP > 99) * 255) and not notes


def test_palette_becomes_rgb(photo):
    palette = Image.fromarray(photo).quantize(16)
    pixels, notes = load(stored(palette, "GIF"))
    assert np.array_equal(pixels, np.asarray(palette.convert("RGB"))) and not notes


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_alpha_is_read_unchanged(mode):
    opacity = np.arange(16, dtype=np.uint8).reshape(4, 4)
    image = Image.new(mode, (4, 4), "gray")
    image.putalpha(Image.fromarray(opacity))
    picture, notes = images.load(stored(image, "PNG"))
    assert np.array_equal(picture.alpha, opacity) and not notes
    assert picture.pixels.shape == ((4, 4) if mode == "LA" else (4, 4, 3))
    assert (picture.pixels == 128).all()


@pytest.mark.parametrize("mode", ["L", "RGB", "P", "I;16", "1"])
def test_transparent_colour_of_png(mode):
    if mode == "I;16":
        image, key = Image.fromarray(np.array([[0, 1000]], np.uint16)), 0
    else:
        image, key = Image.new(mode, (2, 1), 0), 0 if mode != "RGB" else (0, 0, 0)
        image.putpixel((1, 0), 1 if mode != "RGB" else (4, 4, 4))
    picture, _ = images.load(stored(image, "PNG", transparency=key))
    assert picture.alpha.tolist() == [[0, 255]]
    assert mode != "L" or picture.pixels[0, 1] == 1


@pytest.mark.parametrize(
    "bits, colour, row, key",
    [
        (2, 0, b"\xe0", b"\0\2"),
        (4, 0, b"\xf7", b"\0\7"),
        (16, 2, b"opaque" + b"secret", b"secret"),
    ],
)
@pytest.mark.parametrize("source", ["file", "opened", "loaded"])
def test_transparent_colour_of_other_depths(bits, colour, row, key, source):
    file = png(bits, colour, 2, b"\0" + row, key=key)
    if source == "file":
        picture, _ = images.load(file)
    else:
        image = Image.open(file)
        if source == "loaded":
            image.load()
        picture, _ = images.from_pil(image)
    assert picture.alpha.tolist() == [[255, 0]]


def test_colours_that_differ_in_their_lower_bytes_alone():
    pixels = struct.pack(">6H", 0x0102, 0x0304, 0x0506, 0x01FF, 0x03FF, 0x05FF)
    file = png(16, 2, 2, b"\0" + pixels, key=pixels[:6])
    picture, notes = images.load(file)
    assert picture.alpha.tolist() == [[0, 255]] and notes == ["16-bit samples reduced to 8 bits"]
    assert picture.pixels.tolist() == [[[1, 3, 5], [1, 3, 5]]]
    image = Image.open(file)
    image.load()  # after which the lower bytes are gone
    picture, notes = images.from_pil(image)
    assert notes == ["transparent colour compared by its upper 8 bits of 16"]
    assert picture.alpha.tolist() == [[0, 0]]


def test_transparent_colours_of_a_loaded_image_that_is_not_scaled():
    for values, key in ([0, 1], 1), ([0, 85], 85), ([17, 18], 18), ([0, 255], 0):
        image = Image.open(stored(Image.fromarray(np.uint8([values])), "PNG", transparency=key))
        image.load()
        alpha = images.from_pil(image)[0].alpha
        assert alpha.tolist() == [[0 if value == key else 255 for value in values]]


def test_palette_of_many_opacities():
    image = Image.new("P", (3, 1))
    image.putpalette([1, 2, 3, 4, 5, 6, 7, 8, 9])
    image.putdata([0, 1, 2])
    picture, _ = images.load(stored(image, "PNG", transparency=b"\x00\x80\xff"))
    assert picture.alpha.tolist() == [[0, 128, 255]]
    assert picture.pixels.tolist() == [[[1, 2, 3], [4, 5, 6], [7, 8, 9]]]


def test_pixels_alone_stand_on_white():
    file = stored(Image.new("RGBA", (1, 1), (0, 100, 200, 128)), "PNG")
    assert np.abs(images.load_pixels(file)[0, 0].astype(int) - [127, 177, 227]).max() <= 1


@pytest.mark.parametrize("format", ["PNG", "TIFF", "PPM"])
def test_16_bit_gray_is_scaled(format):
    values = np.array([[0, 128, 129, 257 * 100, 65535]], np.uint16)
    pixels, notes = load(stored(Image.fromarray(values), format))
    assert pixels.tolist() == [[0, 0, 1, 100, 255]]
    assert len(notes) == 1 and "reduced to 8 bits" in notes[0]


def test_big_endian_16_bit_gray():
    image = Image.frombytes("I;16B", (2, 1), b"\x80\x80\x00\x00")
    assert read(image)[0].tolist() == [[128, 0]]


@pytest.mark.parametrize(
    "values, expected",
    [
        ([0.0, 0.5, 1.0], [0, 128, 255]),
        ([0.0, 100.4, 255.0], [0, 100, 255]),
        ([-2.0, 0.0, 2.0], [0, 128, 255]),
        ([300.0, 300.0, 300.0], [0, 0, 0]),
    ],
)
def test_float_samples(values, expected):
    pixels, notes = load(stored(Image.fromarray(np.array([values], np.float32)), "TIFF"))
    assert pixels.tolist() == [expected] and "float samples" in notes[0]


def test_float_samples_must_be_numbers():
    with pytest.raises(InputError, match="no numbers"):
        read(Image.fromarray(np.array([[1.0, np.nan]], np.float32)))


def test_32_bit_integers_beyond_16_bits_are_stretched():
    pixels, notes = read(Image.fromarray(np.array([[-10, 0, 70000]], np.int32)))
    assert pixels[0, 0] == 0 and pixels[0, 2] == 255 and "-10 to 70000" in notes[0]


def png(
    bits: int, colour: int, width: int, rows: bytes, interlaced: bool = False, key: bytes = b""
) -> io.BytesIO:
    """A PNG of kinds that Pillow reads but does not write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, 1, bits, colour, 0, 0, interlaced)
    chunks = chunk(b"IHDR", header) + (chunk(b"tRNS", key) if key else b"")
    chunks += chunk(b"IDAT", compress(rows)) + chunk(b"IEND", b"")
    return io.BytesIO(b"\x89PNG\r\n\x1a\n" + chunks)


def test_16_bit_colour_is_noted():
    rows = b"\0" + struct.pack(">6H", 0, 257, 514, 65535, 0, 300)
    pixels, notes = load(png(16, 2, 2, rows))
    assert pixels.tolist() == [[[0, 1, 2], [255, 0, 1]]]
    assert notes == ["16-bit samples reduced to 8 bits"]


def test_png_with_a_wrong_checksum_is_refused():
    data = bytearray(png(8, 0, 2, b"\0\1\2").getvalue())
    data[data.index(b"IEND") - 5] ^= 1  # the last byte of IDAT's
    with pytest.raises(InputError, match="checksum"):
        images.load(io.BytesIO(data))


@pytest.mark.parametrize("colour, samples", [(4, 2), (6, 4)])
def test_16_bit_with_alpha(colour, samples):
    values = [257 * k for k in range(1, samples + 1)]
    picture, notes = images.load(png(16, colour, 1, b"\0" + struct.pack(f">{samples}H", *values)))
    assert picture.alpha.tolist() == [[samples]] and picture.pixels.ravel()[0] == 1
    assert notes == ["16-bit samples reduced to 8 bits"]


SGI = struct.pack(">HBBHHHH", 474, 0, 2, 3, 2, 1, 3).ljust(512, b"\0")


@pytest.mark.parametrize(
    "data",
    [
        b"P6 2 1 65535\n" + bytes(range(12)),
        b"P6 2 1 256\n" + bytes(12),
        b"P3 2 1 1000 1 2 3 4 5 1000",
        SGI + bytes(12),
        SGI[:5] + b"\2" + SGI[6:11] + b"\1" + SGI[12:] + bytes(4),
    ],
    ids=["ppm", "ppm of 256 levels", "plain ppm", "sgi", "gray sgi"],
)
def test_16_bit_samples_of_other_formats_are_noted(data):
    assert load(io.BytesIO(data))[1] == ["16-bit samples reduced to 8 bits"]


def test_fewer_bits_are_not_called_16():
    bmp = stored(Image.new("RGB", (2, 1)), "BMP").getvalue()
    # 40 bytes of header, 16 bits a pixel, their masks, one row.
    head = bmp[:10] + struct.pack("<IIiiHHIIiiII", 66, 40, 2, 1, 1, 16, 3, 4, 0, 0, 0, 0)
    data = head + struct.pack("<3I", 0xF800, 0x7E0, 0x1F) + struct.pack("<2H", 0xF800, 0x1F)
    pixels, notes = load(io.BytesIO(data))
    assert pixels.tolist() == [[[255, 0, 0], [0, 0, 255]]] and not notes
    assert not load(io.BytesIO(b"P6 2 1 100\n" + bytes(6)))[1]
    assert not load(io.BytesIO(b"P1 2 1 1 0"))[1]


def test_few_bits_and_interlacing():
    assert load(png(1, 0, 3, b"\0\xa0"))[0].tolist() == [[255, 0, 255]]
    assert load(png(2, 0, 3, b"\0\x6c"))[0].tolist() == [[85, 170, 255]]
    assert load(png(8, 0, 2, b"\0\x07" + b"\0\x09", interlaced=True))[0].tolist() == [[7, 9]]


def test_cmyk_and_lab_are_converted_and_noted():
    pixels, notes = load(stored(Image.new("CMYK", (2, 2), (0, 255, 255, 0)), "TIFF"))
    assert pixels.shape == (2, 2, 3) and pixels[0, 0, 0] > 200 and pixels[0, 0, 1] < 50
    assert notes == ["CMYK converted to RGB without a colour profile"]
    image = Image.new("CMYK", (2, 2), (0, 255, 255, 0))
    picture, notes = images.load(stored(image, "JPEG", icc_profile=b"junk", xmp=b"<x/>"))
    assert notes == ["CMYK converted to RGB without a colour profile"]
    assert picture.icc is None and picture.xmp == b"<x/>"
    pixels, notes = load(stored(Image.new("LAB", (2, 2), (255, 128, 128)), "TIFF"))
    assert pixels.min() >= 250 and notes == ["colours converted from Lab to sRGB"]


@pytest.mark.parametrize("mode", ["YCbCr", "HSV", "RGBX", "PA", "La", "RGBa"])
def test_rarer_modes_are_read(mode):
    pixels, _ = read(Image.new(mode, (3, 2)))
    assert pixels.shape[:2] == (2, 3) and pixels.flags.writeable


def test_every_mode_of_pillow_is_known():
    modes = "1 L P RGB RGBA CMYK YCbCr LAB HSV I F LA PA RGBX RGBa La I;16 I;16L I;16B I;16N"
    for mode in modes.split():
        assert read(Image.new(mode, (2, 2)))[0].dtype == np.uint8


def test_srgb_profile_changes_nothing(photo):
    image = Image.fromarray(photo)
    pixels, notes = load(stored(image, "PNG", icc_profile=profile()))
    assert np.array_equal(pixels, photo) and not notes


def test_other_profile_is_converted_and_noted(photo):
    pixels, notes = load(stored(Image.fromarray(photo), "PNG", icc_profile=profile(0.55)))
    assert not np.array_equal(pixels, photo) and pixels.shape == photo.shape
    assert len(notes) == 1 and notes[0].endswith("to sRGB")


def test_unusable_profile_is_dropped_and_noted(photo):
    for junk in (b"no profile at all", profile()[:200]):
        pixels, notes = load(stored(Image.fromarray(photo), "PNG", icc_profile=junk))
        assert np.array_equal(pixels, photo) and notes == ["unusable ICC profile dropped"]
    gray, notes = load(stored(Image.fromarray(RAMP), "PNG", icc_profile=profile()))
    assert np.array_equal(gray, RAMP) and notes == ["unusable ICC profile dropped"]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_in_silence(photo, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels, notes = load(stored(Image.fromarray(photo), "PNG", exif=exif))
    # The inverse of what the value says was done to the picture (EXIF 2.32, table 4).
    turned = photo.swapaxes(0, 1) if orientation >= 5 else photo
    turned = turned[::-1] if orientation in (3, 4, 7, 8) else turned
    turned = turned[:, ::-1] if orientation in (2, 3, 6, 7) else turned
    assert np.array_equal(pixels, turned) and not notes


@pytest.mark.parametrize("orientation", [0, 9, 255])
def test_senseless_orientation_is_ignored(photo, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert np.array_equal(load(stored(Image.fromarray(photo), "PNG", exif=exif))[0], photo)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_metadata_is_kept_as_it_is(photo, format):
    options = METADATA | ({"lossless": True} if format == "WEBP" else {})
    if format == "PNG":
        options["pnginfo"] = PngImagePlugin.PngInfo()
        options["pnginfo"].add_itxt("XML:com.adobe.xmp", options.pop("xmp"))
    file = stored(Image.fromarray(photo), format, **options)
    info = Image.open(io.BytesIO(file.getvalue())).info
    picture, notes = images.load(file)
    assert (picture.icc, picture.xmp) == (METADATA["icc_profile"], METADATA["xmp"])
    assert picture.exif == info["exif"] and picture.exif.removeprefix(b"Exif\0\0") in block()
    assert not notes and picture.pixels.shape == photo.shape
    assert format == "JPEG" or np.array_equal(picture.pixels, photo)


def test_stripped_pictures_look_the_same(photo):
    picture, notes = images.load(stored(Image.fromarray(photo), "PNG", **METADATA), strip=True)
    assert (picture.icc, picture.exif, picture.xmp) == (None, None, None)
    assert picture.pixels.shape == (56, 40, 3)
    assert len(notes) == 1 and notes[0].endswith("to sRGB")


def test_comments_are_dropped_and_noted(photo):
    assert load(stored(Image.fromarray(photo), "JPEG", comment=b"hello"))[1] == [
        "metadata dropped: comments"
    ]


def test_what_describes_a_tiff_is_kept(photo):
    image = Image.fromarray(photo)
    picture, notes = images.load(stored(image, "TIFF"))
    assert picture.exif is None and not notes
    exif = Image.Exif()
    exif.load(images.load(stored(image, "TIFF", artist="someone", exif=block(1)))[0].exif)
    assert dict(exif).keys() == {0x0110, 0x013B, 0x8769} and exif.get_ifd(0x8769) == {0x829A: 0.5}


def test_tiffs_are_turned_by_pillow_itself(photo):
    picture, _ = images.load(stored(Image.fromarray(photo), "TIFF", exif=block(6)))
    assert picture.pixels.shape == (56, 40, 3)
    assert 0x0112 not in images.to_pil(picture).getexif()


def test_exif_of_an_old_png(photo):
    info = PngImagePlugin.PngInfo()
    info.add_text("Raw profile type exif", f"\nexif\n{len(block()):8}\n{block().hex()}")
    picture, notes = images.load(stored(Image.fromarray(photo), "PNG", pnginfo=info))
    assert images.to_pil(picture).getexif()[0x0110] == "camera" and not notes


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_broken_exif_does_not_stop_the_picture(photo):
    exif = b"Exif\0\0II*\0\xff\xff\xff\xff"
    file = stored(Image.fromarray(photo), "WEBP", lossless=True, exif=exif)
    assert np.array_equal(load(file)[0], photo)


def test_a_palette_that_is_missing_is_an_error():
    # As in a broken ICNS.
    image = Image.new("P", (2, 2))
    image.palette = None
    with pytest.raises(InputError, match="unreadable image"):
        images.from_pil(image)


@pytest.mark.parametrize("format", ["GIF", "PNG", "WEBP", "TIFF"])
def test_animations_and_pages_are_refused(photo, format):
    frames = [Image.fromarray(np.roll(photo, i, axis=1)) for i in range(3)]
    file = stored(frames[0], format, save_all=True, append_images=frames[1:])
    with pytest.raises(InputError, match="3 frames"):
        load(file)


@pytest.mark.parametrize("format", ["GIF", "PNG", "WEBP", "TIFF"])
def test_one_frame_can_be_chosen(format):
    frames = [Image.new("RGB", (9, 9), (99 * k, 0, 0)) for k in range(3)]
    options = {"lossless": True} if format == "WEBP" else {}
    data = stored(frames[0], format, save_all=True, append_images=frames[1:], **options).getvalue()
    for k in range(3):
        picture, _ = images.load(io.BytesIO(data), frame=k)
        assert (picture.pixels == np.asarray(frames[k])).all()
    for k in (-1, 3):
        with pytest.raises(InputError, match="there are 3"):
            images.load(io.BytesIO(data), frame=k)


def test_first_picture_of_a_camera_file_is_kept(photo):
    frames = [Image.fromarray(photo), Image.fromarray(photo[::2, ::2])]
    pixels, notes = load(stored(frames[0], "MPO", save_all=True, append_images=frames[1:]))
    assert pixels.shape == photo.shape and "only the first of 2 pictures is kept" in notes


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
@pytest.mark.parametrize(
    "format", ["PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP", "JPEG2000", "AVIF"]
)
def test_cut_files_are_refused_in_one_line(photo, tmp_path, format):
    data = stored(Image.fromarray(photo), format).getvalue()
    path = tmp_path / "cut"
    for size in (0, 1, 8, 30, len(data) // 2):
        path.write_bytes(data[:size])
        with pytest.raises(InputError) as caught:
            load(path)
        assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)


@given(data=st.data())
def test_damaged_files_give_an_image_or_a_typed_error(data):
    format = data.draw(st.sampled_from(["PNG", "GIF", "TIFF"]))
    file = bytearray(stored(Image.fromarray(RAMP), format).getvalue())
    for _ in range(data.draw(st.integers(1, 8))):
        file[data.draw(st.integers(0, len(file) - 1))] = data.draw(st.integers(0, 255))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pixels, _ = load(io.BytesIO(file))
    except NicError:
        return
    assert pixels.dtype == np.uint8 and pixels.ndim in (2, 3)


@pytest.mark.parametrize("name", ["missing.png", "", "missing/folder/a.png"])
def test_missing_files(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError):
        load(name)


def test_folders_and_text_are_no_images(tmp_path):
    with pytest.raises(InputError, match="directory"):
        load(tmp_path)
    (tmp_path / "a.png").write_text("no image")
    with pytest.raises(InputError, match="not an image"):
        load(tmp_path / "a.png")


def bomb(width: int, height: int) -> io.BytesIO:
    """A tiny file that claims to be a large image."""
    data = bytearray(stored(Image.new("L", (1, 1)), "BMP").getvalue())
    data[18:26] = width.to_bytes(4, "little") + height.to_bytes(4, "little")
    return io.BytesIO(data)


def test_images_too_large_for_the_format_are_refused_unread():
    for size in ((12000, 12000), (65536, 1), (60000, 60000)):
        with pytest.raises(LimitExceeded):
            load(bomb(*size))


def test_large_but_possible_images_raise_no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(InputError, match="unreadable|truncated"):
            load(bomb(10000, 10000))


def test_images_of_a_folder(tmp_path):
    for name in ("b.PNG", "a.jpg", "c.nic", "d.wmf", "e.h5", "f.txt", "g.xbm"):
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    import nic.pillow  # noqa: F401 - with which Pillow knows .nic

    assert [path.name for path in images.find(tmp_path)] == ["a.jpg", "b.PNG", "g.xbm"]
    assert {".png", ".jpg"} < images.extensions() and ".nic" not in images.extensions()


class Unseekable(io.BytesIO):
    def seekable(self):
        return False

    def seek(self, *_):
        raise OSError("a pipe")


def test_pipes_can_be_read(photo):
    file = Unseekable(stored(Image.fromarray(photo), "PNG").getvalue())
    assert np.array_equal(load(file)[0], photo)
