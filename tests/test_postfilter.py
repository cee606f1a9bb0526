"""The post-filter: bytes, flows, the encoder's fit, gradients."""

from __future__ import annotations

import crafted
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from vectors.make import COLOUR, FOLDER, NIC_1, picture

from nic import alpha, codec, container, models
from nic.effort import lmbda
from nic.errors import ChecksumError, FormatError
from nic.fidelity import psnr
from nic.picture import Picture
from nic.postfilter import WEIGHT_COUNTS, Component, components, filtered, threshold
from nic.postfilter_chunk import pack, unpack
from nic.postfilter_fit import fit

WHOLE, ALL = (slice(0, 48), slice(0, 64)), np.ones((48, 64), bool)


def component(number: int):
    weights = arrays(np.int8, WEIGHT_COUNTS[number])
    return st.none() | st.builds(Component, st.integers(1, 255), weights)


COLOURS = st.tuples(*map(component, range(3)))


def alone(number: int, term: int, weight: int, code: int = 100) -> list[Component | None]:
    """A filter of one weight."""
    weights = np.zeros(WEIGHT_COUNTS[number], np.int8)
    weights[term] = weight
    return [Component(code, weights) if k == number else None for k in range(3)]


def same(a, b) -> bool:
    return all(
        (x is None) == (y is None)
        and (x is None or (x.code == y.code and (x.weights == y.weights).all()))
        for x, y in zip(a, b, strict=True)
    )


# Bytes


def test_exact_bytes():
    luma = Component(7, np.array([1, -1, *[0] * 21, -128], np.int8))
    green = Component(255, np.arange(12, dtype=np.int8))
    data = pack([[luma, None, green], [None] * 3, ()])
    assert data == bytes.fromhex(f"05 07 01ff {'00' * 21} 80 ff 000102030405060708090a0b 00 00")
    assert pack([[None] * 3, ()]) == b""


@given(st.lists(COLOURS, min_size=1, max_size=5))
def test_filters_come_back(filters):
    data = pack(filters)
    if data:
        assert all(map(same, unpack(data, len(filters), gray=False), filters))


@pytest.mark.parametrize(
    "data, gray, what",
    [
        (b"", False, "short"),
        (b"\x01\x05" + bytes(23), False, "short"),
        (b"\x01", True, "short"),
        (b"\0\0", False, "long"),
        (b"\x08", False, "unknown"),
        (b"\x02\x05" + bytes(12), True, "unknown"),
        (b"\x01" + bytes(25), False, "threshold"),
    ],
)
def test_malformed_chunks_are_refused(data, gray, what):
    with pytest.raises(FormatError, match=f"chunk f .*{what}"):
        unpack(data, 1, gray)


def test_a_malformed_chunk_is_an_error_of_the_file():
    data = codec.encode(Picture(picture(9, 7)), 40, effort=0)
    header, chunks = container.read(data)
    with pytest.raises(FormatError, match="chunk f is too short"):
        codec.decode(crafted.rewritten(header, chunks | {"f": b"\x01"}))


def test_a_damaged_chunk_is_left_out_where_tiles_are_kept():
    data = bytearray((FOLDER / "tiles-filtered-1040x24-q30.nic").read_bytes())
    plain = (FOLDER / "tiles-1040x24-q30.nic").read_bytes()
    model = models.load(NIC_1)
    data[-8] ^= 1
    with pytest.raises(ChecksumError):
        codec.decode(bytes(data), model=model)
    with pytest.warns(UserWarning, match="post-filters are damaged"):
        found = codec.decode(bytes(data), keep_going=True, model=model)
    np.testing.assert_array_equal(found.pixels, codec.decode(plain, model=model).pixels)


# What it does


def test_flow_between_neighbours():
    x = np.zeros((3, 4), np.float32)
    x[1, 1] = 1
    # With its left and its right neighbour, a quarter of each difference.
    [luma, *_] = alone(0, 0, 64)
    expected = np.zeros((3, 4))
    expected[1] = [0.25, 0.5, 0.25, 0]
    np.testing.assert_array_equal(filtered(x, [luma]), expected)


