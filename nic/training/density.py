"""Densities of the trained model, as differentiable numbers of bits."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nic.rate import bits_of


class FactorizedDensity(nn.Module):
    """A learned density for each channel of z (Balle et al. 2018, appendix 6.1).

    The cumulative is a small monotone network of four layers, 1-3-3-3-1, one per channel.
    """

    WIDTHS = (1, 3, 3, 3, 1)

    def __init__(self, channels: int, init_scale: float = 1.0):
        super().__init__()
        layers = list(zip(self.WIDTHS, self.WIDTHS[1:]))
        scale = init_scale ** (1 / len(layers))
        self.matrices = nn.ParameterList(
            nn.Parameter(torch.full((channels, b, a), math.log(math.expm1(1 / scale / b))))
            for a, b in layers
        )
        self.biases = nn.ParameterList(
            nn.Parameter(torch.empty(channels, b, 1).uniform_(-0.5, 0.5)) for _, b in layers
        )
        self.factors = nn.ParameterList(
            nn.Parameter(torch.zeros(channels, b, 1)) for _, b in layers[:-1]
        )

    def logits(self, z: Tensor) -> Tensor:
        """(channels, 1, n) values -> logits of the cumulative, same shape."""
        for i, (matrix, bias) in enumerate(zip(self.matrices, self.biases)):
            z = F.softplus(matrix) @ z + bias
            if i < len(self.factors):
                z = z + torch.tanh(self.factors[i]) * torch.tanh(z)
        return z

    def bits(self, z: Tensor) -> Tensor:
        """(B, channels, h, w) -> bits of each element's unit interval, same shape."""
        B, C, h, w = z.shape
        with torch.autocast(z.device.type, enabled=False):
            flat = z.float().transpose(0, 1).reshape(C, 1, -1)
            lower, upper = self.logits(flat - 0.5), self.logits(flat + 0.5)
            # Subtract on the side where the sigmoids are small: no cancellation in the tails.
            sign = -torch.sign(lower + upper).detach()
            likelihood = (torch.sigmoid(sign * upper) - torch.sigmoid(sign * lower)).abs()
            bits = bits_of(likelihood)
        return bits.view(C, B, h, w).transpose(0, 1)
