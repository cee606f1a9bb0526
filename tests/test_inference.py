"""The networks in NumPy are those that were trained."""

import numpy as np
import pytest

from nic import inference
from nic.config import ModelConfig
from nic.grids import shuffle, unshuffle
from nic.inference import Networks

torch = pytest.importorskip("torch")

from nic.training.model import TrainableModel  # noqa: E402

SMALL = ModelConfig("small", N=8, M=12, z_channels=4, hyper_channels=8, anchors=3)


@pytest.fixture(scope="module")
def trained():
    """Random weights, none of them silent."""
    torch.manual_seed(1)
    model = TrainableModel(SMALL)
    for p in model.parameters():
        p.data += 0.1 * torch.randn_like(p)
    model.std.uniform_(0.3, 3)
    return model.requires_grad_(False)


@pytest.mark.parametrize("s", [0.0, 0.37, 0.5, 1.0])
def test_numpy_and_torch_agree(trained, s):
    tensors = {name: value.numpy() for name, value in trained.state_dict().items()}
    networks = Networks(SMALL, tensors)
    x = np.random.default_rng(0).uniform(-0.5, 0.5, (64, 128, 3)).astype(np.float32)
    quality = torch.tensor([s])
    expected = trained.g_a(torch.from_numpy(x).permute(2, 0, 1)[None], quality) / trained.std
    u = networks.analyse(x, s)
    np.testing.assert_allclose(u, expected[0].permute(1, 2, 0), atol=1e-4)
    z = trained.h_a(expected, quality)
    np.testing.assert_allclose(networks.hyper_analyse(u, s), z[0].permute(1, 2, 0), atol=1e-4)
    x_hat = trained.g_s(expected * trained.std, expected, quality)
    np.testing.assert_allclose(networks.synthesise(u, s), x_hat[0].permute(1, 2, 0), atol=1e-5)


@pytest.mark.parametrize("n", [2, 8])
def test_shuffles_are_those_of_torch(n):
    x = np.random.default_rng(0).normal(size=(2, 3, 2 * n * n))
    expected = torch.nn.functional.pixel_shuffle(torch.from_numpy(x).permute(2, 0, 1), n)
    np.testing.assert_array_equal(shuffle(x, n), expected.permute(1, 2, 0))
    np.testing.assert_array_equal(unshuffle(shuffle(x, n), n), x)


def test_windows_leave_no_seam(trained, monkeypatch):
    tensors = {name: value.numpy() for name, value in trained.state_dict().items()}
    networks = Networks(SMALL, tensors)
    x = np.random.default_rng(0).uniform(-0.5, 0.5, (320, 208, 3)).astype(np.float32)
    whole = networks.analyse(x, 0.5)
    image = networks.synthesise(whole, 0.5)
    monkeypatch.setattr(inference, "WINDOW", 6)
    np.testing.assert_allclose(networks.analyse(x, 0.5), whole, atol=1e-5)
    np.testing.assert_allclose(networks.synthesise(whole, 0.5), image, atol=1e-6)
