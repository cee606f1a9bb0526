"""Where training starts: at a working transform codec, made from the training images alone."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nic.config import BASE_STEP, LATENT_STRIDE, Y_SCALE
from nic.training.data import CropDataset
from nic.training.model import TrainableModel


def start(model: TrainableModel, dataset: CropDataset, rng: np.random.Generator) -> None:
    """Set g_a, g_s and the whitening `std` of a fresh model."""
    {"block": as_block_transform, "gdn": as_cascade}[model.config.transforms](model, dataset, rng)


def as_block_transform(
    model: TrainableModel, dataset: CropDataset, rng: np.random.Generator
) -> None:
    """Make the linear paths the principal components of 16x16 blocks; networks start silent."""
    components, std = principal_components(dataset, model.config.M, LATENT_STRIDE, rng)
    components = torch.from_numpy(components).float()
    model.g_a.linear.weight.data.copy_(components / BASE_STEP)
    model.g_s.linear.weight.data.copy_(components.flatten(1).T[:, :, None, None] / BASE_STEP)
    for linear in (model.g_a.linear, model.g_s.linear):
        nn.init.zeros_(linear.bias)
    model.std.copy_(torch.from_numpy(std).float().view(1, -1, 1, 1) / BASE_STEP)


@torch.no_grad()
def as_cascade(model: TrainableModel, dataset: CropDataset, rng: np.random.Generator) -> None:
    """Make each convolution of the papers' g_a the principal components of 2x2 blocks of its input,
    and g_s the way back.

    Channels for which there are no components keep their random kernels; in g_s, nothing that
    leads to pixels listens to them yet. GDN starts close to the identity.
    """
    crops = dataset.batch(max(1, 2**21 // dataset.crop**2), rng)
    x = crops.to(model.std.device)
    live = 3
    for k, (forward, backward) in enumerate(zip(model.g_a.conv, reversed(model.g_s.conv))):
        components = _components(F.pixel_unshuffle(x[:, :live], 2))[: len(forward.weight)]
        _set_components(forward, backward, components, live)
        live = len(components)
        x = forward(x)
        if k < 3:
            x = model.g_a.gdn[k](x)
    y = x * Y_SCALE
    model.std.copy_(y.square().mean((0, 2, 3), keepdim=True).sqrt().clamp(min=1e-3))
    z = model.h_a(y / model.std, torch.full((len(y),), 0.5, device=y.device))
    model.h_a.conv[-1].weight /= z.square().mean((0, 2, 3)).sqrt().view(-1, 1, 1, 1)


def _components(features: Tensor) -> Tensor:
    """(B, C, h, w) -> (C, C) orthonormal rows, the one of the largest second moment first."""
    rows = features.permute(1, 0, 2, 3).flatten(1)
    return torch.linalg.eigh((rows @ rows.T).double())[1].flip(1).T.float()


def _set_components(forward: nn.Conv2d, backward: nn.Conv2d, components: Tensor, live: int) -> None:
    """components: (n, 4 live), of 2x2 blocks of the first `live` channels."""
    n = len(components)
    forward.weight[:n] = 0
    forward.weight[:n, :live, 2:4, 2:4] = components.view(n, live, 2, 2) / 2
    forward.bias[:n] = 0
    backward.weight[: 4 * live] = 0
    backward.weight[: 4 * live, :n, 1, 1] = 2 * components.T
    backward.bias[: 4 * live] = 0


def principal_components(
    dataset: CropDataset, count: int, block: int, rng: np.random.Generator, crops: int = 1500
) -> tuple[np.ndarray, np.ndarray]:
    """The first components of the training images' blocks, for the transforms to start from.

    Returns (count, 3, block, block) orthonormal components, largest variance first, and the
    (count,) root mean squares of their coefficients, pixels in 0..1 less one half.
    """
    size = 3 * block * block
    moment = np.zeros((size, size))
    total = 0
    for _ in range(crops):
        x = dataset.batch(1, rng)[0].cpu().numpy()
        n = dataset.crop // block
        patches = x.reshape(3, n, block, n, block).transpose(1, 3, 0, 2, 4).reshape(n * n, size)
        moment += patches.T @ patches
        total += n * n
    variances, vectors = np.linalg.eigh(moment / total)
    order = np.argsort(variances)[::-1][:count]
    std = np.sqrt(np.maximum(variances[order], 1e-8))
    return vectors[:, order].T.reshape(count, 3, block, block), std
