"""Encoder effort: the latents of one picture, moved on by gradient descent before they are coded.

g_a gives good latents for any picture; these go on from there, for the picture at hand, down the
gradient of bits + lmbda * squared error. Rounding is relaxed as in Yang et al. 2020, "Improving
inference for neural image compression", sec. 3.2: a residual r becomes a random mixture of floor(r)
and ceil(r), mostly of the nearer. Any latents are valid latents: the format and the decoder know
nothing of this.

Needs PyTorch. bfloat16 where the processor has it: only the encoder's choices depend on it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from nic.config import LEAKY_SLOPE
from nic.models import Model
from nic.precision import fast_dtype
from nic.prior import (
    CONTEXT_BITS,
    GAIN_BITS,
    INVERSE_BITS,
    LATENT_BITS,
    MEAN_BITS,
    SCALE_BITS,
    TAPS,
    IntegerPrior,
)
from nic.rate import gaussian_bits
from nic.tables import SCALE_MAX, SCALE_MIN, SCALES
from nic.tiles import Region
from nic.transforms import KINDS

TEMPERATURE = 0.2
"""Of the relaxed rounding. Not lowered in the course: more iterations then only go on from fewer,
and at equal iterations the result is no worse."""

LOG_SCALE_STEP = math.log(SCALE_MAX / SCALE_MIN) / (SCALES - 1)


class Refiner:
    """Refines latents of one model at one quality step."""

    def __init__(self, model: Model, step: int):
        config, prior = model.config, model.prior
        self.s = torch.tensor([config.s(step)], dtype=torch.float32)
        self.lmbda = config.lmbda(step)
        self.prior, self.relaxed = prior, RelaxedPrior(prior, step)
        self.gain = _channels(prior.gains[step] * 2.0**-GAIN_BITS)
        self.std = torch.from_numpy(model.tensors["std"].astype(np.float32))
        self.g_s = KINDS[config.transforms].Synthesis(config).requires_grad_(False)
        self.g_s.load_state_dict(
            {
                name.removeprefix("g_s."): torch.from_numpy(array.astype(np.float32))
                for name, array in model.tensors.items()
                if name.startswith("g_s.")
            }
        )
        self.g_s.to(memory_format=torch.channels_last)

    def refine(
        self,
        pixels: np.ndarray,
        v: np.ndarray,
        core: Region,
        v_hat: np.ndarray,
        hyper: np.ndarray,
        stops: Sequence[int],
        count: Callable[[int], None],
    ) -> Iterator[np.ndarray]:
        """Refined latents of a tile, (h, w, M) float32 in quantiser steps, after each of `stops`
        iterations.

        pixels: uint8, of the tile and what lies around it; v: their latents, where to begin; core:
        the tile within v; v_hat: what the tile is coded as, int32 in LATENT_BITS; hyper: the
        prior's `hyper_sums` for the tile; `count` is called with the iterations done.
        """
        x, around, sums = _grid(_samples(pixels)), _grid(v), self.relaxed.sums(hyper)
        v = around[:, :, *core].clone().requires_grad_()
        generator = torch.Generator().manual_seed(0)
        adam = torch.optim.Adam([v], betas=(0.9, 0.99))
        with torch.no_grad():
            means, levels = self.relaxed(_grid(v_hat * 2.0**-LATENT_BITS), sums)
        for i in range(1, stops[-1] + 1):
            r = _round(v - means, generator)
            relaxed = torch.where(self._coded(levels), r, 0) + means
            means, levels = self.relaxed(relaxed, sums)
            whole = around.clone()
            whole[:, :, *core] = relaxed
            cost = self._bits(relaxed - means, levels) + self.lmbda * self._squared_error(x, whole)
            adam.zero_grad()
            (cost / x[0, 0].numel()).backward()
            adam.param_groups[0]["lr"] = learning_rate(i)
            adam.step()
            means, levels = means.detach(), levels.detach()
            count(i)
            if i in stops:
                yield v.detach()[0].permute(1, 2, 0).numpy().copy()

    def _coded(self, levels: Tensor) -> Tensor:
        """Where residuals are coded, and not skipped."""
        return levels >= self.prior.skip_below - 0.5

    def _bits(self, residuals: Tensor, levels: Tensor) -> Tensor:
        """Bits of relaxed residuals, those that are skipped apart."""
        scales = SCALE_MIN * torch.exp(LOG_SCALE_STEP * levels.clamp(0, SCALES - 1))
        return (gaussian_bits(residuals, scales) * self._coded(levels)).sum()

    def _squared_error(self, x: Tensor, v: Tensor) -> Tensor:
        """In grey levels, over all pixels, the mean of their channels."""
        u = v / self.gain
        with torch.autocast("cpu", torch.bfloat16, fast_dtype() == torch.bfloat16):
            x_hat = self.g_s(u * self.std, u, self.s)[:, :, : x.shape[2], : x.shape[3]]
        if x.shape[1] == 1:
            x_hat = x_hat.mean(dim=1, keepdim=True)
        return (x_hat - x).square().mean(dim=1).sum() * 255**2


class RelaxedPrior:
    """The integer prior's networks at one quality step, without their roundings."""

    def __init__(self, prior: IntegerPrior, step: int):
        self.M = prior.gains.shape[1]
        self.dtype = fast_dtype()
        self.to_context = _channels(prior.inverses[step] * 2.0 ** (CONTEXT_BITS - INVERSE_BITS))
        self.to_means = _channels(prior.gains[step] * 2.0 ** -(MEAN_BITS + GAIN_BITS))
        self.scale_offsets = _channels(prior.scale_offsets[step])
        layer = prior.context
        window = np.zeros((*layer.weight.shape[:2], 3, 5))
        for tap, (dy, dx) in enumerate(TAPS):
            window[:, :, dy + 2, dx + 2] = layer.weight[:, :, 0, tap]
        self.context = self._weights(window, layer.bias, layer.shift)
        first, *rest = prior.entropy
        self.first_shift = first.shift
        features = first.weight[:, first.weight.shape[1] - len(layer.weight) :]
        self.first, _ = self._weights(features, first.bias, first.shift)
        self.rest = [self._weights(layer.weight, layer.bias, layer.shift) for layer in rest]

    def _weights(self, weight: np.ndarray, bias: np.ndarray, shift: int) -> tuple[Tensor, Tensor]:
        arrays = torch.from_numpy(weight * 2.0**-shift), torch.from_numpy(bias * 2.0**-shift)
        return arrays[0].to(self.dtype, memory_format=torch.channels_last), arrays[1].to(self.dtype)

    def sums(self, hyper: np.ndarray) -> Tensor:
        """`IntegerPrior.hyper_sums` -> what `__call__` takes."""
        return _grid(hyper * 2.0**-self.first_shift).to(self.dtype)

    def __call__(self, v: Tensor, sums: Tensor) -> tuple[Tensor, Tensor]:
        """v (1, M, h, w) -> means in quantiser steps, and scale levels as real numbers."""
        h = sums
        if self.first.shape[1]:
            u = (v * self.to_context).to(self.dtype)
            phi = F.conv2d(F.pad(u, (2, 2, 2, 0)), *self.context)
            h = h + F.conv2d(phi, self.first)
        for weight, bias in self.rest:
            h = F.conv2d(F.leaky_relu(h, LEAKY_SLOPE), weight, bias)
        means, levels = h.float().split(self.M, dim=1)
        return means * self.to_means, (levels + self.scale_offsets) * 2.0**-SCALE_BITS


