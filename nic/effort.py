"""How hard the encoder tries, from 0 to 9: up to 3, latents are coded as the networks give them."""

from __future__ import annotations

from nic.errors import InputError

EFFORTS = range(10)
DEFAULT_EFFORT = 3

REFINED = range(4, 10)
"""Efforts that refine the latents by gradient descent, which needs PyTorch."""

ITERATIONS = (16, 32, 64, 128, 256, 512)
"""Of the refinement, by effort."""


def check_effort(effort: int) -> int:
    """An effort as it is; InputError unless it is one."""
    if effort not in EFFORTS:
        raise InputError(f"effort {effort!r} is not a whole number within 0..{EFFORTS[-1]}")
    return effort


def stops(effort: int) -> tuple[int, ...]:
    """Iterations of refinement after which to see whether it pays: those of lower efforts too."""
    return ITERATIONS[: max(0, effort - REFINED[0] + 1)]
