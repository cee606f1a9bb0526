"""The order in which latents are coded.

With a 5x5 causal window, position (i, j) needs columns up to j + 2 of the two rows above and
columns left of j in its own: all positions of equal t = j + 3 i can be coded together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

TAPS = [(-2, dx) for dx in range(-2, 3)] + [(-1, dx) for dx in range(-2, 3)] + [(0, -2), (0, -1)]
"""(row, column) offsets of the causal window, in the order of the context layer's weights."""

NEWEST = [(-1, 2), (0, -1)]
"""Those of TAPS that lie one step back; the others lie two to eight."""

Positions = tuple[np.ndarray, np.ndarray]
"""Rows and columns of latent positions that are coded in one step."""

Progress = Callable[[int, int], None]
"""(steps done, steps in all)"""


def wavefront_at(h: int, w: int, t: int) -> Positions:
    """Positions of an h x w grid with j + 3 i = t, from the top down; there may be none."""
    rows = np.arange(max(0, -((w - 1 - t) // 3)), min(h - 1, t // 3) + 1)
    return rows, t - 3 * rows


def step_count(h: int, w: int) -> int:
    """Steps of an h x w grid, those without positions included."""
    return w + 3 * (h - 1)


def wavefronts(h: int, w: int) -> Iterator[Positions]:
    """Positions of an h x w grid by rising t, step by step, those without positions left out."""
    return (at for at in lockstep([(h, w)], [0]) if len(at[0]))


def lockstep(sizes: Sequence[tuple[int, int]], tops: Sequence[int]) -> Iterator[Positions]:
    """Positions of several grids by rising t, the rows of each counted from its top. Of steps
    without positions none is left out, so that each but NEWEST lies two steps back or more."""
    for t in range(max(step_count(h, w) for h, w in sizes)):
        fronts = [wavefront_at(h, w, t) for h, w in sizes]
        rows = np.concatenate([rows + top for (rows, _), top in zip(fronts, tops)])
        yield rows, np.concatenate([columns for _, columns in fronts])
