"""The one rule by which latents become integers, for training, evaluation, encoder and decoder."""

from __future__ import annotations


def residual(v, means):
    """Integer residual of v about its predicted mean: floor(v - means + 1/2).

    Takes and gives NumPy arrays or torch tensors; the decoded latent is `residual + means`.
    """
    return (v - means + 0.5) // 1


def with_dead_zone(v, means, width: float):
    """v moved towards its mean by at most `width`: what is left rounds to smaller residuals."""
    return v - (v - means).clip(-width, width)
