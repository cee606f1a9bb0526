"""Priors of random weights, latents for them, and what they must give: an oracle in int64."""

from __future__ import annotations

import numpy as np
import torch

from nic.config import ModelConfig
from nic.training.export import integer_prior
from nic.training.model import TrainableModel
from nic.wavefront import TAPS

SMALL = ModelConfig(
    "small", N=8, M=12, z_channels=4, hyper_channels=8, psi_channels=10, phi_channels=6,
    entropy_channels=(16, 16), anchors=3,
)  # fmt: skip


def lively_prior(config):
    """A prior of random weights, lively enough that means and scales differ everywhere."""
    torch.manual_seed(0)
    model = TrainableModel(config)
    parts = [model.entropy_parameters, model.context] if config.phi_channels else [model.h_s]
    for p in [p for part in parts for p in part.parameters()]:
        p.data = torch.randn_like(p) * 0.4
    model.std.uniform_(0.3, 30)
    return integer_prior(model)


def latents(h, w, scale=20.0, seed=0):
    rng = np.random.default_rng(seed)
    v = (rng.laplace(size=(h, w, SMALL.M)) * scale).astype(np.float32)
    z_hat = rng.integers(-4, 5, (-(-h // 4), -(-w // 4), SMALL.z_channels)).astype(np.float64)
    return v, z_hat


def raster(h, w):
    """Positions one by one: not the order of the format, but it must give the same integers."""
    for k in range(h * w):
        yield np.array([k // w]), np.array([k % w])


def oracle(prior, v, z_hat, step):
    """Encode position by position with int64 alone, straight from the definitions."""

    def finish(acc, layer):
        value = (acc + (1 << layer.shift - 1)) >> layer.shift if layer.shift else acc
        value = np.clip(value, -layer.limit, layer.limit)
        return np.where(value < 0, value >> 3, value) if layer.leaky else value

    def convolve(x, layer):
        h, w, _ = x.shape
        k = layer.weight.shape[2] // 2
        padded = np.pad(x, ((k, k), (k, k), (0, 0)))
        weight = layer.weight.astype(np.int64)
        out = np.empty((h, w, len(weight)), np.int64)
        for i in range(h):
            for j in range(w):
                window = padded[i : i + 2 * k + 1, j : j + 2 * k + 1].transpose(2, 0, 1)
                out[i, j] = finish((weight * window).sum((1, 2, 3)) + layer.bias, layer)
        return out

    def shuffle(x):
        h, w, c = x.shape
        out = np.empty((2 * h, 2 * w, c // 4), np.int64)
        for dy in (0, 1):
            for dx in (0, 1):
                out[dy::2, dx::2] = x[:, :, 2 * dy + dx :: 4]
        return out

    h, w, M = v.shape
    x = z_hat.astype(np.int64)
    for layer in prior.hyper[:-1]:
        x = shuffle(convolve(x, layer))
    psi = convolve(x, prior.hyper[-1])
    v_hat = np.zeros((h, w, M), np.int64)
    u_hat = np.zeros((h, w, M), np.int64)
    gain, inverse = prior.gains[step].astype(np.int64), prior.inverses[step].astype(np.int64)
    for i in range(h):
        for j in range(w):
            acc = prior.context.bias.copy()
            for k, (dy, dx) in enumerate(TAPS):
                if 0 <= i + dy and 0 <= j + dx < w:
                    tap = prior.context.weight[:, :, 0, k].astype(np.int64)
                    acc += tap @ u_hat[i + dy, j + dx]
            features = np.concatenate([psi[i, j], finish(acc, prior.context)])
            for n, layer in enumerate(prior.entropy):
                acc = layer.weight[:, :, 0, 0].astype(np.int64) @ features + layer.bias
                acc = acc + prior.quality_bias[step] if n == 0 else acc
                features = finish(acc, layer)
            means = (features[:M] * gain + (1 << 21)) >> 22
            levels = np.clip((features[M:] + prior.scale_offsets[step] + 128) >> 8, 0, 63)
            residuals = np.floor(v[i, j] - means / 64 + 0.5).astype(np.int64)
            residuals[levels < prior.skip_below] = 0
            v_hat[i, j] = 64 * residuals + means
            u_hat[i, j] = np.clip((v_hat[i, j] * inverse + (1 << 20)) >> 21, -32767, 32767)
    return v_hat
