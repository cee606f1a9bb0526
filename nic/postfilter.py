"""The post-filter: how each tile's file has its decoded pixels moved.

g_s is the same for all images; the filter is fitted to one tile (`postfilter_fit.py`), and takes a
few percent of the squared error back for some 50 bytes. Between a pixel p and its neighbour q flows
phi(x[q] - x[p]), which is added to p and taken from q; phi is odd and linear in two pieces, so that
edges, whose differences are large, are moved otherwise than noise. This is the nonlinear adaptive
loop filter of VVC with its cross-component one (Karczewicz et al. 2021, "VVC in-loop filters", sec.
V), outside of any loop; and one step of a diffusion as in Perona and Malik 1990.

Components: luma = (R + G + B) / 3, blue = (R - B) / 2, green = (R - 2 G + B) / 6, which are
orthogonal; of a gray image, luma alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np

from nic.regions import Region
from nic.threads import workers

if TYPE_CHECKING:
    import torch

Plane = TypeVar("Plane", np.ndarray, "torch.Tensor")

REACH = 2
"""Pixels that the filter sees beyond its own, in each direction."""

UNIT = 256
"""Weights are whole multiples of 1 / UNIT."""

ROWS = 64
"""Taken at a time by a CPU, whose cache holds them."""

NEAR = [(0, 1), (1, -1), (1, 0), (1, 1)]
FAR = [(0, 2), (1, -2), (1, 2), (2, -2), (2, -1), (2, 0), (2, 1), (2, 2)]


class Term(NamedTuple):
    """What flows between neighbours: phi of the difference of a component."""

    source: int
    """The component: 0 luma, 1 blue, 2 green."""
    neighbour: tuple[int, int]
    """Rows and columns from one pixel to the other."""
    weights: int
    """1: of the difference; 2: also of the difference clipped to plus and minus the threshold."""


def _terms(source: int, neighbours: Sequence[tuple[int, int]], weights: int) -> list[Term]:
    return [Term(source, neighbour, weights) for neighbour in neighbours]


TERMS = (
    _terms(0, NEAR + FAR, 2),
    _terms(1, NEAR, 2) + _terms(0, NEAR, 1),
    _terms(2, NEAR, 2) + _terms(0, NEAR, 1),
)
"""Of luma, blue and green, in the order of their weights."""

WEIGHT_COUNTS = tuple(sum(term.weights for term in own) for own in TERMS)
"""How many these are."""

POWER = (3, 2, 6)
"""What the squares of luma, blue and green add to the sum of the squares of red, green and blue."""


class Component(NamedTuple):
    """How one component of a tile is filtered."""

    code: int
    """1..255, of the threshold."""
    weights: np.ndarray
    """int8, in 1 / UNIT, one or two for each term."""

    @property
    def threshold(self) -> float:
        """In samples of 0..1."""
        return threshold(self.code)

    @property
    def size(self) -> int:
        """Bytes in a file."""
        return 1 + len(self.weights)

    def slopes(self, terms: Sequence[Term]) -> Iterator[tuple[Term, float, float]]:
        """Each term, phi's slope beyond the threshold, and by how much it is steeper within."""
        weights = iter((self.weights / UNIT).tolist())
        for term in terms:
            yield term, next(weights), next(weights) if term.weights == 2 else 0.0


PostFilter = Sequence[Component | None]
"""A tile's: luma, blue, green, or luma alone; None where a component is left as it is."""


def threshold(code: int) -> float:
    """In samples of 0..1."""
    return 2.0 ** (code / 16 - 4) / 255


def filtered(x: Plane, post_filter: PostFilter) -> Plane:
    """Float32 samples, (H, W, 3) or, gray, (H, W), of NumPy or PyTorch, moved by the filter."""
    if not any(post_filter):
        return x
    if not isinstance(x, np.ndarray):
        return _filtered(x, post_filter)
    result = np.empty_like(x)

    def work(top: int, bottom: int) -> None:
        above, below = max(0, top - REACH), bottom + REACH
        result[top:bottom] = _filtered(x[above:below], post_filter)[top - above : bottom - above]

    workers.deal(work, len(x), ROWS - 2 * REACH)
    return result


def _filtered(x: Plane, post_filter: PostFilter) -> Plane:
    planes = components(x)
    return moved(
        x, [_move(planes, terms, own) if own else 0.0 for own, terms in zip(post_filter, TERMS)]
    )


def moved(x: Plane, moves: Sequence[Plane | float]) -> Plane:
    """Samples whose components are moved by so much."""
    if x.ndim == 2:
        return x + moves[0]
    luma, blue, green = moves
    x = x + 0.0  # a copy
    x[..., 0] += luma + blue + green
    x[..., 1] += luma - 2 * green
    x[..., 2] += luma - blue + green
    return x


def components(x: Plane) -> list[Plane]:
    """Luma, blue and green, or, gray, luma."""
    if x.ndim == 2:
        return [x]
    red, green, blue = x[..., 0], x[..., 1], x[..., 2]
    return [(red + green + blue) / 3, (red - blue) / 2, (red - 2 * green + blue) / 6]


def _move(planes: Sequence[Plane], terms: Sequence[Term], own: Component) -> Plane:
    """What is added to a component."""
    move, bend = planes[0] * 0, own.threshold
    for top, bottom in bands(move):
        for term, slope, within in own.slopes(terms):
            p, q = ends(move.shape, term.neighbour, top, bottom)
            difference = planes[term.source][q] - planes[term.source][p]
            flow = difference * slope
            if within:
                flow += difference.clip(-bend, bend) * within
            move[p] += flow
            move[q] -= flow
    return move


def bands(plane: Plane) -> Iterator[tuple[int, int]]:
    """First row of each piece and the one after its last; a GPU takes all rows at once."""
    rows = len(plane) if getattr(plane, "is_cuda", False) else ROWS
    for top in range(0, len(plane), rows):
        yield top, top + rows


def ends(
    shape: Sequence[int], neighbour: tuple[int, int], top: int, bottom: int
) -> tuple[Region, Region]:
    """Of a plane the pixels in rows from `top` to `bottom` that have this neighbour, and these
    neighbours."""
    (h, w), (dy, dx) = shape, neighbour
    last, left, right = min(bottom, h - dy), max(0, -dx), min(w, w - dx)
    rows, columns = slice(top, max(top, last)), slice(left, max(left, right))
    there = slice(rows.start + dy, rows.stop + dy), slice(columns.start + dx, columns.stop + dx)
    return (rows, columns), there
