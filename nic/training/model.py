"""The trainable model: transforms and a float version of the prior.

nic-1 is the joint autoregressive and hierarchical prior of Minnen et al. 2018 with one set of
weights for all qualities. With std, the latents' standard deviations, constant and gain(s) learned:

    x -> g_a -> y,  u = y / std,  v = y * gain(s)        v is what is rounded
    u -> h_a -> z -> round -> h_s -> psi
    v_hat / (std * gain) -> 5x5 causal convolution -> phi
    (psi, phi, s) -> entropy parameters -> mean and log-scale of u

The prior sees whitened latents only: in v's units its means are multiplied by std * gain and the
log of std * gain is added to its log-scales. The papers' models are the same with other transforms,
less the context, or less the means as well.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nic.config import LEAKY_SLOPE, ModelConfig
from nic.precision import fast_dtype
from nic.quantizer import residual
from nic.rate import gaussian_bits
from nic.training.density import FactorizedDensity
from nic.transforms import KINDS
from nic.transforms.anchors import Anchors
from nic.wavefront import TAPS, wavefronts


class Output(NamedTuple):
    """What one forward pass gives, per image of the batch."""

    x_hat: Tensor
    """(B, 3, H, W), pixels in -0.5..0.5."""
    bits_y: Tensor
    """(B,) bits of the latents."""
    bits_z: Tensor
    """(B,) bits of the hyperlatents."""


class CausalConv(nn.Module):
    """5x5 type-A masked convolution (van den Oord et al. 2016): two rows above, two columns left.

    The 12 live taps are held as a 2x5 and a 1x2 kernel, so that no masked tap is ever computed.
    """

    def __init__(self, channels: int, features: int):
        super().__init__()
        self.above = nn.Conv2d(channels, features, (2, 5))
        self.left = nn.Conv2d(channels, features, (1, 2), bias=False)

    def taps(self) -> Tensor:
        """(features, channels, 12) weights, in the order of wavefront.TAPS."""
        return torch.cat([self.above.weight.flatten(2), self.left.weight.flatten(2)], dim=2)

    def forward(self, u: Tensor) -> Tensor:
        above = self.above(F.pad(u, (2, 2, 2, 0))[:, :, :-1])
        return above + self.left(F.pad(u, (2, 0, 0, 0))[:, :, :, :-1])


class HyperSynthesis(nn.Module):
    """h_s: z_hat -> psi, twice (3x3 convolution, PixelShuffle) and a last 3x3."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        C = config.hyper_channels
        self.up1 = nn.Conv2d(config.z_channels, 4 * C, 3, padding=1)
        self.up2 = nn.Conv2d(C, 4 * C, 3, padding=1)
        self.out = nn.Conv2d(C, config.psi_channels, 3, padding=1)

    def forward(self, z_hat: Tensor) -> Tensor:
        h = F.leaky_relu(F.pixel_shuffle(self.up1(z_hat), 2), LEAKY_SLOPE)
        h = F.leaky_relu(F.pixel_shuffle(self.up2(h), 2), LEAKY_SLOPE)
        return F.leaky_relu(self.out(h), LEAKY_SLOPE)


