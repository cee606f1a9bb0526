"""The encoder's choice of a post-filter: least squares, in whole numbers, where they pay."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from nic.postfilter import (
    POWER,
    REACH,
    ROWS,
    TERMS,
    UNIT,
    Component,
    PostFilter,
    Term,
    components,
    ends,
    threshold,
)
from nic.regions import Region, widened, within
from nic.threads import workers


def fit(
    x_hat: np.ndarray, original: np.ndarray, at: Region, shown: np.ndarray, lmbda: float
) -> PostFilter:
    """The filter of a tile that takes most off bits + lmbda * squared error of the samples.

    x_hat: decoded samples, float32 (H, W, 3) or (H, W), of the tile and what lies around it; at:
    the tile within them; original: its uint8 pixels; shown: bool, which of them count;
    lmbda: bits that a squared grey level is worth, the mean of three.
    """
    planes = components(x_hat)
    goals = components(original / np.float32(255) - np.float32(0.5))
    worth = [lmbda * 255**2 * power / 3 for power in POWER[: len(planes)]]
    return [
        _fit(planes, goal - plane[at], at, shown, terms, value)
        for plane, goal, terms, value in zip(planes, goals, TERMS, worth)
    ]


def _fit(
    planes: Sequence[np.ndarray],
    error: np.ndarray,
    at: Region,
    shown: np.ndarray,
    terms: Sequence[Term],
    worth: float,
) -> Component | None:
    """worth: bits that a unit of squared error is worth."""
    squared = np.square(error[shown]).sum(dtype=np.float64)
    if not 0 < squared < math.inf:
        return None
    rms = 255 * math.sqrt(squared / shown.sum())
    code = min(max(round(16 * (math.log2(rms) + 4)), 1), 255)
    count = sum(term.weights for term in terms)
    rows, columns = at

    def work(top: int) -> tuple[np.ndarray, np.ndarray]:
        band = slice(top, min(top + ROWS, rows.stop)), columns
        own = within(band, at)
        seen = slice(None) if shown[own].all() else shown[own].ravel()
        flows = _flows(planes, band, terms, threshold(code)).reshape(count, -1)[:, seen]
        return flows @ flows.T, flows @ error[own].ravel()[seen]

    products, sums = zip(*workers.map(work, range(rows.start, rows.stop, ROWS)))
    products = np.sum(products, 0, dtype=np.float64) / UNIT**2
    sums = np.sum(sums, 0, dtype=np.float64) / UNIT
    weights = _whole_numbers(products, sums)
    component = Component(code, weights.astype(np.int8))
    gain = 2 * weights @ sums - weights @ products @ weights
    return component if worth * gain > 8 * component.size else None


def _flows(
    planes: Sequence[np.ndarray], band: Region, terms: Sequence[Term], bend: float
) -> np.ndarray:
    """(weights, h, w) float32: what flows into each pixel of a band at weights of 1."""
    around = widened(band, REACH, *planes[0].shape)
    planes, inner = [plane[around] for plane in planes], within(band, around)
    count = sum(term.weights for term in terms)
    flows = np.zeros((count, *planes[0].shape), np.float32)
    unused = iter(flows)
    for term in terms:
        p, q = ends(planes[0].shape, term.neighbour, 0, len(planes[0]))
        difference = planes[term.source][q] - planes[term.source][p]
        for part in (difference, difference.clip(-bend, bend))[: term.weights]:
            flow = next(unused)
            flow[p] += part
            flow[q] -= part
    return flows[:, *inner]


def _whole_numbers(products: np.ndarray, sums: np.ndarray) -> np.ndarray:
    """int8 values w that make w.products.w - 2 w.sums small: rounded one after the other, so that
    those left can make up for it."""
    count = len(sums)
    products = products + np.eye(count) * (1e-7 * np.trace(products) / count + 1e-30)
    w, order = np.zeros(count), np.argsort(-np.diag(products))
    for n, k in enumerate(order):
        done, left = order[:n], order[n:]
        rest = np.linalg.solve(
            products[np.ix_(left, left)], sums[left] - products[np.ix_(left, done)] @ w[done]
        )
        w[k] = np.clip(np.rint(rest[0]), -128, 127)
    return w
