"""Transparency: exact bytes back, few levels on demand, and hidden pixels that cost little."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from nic import alpha
from nic.errors import FormatError, LimitExceeded

SIZES = arrays.array_shapes(min_dims=2, max_dims=2, max_side=40)


@given(arrays.arrays(np.uint8, SIZES))
def test_every_alpha_channel_comes_back(opacity):
    assert np.array_equal(alpha.decode(alpha.encode(opacity), *opacity.shape), opacity)


def test_other_sizes_and_damage_are_refused():
    data = alpha.encode(np.arange(64, dtype=np.uint8).reshape(4, 16))
    for height, width in ((16, 4), (4, 15), (5, 16)):
        with pytest.raises(FormatError, match="no lossless WebP"):
            alpha.decode(data, height, width)
    for wrong in (b"", data[:4], data[:8], b"\0" + data[1:]):
        with pytest.raises(FormatError):
            alpha.decode(wrong, 4, 16)


@pytest.mark.parametrize("quality, levels", [(0, 2), (50, 23), (90, 158), (100, 256)])
def test_levels_rise_with_quality_and_keep_the_ends(quality, levels):
    coarse = alpha.coarsen(np.arange(256, dtype=np.uint8), quality)
    assert len(np.unique(coarse)) == levels
    assert coarse[0] == 0 and coarse[255] == 255 and (np.diff(coarse.astype(int)) >= 0).all()
    assert np.abs(coarse.astype(int) - np.arange(256)).max() <= 127.5 / (levels - 1) + 0.5


@given(st.data())
def test_filling_touches_only_what_is_unknown(choose):
    known = choose.draw(arrays.arrays(bool, SIZES))
    channels = choose.draw(st.sampled_from([(), (3,)]))
    pixels = np.random.default_rng(0).integers(0, 256, known.shape + channels, np.uint8)
    filled = alpha.fill(pixels, known)
    assert filled.dtype == np.uint8 and filled.shape == pixels.shape
    assert np.array_equal(filled[known], pixels[known])
    if known.any():
        seen = pixels[known].reshape(-1, *channels)
        assert (filled >= seen.min(0)).all() and (filled <= seen.max(0)).all()
    else:
        assert (filled == 128).all()


def test_filling_is_smooth():
    y, x = np.mgrid[:64, :64]
    pixels = np.where((x - 32) ** 2 + (y - 32) ** 2 < 300, 100 + x // 2, 0).astype(np.uint8)
    filled = alpha.fill(pixels, pixels > 0).astype(int)
    assert max(np.abs(np.diff(filled, axis=k)).max() for k in (0, 1)) <= 12


def test_a_limit_of_the_applications_is_an_error_of_nics(monkeypatch):
    data = alpha.encode(np.zeros((24, 20), np.uint8))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(LimitExceeded, match="480 pixels"):
        alpha.decode(data, 24, 20)
