"""The context layer's sums over causal windows of what is coded so far.

Only two of a window's taps see what was coded in the step before (`wavefront.NEWEST`). The sums of
the others, five sixths of the work, are begun while that step's symbols are still being coded, on
another thread. All are integers, which can be added up in any order.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from nic.integer import Layer
from nic.threads import workers
from nic.wavefront import NEWEST, TAPS, Positions

BORDER = 2
"""Positions beyond a grid that windows see above, to the left and to the right: zeros."""


class Taps(NamedTuple):
    """Some of the window's taps."""

    offsets: list[tuple[int, int]]
    """Rows and columns from the position whose window it is."""
    matrix: np.ndarray
    """(taps * M, phi) float64."""


def split(layer: Layer) -> tuple[Taps, Taps]:
    """The older and the newest of the context layer's taps."""

    def those(newest: bool) -> Taps:
        chosen = [k for k, tap in enumerate(TAPS) if (tap in NEWEST) == newest]
        part = replace(layer, weight=layer.weight[..., chosen])
        return Taps([TAPS[k] for k in chosen], part.matrix())

    return those(False), those(True)


class CausalSums:
    """Of one grid (h, w, M) of latents, all zero at first.

    To be used within `with workers`, in an order of which each step needs no more of the one before
    than NEWEST.
    """

    def __init__(self, taps: tuple[Taps, Taps], size: tuple[int, int, int]):
        h, w, channels = size
        self._width = w + 2 * BORDER
        self._older, self._newest = [
            (
                np.array([self._index(BORDER + dy, BORDER + dx) for dy, dx in part.offsets]),
                part.matrix,
            )
            for part in taps
        ]
        self._u_hat = np.zeros(((h + BORDER) * self._width, channels), np.int16)
        self._begun: Callable[[], np.ndarray] | None = None

    def sums(self, positions: Positions) -> np.ndarray:
        """(n, phi) float64 sums at the positions of a step."""
        offsets, matrix = self._newest
        newest = self._windows(positions, offsets) @ matrix
        # Of the first step nothing was begun: it sees nothing but zeros.
        return newest + self._begun() if self._begun else newest

    def begin(self, positions: Positions) -> None:
        """Begin the sums at the positions of the step after this one."""
        offsets, matrix = self._older
        self._begun = workers.begin(np.matmul, self._windows(positions, offsets), matrix)

    def _windows(self, positions: Positions, offsets: np.ndarray) -> np.ndarray:
        """(n, taps * M) float64."""
        windows = self._u_hat[self._index(*positions)[:, None] + offsets]
        size = len(offsets) * self._u_hat.shape[1]
        return windows.reshape(len(windows), size).astype(np.float64)

    def add(self, positions: Positions, u_hat: np.ndarray) -> None:
        """The latents (n, M) that were coded at the positions of a step, within int16."""
        rows, columns = positions
        self._u_hat[self._index(rows + BORDER, columns + BORDER)] = u_hat

    def _index(self, row: np.ndarray, column: np.ndarray) -> np.ndarray:
        """Where `_u_hat` holds a position, counted with the border."""
        return row * self._width + column
