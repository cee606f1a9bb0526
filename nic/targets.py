"""Coding to a size or a PSNR instead of a quality: search over quality steps.

A step changes a file by one or two percent; between steps, a wider dead zone of the rounding makes
files smaller, continuously and at next to no loss. To try a file is to code it, so that few are
tried: each where those before it let expect what is asked for.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import NamedTuple, Protocol

from nic.config import QUALITY_STEPS
from nic.errors import InputError

LAST_STEP = QUALITY_STEPS - 1
SLACK = 0.01
"""A file is at most this much smaller than the size that was asked for."""

DECIBELS = 0.05
"""How far the PSNR may lie from the one that was asked for."""

LOG_SIZE_RISE, PSNR_RISE = 0.016, 0.06
"""What a step adds on most pictures to the logarithm of the size and, in dB, to the PSNR."""

NEAR = 4
"""Steps on either side of the likely one."""

ZONE, WIDEST = 0.02, 0.2
"""Dead zones in quantiser steps: the first costs about least on most pictures, the other makes a
file smaller than several quality steps do. With one rounding for all, size and PSNR rise smoothly
from step to step, as they do not where each picks its own."""

ZONES = 4096
"""Into so many parts the range of dead zones is divided."""

STEP_IN_ZONES = 0.01
"""By so much a dead zone is wider that takes off about what a step adds."""

HIGHEST = 100.0
"""What a search takes an infinite PSNR for."""

LINES = 8
"""Values of a search after which straight lines have led nowhere."""


class Files(Protocol):
    """A picture's files by quality step, dead zone, and whether they may have a post-filter; see
    `codec.Files`."""

    filters: bool
    """Whether they ever have one."""

    def file(self, step: int, dead_zone: float, filtered: bool) -> bytes: ...

    def psnr(self, data: bytes) -> float: ...


Key = tuple[int, float, bool]
"""What a file is made with."""


class Goal(NamedTuple):
    """The values that will do, and what a step is expected to add to the value."""

    least: float
    most: float
    rise: float


def for_size(files: Files, quick: Files | None, limit: int) -> bytes:
    """The file of at most `limit` bytes, and within SLACK of it.

    quick: cheaper files to begin the search with. InputError where no file comes close.
    """
    sizes = cache(lambda *key: len(files.file(*key)))
    log_limit = math.log(max(limit, 1))
    goal = Goal(log_limit + math.log(1 - SLACK), log_limit, LOG_SIZE_RISE)
    start = _start(lambda data: math.log(len(data)), quick, goal)
    found, errors = [], []
    for filtered in _kinds(files):
        try:
            found.append(_for_size(sizes, filtered, start, limit, goal))
        except InputError as error:
            errors.append(error)
            continue
        if sizes(*found[-1]) >= (1 - SLACK) * limit:
            break
    if not found:
        raise errors[-1]
    return files.file(*max(found, key=lambda key: sizes(*key)))


def _for_size(sizes: Callable[..., int], filtered: bool, start: int, limit: int, goal: Goal) -> Key:
    step = _search(lambda step: math.log(sizes(step, ZONE, filtered)), goal, LAST_STEP, start)
    if step >= 0 and (size := sizes(step, ZONE, filtered)) >= (1 - SLACK) * limit:
        return step, ZONE, filtered
    if step == LAST_STEP:
        raise InputError(f"{limit} bytes are more than this picture can use: {size} at most")
    above = step + 1
    key = above, _zone(lambda zone: math.log(sizes(above, zone, filtered)), goal), filtered
    if sizes(*key) > limit:
        raise InputError(f"{limit} bytes are too few for this picture: {sizes(*key)} at least")
    return key


def for_psnr(files: Files, quick: Files | None, target: float) -> bytes:
    """A file whose PSNR is within DECIBELS of the target; InputError where there is none.

    quick: as in `for_size`.
    """
    values = cache(lambda *key: files.psnr(files.file(*key)))
    goal = Goal(target - DECIBELS, target + DECIBELS, PSNR_RISE)
    start = _start(lambda data: quick.psnr(data), quick, goal)
    tried = []
    for filtered in _kinds(files):
        step = _search(lambda step: values(step, ZONE, filtered), goal, LAST_STEP, start)
        # On small pictures PSNR rises unevenly: another step near by may be nearer.
        around = range(max(0, step - NEAR), min(step + 1 + NEAR, LAST_STEP) + 1)
        for near in sorted(around, key=lambda k: abs(k - step)):
            tried.append((near, ZONE, filtered))
            if goal.least <= values(*tried[-1]) <= goal.most:
                return files.file(*tried[-1])
        if filtered and 0 <= step < LAST_STEP:
            tried.append((step + 1, _zone(lambda zone: values(step + 1, zone, True), goal), True))
            if goal.least <= values(*tried[-1]) <= goal.most:
                return files.file(*tried[-1])
    nearest = min((values(*key) for key in tried), key=lambda value: abs(value - target))
    raise InputError(
        f"{target:g} dB cannot be met: the nearest that this picture has is {nearest:.2f} dB"
    )


def _kinds(files: Files) -> list[bool]:
    """Filtered files first. Small pictures have filters at some steps only, where size and PSNR
    jump; without filters they do not."""
    return [True, False] if files.filters else [False]


def _start(value: Callable[[bytes], float], quick: Files | None, goal: Goal) -> int:
    """The step to begin with."""
    if quick is None:
        return LAST_STEP // 2

    def tried(step: int) -> float:
        return value(quick.file(step, ZONE, False))

    return max(0, _search(tried, goal, LAST_STEP, LAST_STEP // 2))


def _zone(value: Callable[[float], float], goal: Goal) -> float:
    """The dead zone at which what falls as it grows will do; else one at which it is too low, or
    the widest."""

    def zone(k: int) -> float:
        return ZONE + (WIDEST - ZONE) * (1 - k / ZONES)

    rise = goal.rise * (zone(0) - zone(1)) / STEP_IN_ZONES
    k = _search(lambda k: value(zone(k)), goal._replace(rise=rise), ZONES, ZONES)
    return zone(max(k, 0))


def _search(value: Callable[[int], float], goal: Goal, last: int, at: int) -> int:
    """Of 0..last, a place whose value will do; where there is none, the last whose rising value is
    too low, -1 where all are too high.

    Tries `at`, and goes on to where a straight line leads: of the expected rise, then through the
    last two values or, once one is too low and one too high, through these; after LINES values,
    into the middle.
    """
    low, high = -1, last + 1
    values: dict[int, float] = {}
    while high - low > 1:
        values[at] = min(value(at), HIGHEST)
        if goal.least <= values[at] <= goal.most:
            return at
        low, high = (at, high) if values[at] < goal.least else (low, at)
        if len(values) < LINES:
            at += round(
                ((goal.least + goal.most) / 2 - values[at]) / _rise(values, low, high, goal)
            )
            at = min(max(at, low + 1), high - 1)
        else:
            at = (low + high) // 2
    return low


def _rise(values: dict[int, float], low: int, high: int, goal: Goal) -> float:
    """What a step seems to add, by the values so far, of which `low` and `high` may be two."""
    if len(values) < 2:
        return goal.rise
    both = low in values and high in values
    a, b = (low, high) if both else sorted([*values][-2:])
    return max((values[b] - values[a]) / (b - a), goal.rise / 8)
