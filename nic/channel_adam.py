"""The optimiser of the encoder's refinement."""

from __future__ import annotations

import torch
from torch import Tensor

BETAS = 0.9, 0.99
"""Decay of the first and of the second moments."""

OWN = 0.2
"""Share of a latent's own squared gradient in what its steps are divided by."""


class ChannelAdam:
    """Adam (Kingma and Ba 2015) whose second moments are mostly those of a whole channel.

    With its own second moment alone, every latent takes steps of one length, however little its
    gradient says; here steps are long where gradients are large.

    x: (1, channels, h, w), moved in place.
    """

    def __init__(self, x: Tensor):
        self.x, self.steps = x, 0
        self.first, self.second = torch.zeros_like(x), torch.zeros_like(x)

    @torch.no_grad()
    def step(self, gradient: Tensor, rate: float) -> None:
        """Move x down its gradient: where that is as large as it mostly is in the channel, by about
        `rate`."""
        self.steps += 1
        square = gradient.square()
        square = OWN * square + (1 - OWN) * square.mean((2, 3), keepdim=True)
        self.first.lerp_(gradient, 1 - BETAS[0])
        self.second.lerp_(square, 1 - BETAS[1])
        of_first, of_second = (1 - beta**self.steps for beta in BETAS)
        scale = (self.second / of_second).sqrt_().add_(1e-8)
        self.x.addcdiv_(self.first, scale, value=-rate / of_first)
