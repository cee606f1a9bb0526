"""Densities -> integer frequency tables.

Tables are made once, when a model is exported, and stand in its weight file as integers: nothing
that depends on a machine's erf is computed when coding.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np

from nic.range_coder import PRECISION

SCALE_MIN, SCALE_MAX, SCALES = 0.11, 256.0, 64
"""The prior's standard deviations: 64 log-spaced levels."""

SKIP_PROBABILITY = 0.998
"""A residual is not coded where its probability of being zero is above this."""

TAIL = 2.0**-17
"""Probability left outside a table on either side, and coded by escape."""


def scale_levels() -> np.ndarray:
    """(64,) float64 standard deviations."""
    return np.geomspace(SCALE_MIN, SCALE_MAX, SCALES)


@dataclass(frozen=True)
class FrequencyTables:
    """Cumulative frequencies of several alphabets.

    Table k covers the integers lows[k], lows[k] + 1, ... and one escape symbol, the last. `cdfs`
    holds the tables one after the other, each from 0 to 2**16; `starts` (tables + 1) delimits them.
    """

    cdfs: np.ndarray
    starts: np.ndarray
    lows: np.ndarray

    def __post_init__(self):
        arrays = self.cdfs, self.starts, self.lows
        if any(array.dtype != np.int32 or array.ndim != 1 for array in arrays):
            raise ValueError("frequency tables of another type than int32")
        tables, bounds = len(self.starts) - 1, self.starts.tolist()
        if tables < 1 or len(self.lows) != tables or [bounds[0], bounds[-1]] != [0, len(self.cdfs)]:
            raise ValueError("frequency tables of inconsistent sizes")
        if any(b - a < 3 for a, b in pairwise(bounds)):
            raise ValueError("a frequency table of less than a value and the escape")
        for cdf in self.lists:
            if cdf[0] != 0 or cdf[-1] != 1 << PRECISION or any(a >= b for a, b in pairwise(cdf)):
                raise ValueError("a frequency table does not increase from 0 to 65536")

    @cached_property
    def lists(self) -> list[list[int]]:
        """The tables as Python lists, which the scalar range coder reads fastest."""
        bounds = zip(self.starts[:-1], self.starts[1:])
        return [self.cdfs[a:b].tolist() for a, b in bounds]

    @cached_property
    def sizes(self) -> np.ndarray:
        """(tables,) number of integers each table covers; the escape symbol's index."""
        return np.diff(self.starts) - 2

    @staticmethod
    def from_probabilities(tables: list[tuple[int, np.ndarray]]) -> FrequencyTables:
        """From (low, probabilities) pairs; what they leave of 1 is the escape's."""
        cdfs = [_cumulative(p) for _, p in tables]
        return FrequencyTables(
            np.concatenate(cdfs).astype(np.int32),
            np.cumsum([0, *map(len, cdfs)]).astype(np.int32),
            np.array([low for low, _ in tables], np.int32),
        )


def gaussian_tables() -> tuple[FrequencyTables, int]:
    """Tables of the integer residual at each scale level, and the first level that is coded.

    The density is a zero-mean Gaussian convolved with a unit box (Balle et al. 2018).
    """
    tables, skip_below = [], 0
    for level, scale in enumerate(scale_levels()):
        width = next(n for n in range(1, 2000) if _normal_cdf(-(n + 0.5) / scale) < TAIL)
        edges = [_normal_cdf((k - 0.5) / scale) for k in range(-width, width + 2)]
        probabilities = np.diff(edges)
        if probabilities[width] > SKIP_PROBABILITY:
            skip_below = level + 1
        tables.append((-width, probabilities))
    return FrequencyTables.from_probabilities(tables), skip_below


def gaussian_bits(magnitude: float, scale: float) -> float:
    """Bits of an integer residual under a Gaussian of standard deviation `scale` convolved with a
    unit box, at most 30."""
    upper = _normal_cdf((0.5 - magnitude) / scale)
    return -math.log2(max(upper - _normal_cdf((-0.5 - magnitude) / scale), 1e-9))


def _normal_cdf(x: float) -> float:
    return 0.5 * math.erfc(-x / math.sqrt(2))


def _cumulative(probabilities: np.ndarray) -> np.ndarray:
    """Probabilities and their escape -> (n + 2,) cumulative frequencies, each symbol at least 1."""
    total = 1 << PRECISION
    escape = max(0.0, 1.0 - probabilities.sum())
    p = np.append(probabilities, escape)
    frequencies = np.maximum(1, np.floor(p * total + 0.5).astype(np.int64))
    # Rounding leaves some counts too many or too few: the likeliest symbols feel them least.
    likeliest = np.argsort(-np.round(p, 9), kind="stable")
    while (missing := total - frequencies.sum()) != 0:
        spare = likeliest[frequencies[likeliest] > 1]
        frequencies[spare[: abs(missing)]] += np.sign(missing)
    return np.concatenate([[0], np.cumsum(frequencies)])
