"""The optimiser of the encoder's refinement."""

from __future__ import annotations

from collections.abc import Sequence

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

    grids: (1, channels, h, w), each with how many times as fast as the others it learns.
    """

    def __init__(self, grids: Sequence[tuple[Tensor, float]]):
        self.grids, self.steps = grids, 0
        self.moments = [(torch.zeros_like(x), torch.zeros_like(x)) for x, _ in grids]

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """Move the grids down their gradients, which are dropped."""
        self.steps += 1
        corrections = [1 - beta**self.steps for beta in BETAS]
        for (x, factor), (first, second) in zip(self.grids, self.moments):
            square = x.grad.square()
            square = OWN * square + (1 - OWN) * square.mean((2, 3), keepdim=True)
            first.lerp_(x.grad, 1 - BETAS[0])
            second.lerp_(square, 1 - BETAS[1])
            scale = (second / corrections[1]).sqrt() + 1e-8
            x -= factor * rate / corrections[0] * first / scale
            x.grad = None