def learning_rate(iteration: int) -> float:
    """Adam's, in quantiser steps."""
    return 0.02 * min(1.0, iteration / 3) * (1 + iteration / 50) ** -0.5


def _round(r: Tensor, generator: torch.Generator) -> Tensor:
    """A mixture of floor(r) and ceil(r), drawn from the relaxed two-valued distribution."""
    below = r.detach().floor()
    fraction = (r - below).clamp(1e-4, 1 - 1e-4)
    logits = (torch.atanh(fraction) - torch.atanh(1 - fraction)) / TEMPERATURE
    u = torch.empty_like(r).uniform_(1e-6, 1 - 1e-6, generator=generator)
    return below + torch.sigmoid((logits + u.logit()) / TEMPERATURE)


def _samples(pixels: np.ndarray) -> np.ndarray:
    """uint8 (H, W, 3) or (H, W) -> (H, W, 3 or 1) in -0.5..0.5."""
    return np.atleast_3d(pixels) / 255 - 0.5


def _channels(values: np.ndarray) -> Tensor:
    return torch.from_numpy(values.astype(np.float32)).view(1, -1, 1, 1)


def _grid(array: np.ndarray) -> Tensor:
    """(h, w, C) -> (1, C, h, w), channels last."""
    return torch.from_numpy(np.asarray(array, np.float32))[None].permute(0, 3, 1, 2)
