"""Bits as a differentiable number: what training and the encoder's refinement minimise."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from nic.tables import SCALE_MIN

LIKELIHOOD_MIN = 1e-9


class _LowerBound(torch.autograd.Function):
    """max(x, bound), whose gradient still flows where it would raise x (Balle et al. 2018)."""

    @staticmethod
    def forward(ctx, x: Tensor, bound: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.bound = bound
        return x.clamp(min=bound)

    @staticmethod
    def backward(ctx, grad: Tensor):
        (x,) = ctx.saved_tensors
        return grad * ((x >= ctx.bound) | (grad < 0)), None


def gaussian_bits(residual: Tensor, scales: Tensor) -> Tensor:
    """Bits of `residual` under a zero-mean Gaussian of standard deviation `scales`, convolved with
    a unit box (Balle et al. 2018, sec. 3). Same shape as the arguments."""
    scales = _LowerBound.apply(scales, SCALE_MIN)
    magnitude = residual.abs()
    upper = torch.special.ndtr((0.5 - magnitude) / scales)
    lower = torch.special.ndtr((-0.5 - magnitude) / scales)
    return bits_of(upper - lower)


def gaussian_bits_slope(residual: Tensor, scales: Tensor) -> Tensor:
    """The derivative of `gaussian_bits` by `residual`, in less time than autograd takes; scales: at
    least SCALE_MIN."""
    magnitude = residual.abs()
    upper, lower = (0.5 - magnitude) / scales, (-0.5 - magnitude) / scales
    likelihood = torch.special.ndtr(upper) - torch.special.ndtr(lower)
    fall = torch.exp(-0.5 * upper.square()) - torch.exp(-0.5 * lower.square())
    fall /= scales * likelihood.clamp_(min=LIKELIHOOD_MIN)
    return fall * residual.sign() / (math.log(2) * math.sqrt(2 * math.pi))


def bits_of(likelihood: Tensor) -> Tensor:
    """-log2, at most 30 bits; improbable values still learn to become likelier."""
    return -torch.log2(_LowerBound.apply(likelihood, LIKELIHOOD_MIN))
