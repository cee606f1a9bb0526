"""Coding to a size or a PSNR instead of a quality: search over quality steps.

A step changes a file by one or two percent; between steps, a wider dead zone of the rounding makes
files smaller, continuously and at next to no loss.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Protocol

from nic.config import QUALITY_STEPS
from nic.errors import InputError

LAST_STEP = QUALITY_STEPS - 1
SLACK = 0.01
"""A file is at most this much smaller than the size that was asked for."""

DECIBELS = 0.05
"""How far the PSNR may lie from the one that was asked for."""

NEAR = 4
"""Steps on either side of the likely one."""

ZONE, WIDEST = 0.02, 0.2
"""Dead zones in quantiser steps: the first costs about least on most pictures, the other makes a
file smaller than several quality steps do. With one rounding for all, size and PSNR rise smoothly
from step to step, as they do not where each picks its own."""


class Files(Protocol):
    """A picture's files by quality step and dead zone; see `codec.Files`."""

    def file(self, step: int, dead_zone: float) -> bytes: ...

    def psnr(self, data: bytes) -> float: ...


def for_size(files: Files, quick: Files | None, plain: Files | None, limit: int) -> bytes:
    """The file of at most `limit` bytes, and within SLACK of it.

    quick: cheaper files to begin the search with; plain: files of smoother sizes, of which one will
    do where none of `files` does. InputError where no file comes close.
    """
    data = _for_size(files, quick, limit)
    if plain is not None and len(data) < (1 - SLACK) * limit:
        data = max(data, _for_size(plain, None, limit), key=len)
    return data


def _for_size(files: Files, quick: Files | None, limit: int) -> bytes:
    def size(files: Files) -> Callable[[int], int]:
        return cache(lambda step: len(files.file(step, ZONE)))

    sizes = size(files)
    start = None if quick is None else _last_below(size(quick), limit)
    step = _last_below(sizes, limit, start)
    if step >= 0 and sizes(step) >= (1 - SLACK) * limit:
        return files.file(step, ZONE)
    if step == LAST_STEP:
        raise InputError(f"{limit} bytes are more than this picture can use: {sizes(step)} at most")
    return _narrowed(lambda zone: files.file(step + 1, zone), limit)


def for_psnr(files: Files, quick: Files | None, plain: Files | None, target: float) -> bytes:
    """A file whose PSNR is within DECIBELS of the target; InputError where there is none.

    quick, plain: as in `for_size`.
    """

    def psnr(files: Files) -> Callable[[int], float]:
        return cache(lambda step: files.psnr(files.file(step, ZONE)))

    seen: list[float] = []
    start = None if quick is None else _last_below(psnr(quick), target)
    for own in (files, plain):
        if own is None:
            continue
        values = psnr(own)
        step = _last_below(values, target, start)
        # On small pictures PSNR rises unevenly: another step near by may be nearer.
        around = range(max(0, step - NEAR), min(step + 1 + NEAR, LAST_STEP) + 1)
        for near in sorted(around, key=lambda k: abs(k - step - 0.5)):
            if abs(values(near) - target) <= DECIBELS:
                return own.file(near, ZONE)
        seen += map(values, around)
    nearest = min(seen, key=lambda value: abs(value - target))
    raise InputError(
        f"{target:g} dB cannot be met: the nearest that this picture has is {nearest:.2f} dB"
    )


def _last_below(value: Callable[[int], float], target: float, start: int | None = None) -> int:
    """The last step of rising values that is not above the target, -1 where all are above.

    Halves the interval; from `start`, where it is given, goes in doubling strides until it has one.
    """
    low, high, stride = -1, QUALITY_STEPS, 2
    step = LAST_STEP // 2 if start is None else min(max(start, 0), LAST_STEP)
    while high - low > 1:
        if value(step) <= target:
            low, step = step, step + stride
        else:
            high, step = step, step - stride
        stride *= 2
        if start is None or not low < step < high:
            step = (low + high) // 2
    return low


def _narrowed(encode: Callable[[float], bytes], limit: int) -> bytes:
    """The dead zone that brings a file too large to within SLACK below the limit, by bisection."""
    low, high = ZONE, WIDEST
    if (least := len(encode(high))) > limit:
        raise InputError(f"{limit} bytes are too few for this picture: {least} at least")
    for _ in range(16):
        zone = (low + high) / 2
        data = encode(zone)
        if (1 - SLACK) * limit <= len(data) <= limit:
            return data
        low, high = (zone, high) if len(data) > limit else (low, zone)
    return encode(high)
