"""Image files written: as good as the picture, or with a warning of what they lack."""

from __future__ import annotations

import io
import warnings

import numpy as np
import pytest
from PIL import Image
from test_images import RAMP

from nic import images
from nic.errors import InputError
from nic.picture import Picture


def written(picture: Picture, format: str) -> Image.Image:
    """The file's image, having been written in silence."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return Image.open(io.BytesIO(images.to_bytes(picture, format)))


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
