"""Encoder effort: the latents of one picture, moved on by gradient descent before they are coded.

g_a and h_a give good latents and hyperlatents for any picture; these go on from there, for the
picture at hand, down the gradient of bits + lmbda * squared error. Rounding is relaxed as in Yang
et al. 2020, "Improving inference for neural image compression", sec. 3.2: a residual r becomes a
random mixture of floor(r) and ceil(r), mostly of the nearer. The error is that of the pixels which
the post-filter gives. Any latents are valid latents: the format and the decoder know nothing of
this.

Nearly all the work is in the networks, so what they say serves for several steps. A gradient of the
error, through g_s, is followed by LOOKS gradients of the bits, through the prior's networks, and
each of these by STEPS steps of the latents. Until its next gradient, the error is taken for
quadratic around the latents to be expected, with one curvature a channel. Until the prior is asked
again, means and scales stay as they are, and what a latent does to those of others is linear.

Needs PyTorch, on the device that the model codes on. bfloat16 where that has it: only the encoder's
choices depend on it.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from nic.channel_adam import ChannelAdam
from nic.config import LEAKY_SLOPE
from nic.device import memory_errors
from nic.models import Model
from nic.postfilter import PostFilter
from nic.postfilter_grad import Filtered
from nic.precision import fast_dtype
from nic.prior import (
    CONTEXT_BITS,
    GAIN_BITS,
    INVERSE_BITS,
    LATENT_BITS,
    MEAN_BITS,
    SCALE_BITS,
    IntegerPrior,
)
from nic.quantizer import residual
from nic.range_coder import PRECISION
from nic.rate import gaussian_bits, gaussian_bits_slope
from nic.regions import Region
from nic.tables import SCALE_MAX, SCALE_MIN, SCALES
from nic.transforms import KINDS, load, to_array, to_grid
from nic.wavefront import TAPS

TEMPERATURE = 0.2
"""Of the relaxed rounding. Not lowered in the course: more iterations then only go on from fewer,
and at equal iterations the result is no worse."""

LOOKS = 8
"""Gradients of the bits for each gradient of the error."""

STEPS = 8
"""Of the latents for each gradient of the bits."""

RATE, Z_RATE = 0.004, 0.04
"""By about how much latents, and hyperlatents, move at first in a step, in quantiser steps."""

PROBE = 0.3
"""By how much, in quantiser steps, latents are moved to see how the error's gradient changes: less
than rounding moves them, and enough for bfloat16."""

LOG_SCALE_STEP = math.log(SCALE_MAX / SCALE_MIN) / (SCALES - 1)


_lock, _running, _deterministic = threading.Lock(), 0, False


@contextmanager
def refining() -> Iterator[None]:
    """What refinement needs: gradients, though the caller may have switched them off; convolutions
    on a GPU that give the same each time, since a higher effort goes through what a lower one does,
    and the file that a search found may be made once more; MemoryError where a GPU's is too small.
    """
    global _running, _deterministic
    with _lock:
        _running += 1
        if _running == 1:
            _deterministic = torch.backends.cudnn.deterministic
            torch.backends.cudnn.deterministic = True
    try:
        with memory_errors(), torch.inference_mode(False), torch.enable_grad():
            yield
    finally:
        with _lock:
            _running -= 1
            if not _running:
                torch.backends.cudnn.deterministic = _deterministic


class Objective:
    """What bits and squared error of one model depend on at one quality step; for all tiles."""

    def __init__(self, model: Model, step: int, lmbda: float):
        config, prior, device = model.config, model.prior, model.place
        self.device, self.lmbda = device, lmbda
        self.s = torch.tensor([config.s(step)], dtype=torch.float32, device=device)
        self.prior, self.relaxed = prior, RelaxedPrior(prior, step, device)
        self.gain = _channels(prior.gains[step] * 2.0**-GAIN_BITS, device)
        self.std = _channels(model.tensors["std"], device)
        g_s = load(KINDS[config.transforms].Synthesis(config), "g_s", model.tensors)
        self.g_s = g_s.to(device)

    def coded(self, levels: Tensor) -> Tensor:
        """Where residuals are coded, and not skipped."""
        return levels >= self.prior.skip_below - 0.5

    def scales(self, levels: Tensor) -> Tensor:
        """Of residuals, in quantiser steps."""
        return SCALE_MIN * torch.exp(LOG_SCALE_STEP * levels.clamp(0, SCALES - 1))

    def squared_error(self, x: Tensor, v: Tensor, post_filter: PostFilter) -> Tensor:
        """Of latents v, (1, M, h, w) in quantiser steps, whose pixels should be x, (H, W, 3) or
        (H, W) samples: in squared grey levels, over all pixels, the mean of their channels."""
        u = v / self.gain
        fast = fast_dtype(self.device) == torch.bfloat16
        with torch.autocast(self.device.type, torch.bfloat16, fast):
            x_hat = self.g_s(u * self.std, u, self.s)[0].permute(1, 2, 0)
        x_hat = Filtered.apply(x_hat.mean(dim=2) if x.ndim == 2 else x_hat, post_filter)
        error = x_hat[: len(x), : x.shape[1]] - x
        return error.square().sum() * (255**2 / (1 if x.ndim == 2 else 3))


class Refinement:
    """The latents of one tile on their way down.

    pixels: uint8, of the tile and what lies around it; v: their latents, (h, w, M) float32 in
    quantiser steps, where to begin; core: the tile within v; v_hat: what the tile is coded as,
    int32 in LATENT_BITS; z: the tile's hyperlatents, (hz, wz, channels) float32, where to begin.
    """

    def __init__(
        self,
        objective: Objective,
        pixels: np.ndarray,
        v: np.ndarray,
        core: Region,
        v_hat: np.ndarray,
        z: np.ndarray,
    ):
        self.objective, self.core, self.iterations = objective, core, 0
        device = objective.device
        self.x = torch.from_numpy(pixels / np.float32(255) - np.float32(0.5)).to(device)
        self.around = to_grid(v).to(device)
        self.v = self.around[:, :, *core].clone()
        self.z = to_grid(z).to(device).clone()
        self.generator = torch.Generator(device).manual_seed(0)
        self.curvature: Tensor | None = None
        self.v_adam, self.z_adam = ChannelAdam(self.v), ChannelAdam(self.z)
        with torch.no_grad():
            coded = to_grid(v_hat * 2.0**-LATENT_BITS).to(device)
            self._predict(*objective.relaxed(coded, residual(self.z, 0.0)))

    def advance(
        self, until: int, post_filter: PostFilter, count: Callable[[int], None]
    ) -> tuple[np.ndarray, np.ndarray] | None:
        """Latents and hyperlatents after `until` iterations in all; None once they are not finite.

        post_filter: what their pixels will be filtered by; `count` is called with the iterations
        done.
        """
        while self.iterations < until:
            self._iterate(post_filter)
            # Weights from strangers can be such that gradients overflow.
            if not (self.v.isfinite().all() and self.z.isfinite().all()):
                return None
            count(self.iterations)
        return to_array(self.v).copy(), to_array(self.z).copy()

    def _iterate(self, post_filter: PostFilter) -> None:
        expected = self._decoded(_expected(self.v - self.means))
        gradient = self._error_gradient(expected, post_filter)
        if self.curvature is None:
            self.curvature = self._curvature(expected, gradient, post_filter)
        for _ in range(LOOKS):
            linear = gradient + self._look()
            for _ in range(STEPS):
                self._step(expected, linear)
        self.iterations += 1

    def _look(self) -> Tensor:
        """Ask the prior: renews means and scales, moves the hyperlatents, and returns the gradient,
        by the latents, of what the means and scales of others make of their bits."""
        objective = self.objective
        v_hat = self._decoded(_draw(self.v - self.means, self.generator)[0]).requires_grad_()
        z_hat, slope = _draw(self.z, self.generator)
        means, levels = objective.relaxed(v_hat, z_hat.requires_grad_())
        bits = gaussian_bits(v_hat.detach() - means, objective.scales(levels))
        bits = (bits * objective.coded(levels)).sum() + objective.relaxed.z_bits(z_hat)
        # Without a context, latents say nothing of others.
        others, of_z = torch.autograd.grad(bits, (v_hat, z_hat), materialize_grads=True)
        self.z_adam.step(of_z * slope, Z_RATE * decay(self.v_adam.steps))
        self._predict(means.detach(), levels.detach())
        return others

    def _step(self, expected: Tensor, linear: Tensor) -> None:
        """Move the latents. linear: the gradient, at those expected, of all but their own bits."""
        residuals, slope = _draw(self.v - self.means, self.generator)
        gradient = linear + self.curvature * (self._decoded(residuals) - expected)
        gradient += gaussian_bits_slope(residuals, self.scales)
        self.v_adam.step(gradient * slope * self.coded, RATE * decay(self.v_adam.steps))

    def _predict(self, means: Tensor, levels: Tensor) -> None:
        self.means, self.scales = means, self.objective.scales(levels)
        self.coded = self.objective.coded(levels)

    def _decoded(self, residuals: Tensor) -> Tensor:
        """Latents of residuals about the means: those that are skipped are means."""
        return residuals * self.coded + self.means

    def _error_gradient(self, v_hat: Tensor, post_filter: PostFilter) -> Tensor:
        """Of lmbda * squared error, by the tile's latents."""
        v_hat, whole = v_hat.detach().requires_grad_(), self.around.clone()
        whole[:, :, *self.core] = v_hat
        error = self.objective.squared_error(self.x, whole, post_filter)
        return torch.autograd.grad(self.objective.lmbda * error, v_hat)[0]

    def _curvature(self, v_hat: Tensor, gradient: Tensor, post_filter: PostFilter) -> Tensor:
        """(1, M, 1, 1), each channel's mean of the Hessian's diagonal, by random directions (Bekas
        et al. 2007, "An estimator for the diagonal of a matrix"): of few latents, by several."""
        diagonals = []
        for _ in range(min(16, max(1, 64 // v_hat[0, 0].numel()))):
            direction = torch.empty_like(v_hat).uniform_(-1, 1, generator=self.generator).sign()
            moved = self._error_gradient(v_hat + PROBE * direction, post_filter)
            diagonals.append((moved - gradient) / PROBE * direction)
        return torch.cat(diagonals).mean((0, 2, 3), keepdim=True).clamp(min=0)


class RelaxedPrior:
    """The integer prior's networks at one quality step, without their roundings."""

    def __init__(self, prior: IntegerPrior, step: int, device: torch.device):
        self.M = prior.gains.shape[1]
        self.device, self.dtype = device, fast_dtype(device)
        to_context = prior.inverses[step] * 2.0 ** (CONTEXT_BITS - INVERSE_BITS)
        to_means = prior.gains[step] * 2.0 ** -(MEAN_BITS + GAIN_BITS)
        self.to_context, self.to_means = _channels(to_context, device), _channels(to_means, device)
        self.scale_offsets = _channels(prior.scale_offsets[step], device)
        self.hyper = [self._weights(layer.weight, layer.bias, layer.shift) for layer in prior.hyper]
        layer = prior.context
        window = np.zeros((*layer.weight.shape[:2], 3, 5))
        for tap, (dy, dx) in enumerate(TAPS):
            window[:, :, dy + 2, dx + 2] = layer.weight[:, :, 0, tap]
        self.context = self._weights(window, layer.bias, layer.shift)
        first, *rest = prior.entropy
        of_psi, of_phi = np.split(first.weight, [len(prior.hyper[-1].weight)], axis=1)
        bias = first.bias + prior.quality_bias[step]
        self.of_psi = self._weights(of_psi, bias, first.shift)
        self.of_phi, _ = self._weights(of_phi, bias, first.shift)
        self.rest = [self._weights(layer.weight, layer.bias, layer.shift) for layer in rest]
        self.z_costs = _z_costs(prior).to(device)

    def _weights(self, weight: np.ndarray, bias: np.ndarray, shift: int) -> tuple[Tensor, Tensor]:
        values = torch.from_numpy(weight * 2.0**-shift).to(self.device, self.dtype)
        offsets = torch.from_numpy(bias * 2.0**-shift).to(self.device, self.dtype)
        return values.contiguous(memory_format=torch.channels_last), offsets

    def z_bits(self, z: Tensor) -> Tensor:
        """Bits of z, between integers in proportion: what a mixture of two of them costs."""
        flat = z[0].flatten(1)
        reach = self.z_costs.shape[1] // 2
        # What is not finite is found after the iteration; until then it must not be an index.
        below = flat.detach().nan_to_num().floor().clamp(-reach, reach - 1)
        at = below.long() + reach
        low, high = self.z_costs.gather(1, at), self.z_costs.gather(1, at + 1)
        return (low + (high - low) * (flat - below)).sum()

    def __call__(self, v: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """v (1, M, h, w), z (1, channels, hz, wz) -> means in quantiser steps, and scale levels as
        real numbers."""
        *shuffled, last = self.hyper
        psi = z.to(self.dtype)
        for layer in shuffled:
            psi = F.pixel_shuffle(_leaky(F.conv2d(psi, *layer, padding=1)), 2)
        psi = _leaky(F.conv2d(psi, *last, padding=1))[:, :, : v.shape[2], : v.shape[3]]
        h = F.conv2d(psi, *self.of_psi)
        if self.of_phi.shape[1]:
            u = (v * self.to_context).to(self.dtype)
            phi = F.conv2d(F.pad(u, (2, 2, 2, 0)), *self.context)
            h = h + F.conv2d(phi, self.of_phi)
        for weight, bias in self.rest:
            h = F.conv2d(_leaky(h), weight, bias)
        means, levels = h.float().split(self.M, dim=1)
        return means * self.to_means, (levels + self.scale_offsets) * 2.0**-SCALE_BITS


def _z_costs(prior: IntegerPrior) -> Tensor:
    """(channels, n) bits of the integers from -(n // 2) on; a flat 30 where they are escaped."""
    tables = prior.z_tables
    reach = int(max(np.abs(tables.lows).max(), np.abs(tables.lows + tables.sizes).max()))
    costs = np.full((len(tables.lows), 2 * reach + 1), 30.0, np.float32)
    for row, cdf, low, size in zip(costs, tables.lists, tables.lows, tables.sizes):
        row[low + reach :][:size] = PRECISION - np.log2(np.diff(cdf)[:-1])
    return torch.from_numpy(costs)


def decay(steps: int) -> float:
    """What is left of a rate after so many steps."""
    return (1 + steps / 200) ** -0.5


def _expected(r: Tensor) -> Tensor:
    """What r is rounded to on average."""
    below, fraction = _parts(r)
    return below + torch.sigmoid(_log_odds(fraction))


def _draw(r: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """A mixture of floor(r) and ceil(r), drawn from the relaxed two-valued distribution, and its
    derivative by r."""
    below, f = _parts(r)
    u = torch.empty_like(r).uniform_(1e-6, 1 - 1e-6, generator=generator)
    above = torch.sigmoid((_log_odds(f) + u.logit_()) / TEMPERATURE)
    slope = above * (1 - above) * (1 / (f * (2 - f)) + 1 / ((1 - f) * (1 + f)))
    return below + above, slope / TEMPERATURE**2


def _parts(r: Tensor) -> tuple[Tensor, Tensor]:
    """floor(r), and what is left of r, strictly between 0 and 1."""
    below = r.floor()
    return below, (r - below).clamp_(1e-4, 1 - 1e-4)


def _log_odds(f: Tensor) -> Tensor:
    """The logarithm of how much likelier a number is rounded up that lies f above the one below:
    (atanh(f) - atanh(1 - f)) / TEMPERATURE."""
    return (f * (1 + f) / ((1 - f) * (2 - f))).log_() / (2 * TEMPERATURE)


def _leaky(x: Tensor) -> Tensor:
    return F.leaky_relu(x, LEAKY_SLOPE)


def _channels(values: np.ndarray, device: torch.device) -> Tensor:
    return torch.from_numpy(values.astype(np.float32)).view(1, -1, 1, 1).to(device)