def test_clipped_flow_has_a_limit():
    code = 16 * 8
    assert threshold(code) == pytest.approx(16 / 255)
    x = np.array([[0, 10, 110]], np.float32) / 255
    [luma, *_] = alone(0, 1, 64, code)
    np.testing.assert_allclose(filtered(x, [luma]) * 255, [[2.5, 11.5, 106]], rtol=1e-5)


def test_luma_moves_green():
    x = np.zeros((1, 2, 3), np.float32)
    x[0, 1] = 0.3
    y = filtered(x, alone(2, 8, 64))
    np.testing.assert_allclose(y[0, 0], [0.075, -0.15, 0.075], atol=1e-6)
    np.testing.assert_allclose(y.mean(axis=2), x.mean(axis=2), atol=1e-6)


@given(
    arrays(np.float32, st.tuples(st.integers(1, 70), st.integers(1, 9), st.just(3)),
           elements=st.floats(-0.5, 0.5, width=32)),
    COLOURS,
)  # fmt: skip
def test_what_flows_out_flows_in(x, post_filter):
    before, after = (
        np.array([p.sum() for p in components(y)]) for y in (x, filtered(x, post_filter))
    )
    np.testing.assert_allclose(after, before, atol=2e-3)
    flat = np.full_like(x, 0.25)
    np.testing.assert_array_equal(filtered(flat, post_filter), flat)


def test_components_make_the_colours_again():
    x = np.random.default_rng(0).random((5, 6, 3))
    luma, blue, green = components(x)
    colours = np.stack([luma + blue + green, luma - 2 * green, luma - blue + green], axis=2)
    np.testing.assert_allclose(colours, x)


# The encoder's choice


def blurred(pixels: np.ndarray) -> np.ndarray:
    """Samples of the pixels, smoothed."""
    x = pixels / np.float32(255) - np.float32(0.5)
    return (x + np.roll(x, 1, 0) + np.roll(x, 1, 1) + np.roll(x, (1, 1), (0, 1))) / 4


def squared(x: np.ndarray, pixels: np.ndarray) -> float:
    """Squared error in grey levels, the mean of the channels."""
    error = np.square((x + 0.5) * 255 - pixels)
    return float(error.sum() / (3 if x.ndim == 3 else 1))


@pytest.mark.parametrize("gray", [False, True])
def test_what_is_chosen_pays(gray):
    pixels, value = picture(64, 48, gray), 0.02
    x_hat = blurred(pixels)
    chosen = fit(x_hat, pixels, WHOLE, ALL, value)
    gain = squared(x_hat, pixels) - squared(filtered(x_hat, chosen), pixels)
    assert value * gain > 8 * len(pack([chosen])) > 0
    assert fit(x_hat, pixels, WHOLE, ALL, value / 1e4) == [None] * len(chosen)


def test_nothing_is_chosen_where_nothing_is_wrong():
    pixels = picture(64, 48)
    exact = pixels / np.float32(255) - np.float32(0.5)
    assert fit(exact, pixels, WHOLE, ALL, 1e9) == [None] * 3


def test_what_is_hidden_does_not_count():
    pixels, shown = picture(64, 48), np.ones((48, 64), bool)
    shown[:, 40:] = False
    other = pixels.copy()
    other[~shown] = np.random.default_rng(1).integers(0, 256, (48 * 24, 3))
    x_hat = blurred(pixels)
    assert not fit(x_hat, other, WHOLE, np.zeros_like(shown), 1.0)[0]
    masked, whole = (fit(x_hat, other, WHOLE, mask, 1.0) for mask in (shown, ALL))
    errors = [squared(filtered(x_hat, f)[:, :38], pixels[:, :38]) for f in (masked, whole)]
    assert errors[0] < errors[1]