class EntropyParameters(nn.Module):
    """(psi, phi, quality) -> means and log-scales of u, each (B, M, h, w)."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.means = config.means
        outputs = 2 * config.M if config.means else config.M
        widths = [config.psi_channels + config.phi_channels, *config.entropy_channels, outputs]
        self.layers = nn.ModuleList(nn.Conv2d(a, b, 1) for a, b in zip(widths, widths[1:]))
        self.quality = Anchors(config.anchors, widths[1])
        self.layers[-1].weight.data *= 0.1

    def forward(self, features: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        """features: psi, and phi after it where there is a context."""
        h = self.layers[0](features) + self.quality(s)
        for layer in self.layers[1:]:
            h = layer(F.leaky_relu(h, LEAKY_SLOPE))
        h = h.float()
        return h.chunk(2, dim=1) if self.means else (torch.zeros_like(h), h)


class TrainableModel(nn.Module):
    """All networks of one model, with the estimated rate of Balle et al. 2018."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        transforms = KINDS[config.transforms]
        self.g_a = transforms.Analysis(config)
        self.g_s = transforms.Synthesis(config)
        self.h_a = transforms.HyperAnalysis(config)
        self.h_s = HyperSynthesis(config)
        self.context = CausalConv(config.M, config.phi_channels) if config.phi_channels else None
        self.entropy_parameters = EntropyParameters(config)
        self.z_density = FactorizedDensity(config.z_channels)
        # The best quantiser step goes with lmbda^-1/2; gain 1 suits lmbda 0.018 (measured).
        first, last = (0.5 * math.log(l / 0.018) for l in (config.lmbda_min, config.lmbda_max))
        self.gain = Anchors(config.anchors, config.M, first, last)
        self.register_buffer("std", torch.ones(1, config.M, 1, 1))

    def forward(self, x: Tensor, s: Tensor) -> Output:
        """x: (B, 3, H, W) in -0.5..0.5, H and W multiples of 64; s: (B,) in 0..1."""
        y = self.g_a(x, s).float()
        u = y / self.std
        z = self.h_a(u, s).float()
        psi = self.h_s(_ste_round(z))
        gain = self.std * self.gain(s).exp()
        v = u * gain
        features = psi
        if self.context is not None:
            # The context is what the decoder will have; its gradient passes straight to v.
            decoded = self.decode_serially(v, psi, gain, s)
            phi = self.context((v + (decoded - v).detach()) / gain)
            features = torch.cat([psi, phi], dim=1)
        means, log_scales = self.entropy_parameters(features, s)
        means = means * gain
        bits_y = _rate(v, means, (log_scales + gain.log()).exp())
        u_hat = (_ste_round(v - means) + means) / gain
        x_hat = self.g_s(u_hat * self.std, u_hat, s)
        z_noisy = z + torch.empty_like(z).uniform_(-0.5, 0.5)
        bits_z = self.z_density.bits(z_noisy)
        return Output(x_hat, bits_y.sum((1, 2, 3)), bits_z.sum((1, 2, 3)))

    @torch.no_grad()
    def decode_serially(self, v: Tensor, psi: Tensor, gain: Tensor, s: Tensor) -> Tensor:
        """v as the decoder will have it: each position rounded about a mean predicted from decoded
        neighbours. Same shape as v.

        Where residuals are mostly zero, means are predicted from means; trained on anything but
        this feedback, the recursion may be unstable.
        """
        (B, M, h, w), dtype = v.shape, fast_dtype(v.device)
        first, *rest = self.entropy_parameters.layers
        split = psi.shape[1]
        layers = [
            (self.context.taps().transpose(1, 2).flatten(1), self.context.above.bias),
            (first.weight[:, split:, 0, 0],),  # its bias is among the sums
            *((layer.weight[:, :, 0, 0], layer.bias) for layer in rest),
        ]
        layers[-1] = tuple(part[:M] for part in layers[-1])
        context, joint, *layers = [tuple(part.to(dtype) for part in layer) for layer in layers]
        order = _wavefronts(h, w, B, v.device)
        u_hat = v.new_zeros((h + 2) * (w + 4), B, M, dtype=dtype)
        v, gain = _rows(v)[order.positions], _rows(gain)[0]
        v_hat = torch.empty_like(v)
        with torch.autocast(v.device.type, enabled=False):
            sums = F.conv2d(psi.float(), first.weight[:, :split], first.bias)
            sums = _rows(sums + self.entropy_parameters.quality(s))[order.positions].to(dtype)
            for at, windows, centres in order.steps:
                x = F.linear(u_hat[windows].flatten(2), *context)
                x = F.linear(x, *joint) + sums[at]
                for layer in layers:
                    x = F.linear(F.leaky_relu(x, LEAKY_SLOPE), *layer)
                means = x * gain
                values = torch.add(residual(v[at], means), means, out=v_hat[at])
                u_hat[centres] = (values / gain).to(dtype)
        return v_hat[order.places].unflatten(0, (h, w)).permute(2, 3, 0, 1)


class _Wavefronts(NamedTuple):
    """The order in which latents are decoded, as indices."""

    positions: Tensor
    """(h w,) positions in raster order, wavefront by wavefront."""
    places: Tensor
    """(h w,) the inverse: where among these each position is."""
    steps: list[tuple[slice, tuple[Tensor, Tensor], Tensor]]
    """Of each wavefront, where its positions are; their windows in each image, and again
    themselves, on a grid of two rows more above and two columns on either side."""


@lru_cache(8)
def _wavefronts(h: int, w: int, B: int, device: torch.device) -> _Wavefronts:
    """They stay on the device: a GPU waits for whatever the host gives it in the course of the
    loop. A recorded step goes on reading them, so that those in use must stay cached."""
    width, images, done = w + 4, torch.arange(B, device=device)[:, None], 0
    taps = np.array([(dy + 2) * width + dx + 2 for dy, dx in TAPS])
    positions, steps = [], []
    for rows, columns in wavefronts(h, w):
        corner = rows * width + columns
        indices = (corner[:, None, None] + taps, corner + 2 * width + 2)
        windows, centres = (torch.from_numpy(index).to(device) for index in indices)
        steps.append((slice(done, done + len(rows)), (windows, images), centres))
        positions.append(rows * w + columns)
        done += len(rows)
    order = np.concatenate(positions)
    both = (torch.from_numpy(index).to(device) for index in (order, np.argsort(order)))
    return _Wavefronts(*both, steps)


def _rows(x: Tensor) -> Tensor:
    """(B, C, h, w) -> (h w, B, C)."""
    return x.flatten(2).permute(2, 0, 1)


def _rate(v: Tensor, means: Tensor, scales: Tensor) -> Tensor:
    """Bits of v's residuals about the means, as coded.

    Scales learn from the integers themselves. These have no gradient towards v and the means, which
    learn from v with uniform noise in place of rounding (Balle et al. 2017); as a rate, that
    relaxation is half as much again as the truth where most residuals are zero.
    """
    coded = gaussian_bits(residual(v, means).detach(), scales)
    noisy = v + torch.empty_like(v).uniform_(-0.5, 0.5)
    relaxed = gaussian_bits(noisy - means, scales.detach())
    return coded + (relaxed - relaxed.detach())


def _ste_round(x: Tensor) -> Tensor:
    """Rounds halves up, as the codec does; the gradient passes straight through."""
    return x + (residual(x, 0.0) - x).detach()
