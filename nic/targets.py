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
    """A picture's files by quality step, dead zone, and whether they may have a post-filter; see
    `codec.Files`."""

    filters: bool
    """Whether they ever have one."""

    def file(self, step: int, dead_zone: float, filtered: bool) -> bytes: ...

    def psnr(self, data: bytes) -> float: ...


Key = tuple[int, float, bool]
"""What a file is made with."""


def for_size(files: Files, quick: Files | None, limit: int) -> bytes:
    """The file of at most `limit` bytes, and within SLACK of it.

    quick: cheaper files to begin the search with. InputError where no file comes close.
    """
    sizes = cache(lambda *key: len(files.file(*key)))
    start = None if quick is None else _quick_start(len, quick, limit)
    found, errors = [], []
    for filtered in _kinds(files):
        try:
            found.append(_for_size(sizes, filtered, start, limit))
        except InputError as error:
            errors.append(error)
            continue
        if sizes(*found[-1]) >= (1 - SLACK) * limit:
            break
    if not found:
        raise errors[-1]
    return files.file(*max(found, key=lambda key: sizes(*key)))


def _for_size(sizes: Callable[..., int], filtered: bool, start: int | None, limit: int) -> Key:
    step = _last_below(lambda step: sizes(step, ZONE, filtered), limit, start)
    if step >= 0 and (size := sizes(step, ZONE, filtered)) >= (1 - SLACK) * limit:
        return step, ZONE, filtered
    if step == LAST_STEP:
        raise InputError(f"{limit} bytes are more than this picture can use: {size} at most")
    above = step + 1
    if (least := sizes(above, WIDEST, filtered)) > limit:
        raise InputError(f"{limit} bytes are too few for this picture: {least} at least")
    zone = _zone(lambda zone: sizes(above, zone, filtered), (1 - SLACK) * limit, limit)
    return above, zone, filtered


def for_psnr(files: Files, quick: Files | None, target: float) -> bytes:
    """A file whose PSNR is within DECIBELS of the target; InputError where there is none.

    quick: as in `for_size`.
    """
    values = cache(lambda *key: files.psnr(files.file(*key)))
    start = None if quick is None else _quick_start(quick.psnr, quick, target)
    tried = []
    for filtered in _kinds(files):
        step = _last_below(lambda step: values(step, ZONE, filtered), target, start)
        # On small pictures PSNR rises unevenly: another step near by may be nearer.
        around = range(max(0, step - NEAR), min(step + 1 + NEAR, LAST_STEP) + 1)
        for near in sorted(around, key=lambda k: abs(k - step - 0.5)):
            tried.append((near, ZONE, filtered))
            if abs(values(*tried[-1]) - target) <= DECIBELS:
                return files.file(*tried[-1])
        if filtered and 0 <= step < LAST_STEP:
            least, most = target - DECIBELS, target + DECIBELS
            zone = _zone(lambda zone: values(step + 1, zone, True), least, most)
            tried.append((step + 1, zone, True))
            if abs(values(*tried[-1]) - target) <= DECIBELS:
                return files.file(*tried[-1])
    nearest = min((values(*key) for key in tried), key=lambda value: abs(value - target))
    raise InputError(
        f"{target:g} dB cannot be met: the nearest that this picture has is {nearest:.2f} dB"
    )


def _kinds(files: Files) -> list[bool]:
    """Filtered files first. Small pictures have filters at some steps only, where size and PSNR
    jump; without filters they do not."""
    return [True, False] if files.filters else [False]


def _quick_start(value: Callable[[bytes], float], quick: Files, target: float) -> int:
    return _last_below(lambda step: value(quick.file(step, ZONE, False)), target)


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


def _zone(value: Callable[[float], float], least: float, most: float) -> float:
    """The dead zone at which what falls as it grows lies between the two; by bisection, the
    narrowest found above which it is too low where there is none."""
    low, high = ZONE, WIDEST
    for _ in range(16):
        zone = (low + high) / 2
        if least <= (found := value(zone)) <= most:
            return zone
        low, high = (zone, high) if found > most else (low, zone)
    return high
