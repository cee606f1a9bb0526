"""The networks in NumPy are those that were trained."""

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from nic.architecture import transform_tensors
from nic.config import ModelConfig
from nic.grids import shuffle, unshuffle
from nic.inference import make_networks, winograd
from nic.inference.networks import PIECE_BYTES

torch = pytest.importorskip("torch")

from nic.training.model import TrainableModel  # noqa: E402
from nic.transforms import block, load  # noqa: E402

SMALL = {"N": 8, "M": 12, "z_channels": 4, "hyper_channels": 8, "anchors": 3}
KINDS = [
    ModelConfig("block", **SMALL),
    ModelConfig("block with detail", **SMALL, detail_blocks=2, detail_channels=6),
    ModelConfig("gdn", **SMALL, transforms="gdn"),
    ModelConfig("gdn, scales only", **SMALL, transforms="gdn", means=False, phi_channels=0),
]


@pytest.fixture(scope="module", params=KINDS, ids=lambda config: config.name)
def trained(request):
    """Random weights, none of them silent."""
    torch.manual_seed(1)
    model = TrainableModel(request.param)
    for p in model.parameters():
        p.data += 0.1 * torch.randn_like(p)
    model.std.uniform_(0.3, 3)
    return model.requires_grad_(False)


def check_close(found, expected):
    """Rounding apart, by the size of the largest number."""
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("s", [0.0, 0.37, 0.5, 1.0])
@pytest.mark.parametrize("piece, threads", [(1, 2), (2**14, 1), (2**14, 3), (PIECE_BYTES, 2)])
def test_numpy_and_torch_agree(trained, s, piece, threads, monkeypatch):
    monkeypatch.setattr("nic.inference.networks.PIECE_BYTES", piece)
    with threadpool_limits(threads, "blas"):
        check_networks(trained, s)


def check_networks(trained, s):
    tensors = {name: value.numpy() for name, value in trained.state_dict().items()}
    networks = make_networks(trained.config, tensors)
    x = np.random.default_rng(0).uniform(-0.5, 0.5, (64, 128, 3)).astype(np.float32)
    quality = torch.tensor([s])
    y = trained.g_a(torch.from_numpy(x).permute(2, 0, 1)[None], quality)
    expected = y / trained.std
    u = networks.analyse(x, s)
    check_close(u, _plain(expected))
    check_close(networks.hyper_analyse(u, s), _plain(trained.h_a(expected, quality)))
    check_close(networks.synthesise(u, s), _plain(trained.g_s(y, expected, quality)))


def _plain(x):
    return x[0].permute(1, 2, 0).numpy()


@pytest.mark.parametrize("piece, threads", [(1, 3), (2**15, 2), (winograd.PIECE_BYTES, 1)])
@pytest.mark.parametrize("h, w", [(1, 1), (4, 4), (5, 3), (2, 17), (33, 40)])
def test_winograd_convolves(h, w, piece, threads, monkeypatch):
    monkeypatch.setattr(winograd, "PIECE_BYTES", piece)
    rng = np.random.default_rng(0)
    x, weight = rng.normal(size=(h, w, 5)), rng.normal(size=(7, 5, 3, 3))
    grid = torch.from_numpy(x).permute(2, 0, 1)[None]
    expected = torch.nn.functional.conv2d(grid, torch.from_numpy(weight), padding=1)
    kernels = winograd.transformed(weight.astype(np.float32))
    with threadpool_limits(threads, "blas"):
        doubled = winograd.convolve(x.astype(np.float32), kernels, lambda sums: 2 * sums)
    check_close(doubled, 2 * _plain(expected))


@pytest.mark.parametrize("n", [2, 8])
def test_shuffles_are_those_of_torch(n):
    x = np.random.default_rng(0).normal(size=(2, 3, 2 * n * n))
    expected = torch.nn.functional.pixel_shuffle(torch.from_numpy(x).permute(2, 0, 1), n)
    np.testing.assert_array_equal(shuffle(x, n), expected.permute(1, 2, 0))
    np.testing.assert_array_equal(unshuffle(shuffle(x, n), n), x)


@pytest.mark.parametrize("fine", [0, 1, 3, 6])
@pytest.mark.parametrize("detail", [0, 1, 3, 4])
def test_networks_see_as_far_as_they_say(fine, detail):
    """Weights are positive, biases zero, and so are all pixels or latents but one: what is not zero
    in the end depends on it."""
    config = ModelConfig(
        "x", N=2, M=3, z_channels=1, hyper_channels=2, anchors=2, fine_blocks=fine,
        detail_blocks=detail, detail_channels=2,
    )  # fmt: skip
    shapes = transform_tensors(config).items()
    tensors = {n: np.full(s, 0 if n.endswith("bias") else 0.2, np.float16) for n, s in shapes}
    networks, quality = make_networks(config, tensors), torch.tensor([0.5])
    # PyTorch's, whose zeros are exact.
    g_a = load(block.Analysis(config), "g_a", tensors)
    g_s = load(block.Synthesis(config), "g_s", tensors)
    size, filtered = 2 * networks.reach + 5, 2
    at, reaches = size // 2, []
    for row in (16 * at, 16 * at + 15):
        x = torch.zeros(1, 3, 16 * size, 16)
        x[:, :, row] = 1
        rows = g_a(x, quality).nonzero()[:, 2]
        reaches += [at - rows.min(), rows.max() - at]
    u = torch.zeros(1, 3, size, 1)
    u[:, :, at] = 1
    rows = g_s(u, u, quality).nonzero()[:, 2]
    reaches += [at - (rows.min() - filtered) // 16, (rows.max() + filtered) // 16 - at]
    assert max(reaches) == networks.reach


def test_windows_leave_no_seam(trained, monkeypatch):
    tensors = {name: value.numpy() for name, value in trained.state_dict().items()}
    networks = make_networks(trained.config, tensors)
    x = np.random.default_rng(0).uniform(-0.5, 0.5, (320, 208, 3)).astype(np.float32)
    whole = networks.analyse(x, 0.5)
    image = networks.synthesise(whole, 0.5)
    monkeypatch.setattr(type(networks), "window", 6)
    check_close(networks.analyse(x, 0.5), whole)
    check_close(networks.synthesise(whole, 0.5), image)