def test_a_tile_is_fitted_with_what_lies_around_it():
    pixels = picture(64, 48)
    x_hat, at = blurred(pixels), (slice(9, 40), slice(0, 50))
    chosen = fit(x_hat, pixels[at], at, ALL[at], 1.0)
    gain = squared(x_hat[at], pixels[at]) - squared(filtered(x_hat, chosen)[at], pixels[at])
    assert gain > 0.2 * squared(x_hat[at], pixels[at])


# Files


def test_files_have_it_from_effort_1_and_are_better_for_it(model):
    source = Picture(picture(300, 200))
    plain, own = (codec.encode(source, 60, effort=effort, model=model) for effort in (0, 1))
    header, chunks = container.read(own)
    assert (header.version, container.read_header(plain).version) == ((1, 1), (1, 0))
    # A reader that skips the chunk has the plain file.
    assert crafted.rewritten(header, {k: v for k, v in chunks.items() if k != "f"}) == plain
    a, b = (psnr(source.pixels, codec.decode(data, model=model).pixels) for data in (plain, own))
    assert b > a + 0.05
    assert codec.encode(source, 60, effort=3, model=model) == own


def graphic() -> np.ndarray:
    """Rectangles of saturated colours."""
    pixels = np.full((128, 128, 3), 255, np.uint8)
    pixels[20:60, 30:90], pixels[70:110, 10:50] = (255, 0, 0), 0
    return pixels


@pytest.mark.parametrize("size", [182, 250, 700])
def test_a_size_is_met_whether_or_not_a_filter_fits(model, size):
    data = codec.encode(Picture(graphic()), size=size, effort=1, model=model)
    assert 0.99 * size <= len(data) <= size


def test_transparency_is_coded_once(model, monkeypatch):
    calls, encode = [], alpha.encode
    monkeypatch.setattr(alpha, "encode", lambda *args: calls.append(args) or encode(*args))
    opacity = np.arange(900, dtype=np.uint8).reshape(30, 30)
    codec.encode(Picture(picture(30, 30), opacity), 50, model=model)
    assert len(calls) == 1


@pytest.mark.parametrize("quality", [15, 40])
def test_effort_1_costs_no_more_than_0(model, quality):
    pixels, costs = graphic(), []
    for effort in (0, 1):
        data = codec.encode(Picture(pixels), quality, effort=effort, model=model)
        error = codec.decode(data, model=model).pixels.astype(float) - pixels
        value = lmbda(model.config, codec.quality_step(quality))
        costs.append(8 * len(data) + value * np.square(error).mean(axis=2).sum())
    assert costs[1] <= costs[0]


def test_windows_on_a_device_show_no_seam(model):
    pytest.importorskip("torch")
    from nic.inference.on_device import DeviceNetworks

    networks = DeviceNetworks(model.config, model.tensors, torch_device())
    u_hat = np.random.default_rng(2).normal(size=(4, 20, model.config.M)).astype(np.float32)
    whole = networks.render(u_hat, 0.5, False, COLOUR)
    networks.window = 4
    assert 2 * networks.reach + networks.window < 20
    parts = networks.render(u_hat, 0.5, False, COLOUR)
    expected = model.networks.render(u_hat, 0.5, False, COLOUR)
    for found in (whole, parts):
        assert np.abs(found.astype(int) - expected).max() <= 1


def torch_device():
    import torch

    return torch.device("cpu")


# Gradients


@pytest.mark.parametrize("shape", [(7, 9, 3), (66, 3)])
def test_gradients(shape):
    torch = pytest.importorskip("torch")
    from nic.postfilter_grad import Filtered

    x = (
        torch.rand(shape, dtype=torch.float64, generator=torch.manual_seed(0)) - 0.5
    ).requires_grad_()
    own = COLOUR[: 3 if len(shape) == 3 else 1]
    assert torch.autograd.gradcheck(lambda x: Filtered.apply(x, own), (x,))
    np.testing.assert_allclose(Filtered.apply(x, own).detach(), filtered(x.detach().numpy(), own))
