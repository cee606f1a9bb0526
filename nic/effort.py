"""How hard the encoder tries, from 0 to 9.

Up to 3, latents are coded as the networks give them, from 1 on with a post-filter; from 4 on they
are refined.
"""

from __future__ import annotations

from numbers import Integral

from nic.config import ModelConfig
from nic.errors import InputError

EFFORTS = range(10)
DEFAULT_EFFORT = 3

FILTERED = range(1, 10)
"""Efforts that fit a post-filter."""

REFINED = range(4, 10)
"""Efforts that refine the latents by gradient descent, which needs PyTorch."""

ITERATIONS = (2, 4, 8, 16, 32, 64)
"""Of the refinement, by effort."""


def check_effort(effort: int) -> int:
    """An effort as an int; InputError unless it is one."""
    if not isinstance(effort, Integral) or isinstance(effort, bool) or effort not in EFFORTS:
        raise InputError(f"effort {effort!r} is not a whole number within 0..{EFFORTS[-1]}")
    return int(effort)


def stops(effort: int) -> tuple[int, ...]:
    """Iterations of refinement after which to see whether it pays: those of lower efforts too."""
    return ITERATIONS[: max(0, effort - REFINED[0] + 1)]


def work(effort: int) -> int:
    """How many times as long as at the default effort it takes to encode, about: an iteration takes
    longer than all the rest."""
    return 1 + 3 * max((0, *stops(effort)))


def lmbda(config: ModelConfig, step: int) -> float:
    """What a squared grey level is worth in bits a pixel, where a quality step asks for it.

    The slope of the rate-distortion curve that real files have, which is steeper than the lmbda of
    training: by a fifth to three tenths, measured on training images, see docs/training.md.
    """
    return 1.25 * config.lmbda(step)
