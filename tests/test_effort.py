"""Effort and targets, with the shipped model on small pictures and real files."""

import os

import numpy as np
import pytest

from nic import codec, effort
from nic.errors import InputError
from nic.picture import Picture


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    """(64, 80, 3) uint8: smooth, with edges and noise."""
    rng = np.random.default_rng(3)
    y, x = np.mgrid[:64, :80]
    smooth = np.stack([3 * x, 4 * y, 200 * (x > y)], axis=-1)
    return np.clip(smooth + rng.normal(0, 2, smooth.shape), 0, 255).astype(np.uint8)


def cost(data: bytes, pixels: np.ndarray, quality: float, model) -> float:
    """bits + lmbda * squared error, channels averaged."""
    error = codec.decode(data, model=model).pixels.astype(float) - pixels
    lmbda = effort.lmbda(model.config, codec.quality_step(quality))
    return 8 * len(data) + lmbda * np.square(error).mean() * pixels.shape[0] * pixels.shape[1]


@pytest.mark.parametrize("gray", [False, True])
@pytest.mark.parametrize("quality", [15, 70])
def test_more_effort_never_costs_more(model, pixels, quality, gray):
    pytest.importorskip("torch")
    shown = pixels[:, :, 0] if gray else pixels[:50, :70]
    files = [codec.encode(Picture(shown), quality, effort=e, model=model) for e in range(7)]
    costs = [cost(data, shown, quality, model) for data in files]
    assert costs == sorted(costs, reverse=True)
    assert costs[6] < costs[0]


def test_refinement_is_the_same_each_time(model, pixels):
    pytest.importorskip("torch")
    files = {codec.encode(Picture(pixels), 40, effort=5, model=model) for _ in range(2)}
    assert len(files) == 1


def test_refinement_names_what_it_needs(model, pixels, monkeypatch):
    monkeypatch.setattr("nic.extras.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"torch not installed.*nic\[train\]"):
        codec.encode(Picture(pixels), effort=effort.REFINED[0], model=model)


@pytest.mark.parametrize("own, expected", [(None, "passive"), ("active", "active")])
def test_refinement_lets_threads_wait_asleep(model, pixels, own, expected, monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.setenv("OMP_WAIT_POLICY", own or "")  # as it was, after the test
    if not own:
        monkeypatch.delenv("OMP_WAIT_POLICY")
    codec.encode(Picture(pixels), effort=3, model=model)
    assert os.environ.get("OMP_WAIT_POLICY") == own
    codec.encode(Picture(pixels), effort=effort.REFINED[0], model=model)
    assert os.environ["OMP_WAIT_POLICY"] == expected


@pytest.mark.parametrize("effort", [-1, 10, "much", 2.5])
def test_unknown_effort(model, pixels, effort):
    with pytest.raises(InputError, match="effort"):
        codec.encode(Picture(pixels), effort=effort, model=model)


@pytest.mark.parametrize("size", [150, 400, 1000])
def test_size_is_met_from_below(model, pixels, size):
    data = codec.encode(Picture(pixels), size=size, model=model)
    assert 0.99 * size <= len(data) <= size
    by_rate = codec.encode(Picture(pixels), bpp=8 * size / (64 * 80), model=model)
    assert by_rate == data


def test_size_counts_everything_in_the_file(model, pixels):
    opacity = np.broadcast_to(np.arange(80, dtype=np.uint8), (64, 80))
    data = codec.encode(Picture(pixels, opacity, exif=bytes(range(200))), size=1200, model=model)
    assert 1188 <= len(data) <= 1200


@pytest.mark.parametrize("size", [60, 10**6])
def test_size_out_of_reach(model, pixels, size):
    with pytest.raises(InputError, match=r"bytes are .* for this picture|than this picture can"):
        codec.encode(Picture(pixels), size=size, model=model)


@pytest.mark.parametrize("target", [29.0, 31.5])
def test_psnr_is_met(model, pixels, target):
    data = codec.encode(Picture(pixels), psnr=target, model=model)
    error = codec.decode(data, model=model).pixels.astype(float) - pixels
    assert abs(10 * np.log10(255**2 / np.square(error).mean()) - target) <= 0.05


def test_one_target_at_a_time(model, pixels):
    with pytest.raises(InputError, match="only one"):
        codec.encode(Picture(pixels), 50, size=1000, model=model)
