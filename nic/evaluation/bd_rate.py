"""Bjontegaard delta rate: how many bits more or fewer one codec needs for the same quality.

A curve is a sequence of (bpp, quality) points of one image or of averages; quality is any figure
that grows with fidelity, such as PSNR in dB. Log-rate is interpolated over quality by PCHIP, which
passes through the points without overshooting, and averaged over the range both curves cover
(Bjontegaard 2001, VCEG-M33, with a monotone interpolant in place of the cubic).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.interpolate import PchipInterpolator

Curve = Sequence[tuple[float, float]]


def bd_rate(anchor: Curve, test: Curve) -> float:
    """Mean difference in rate of `test` from `anchor` in percent; negative means fewer bits.

    nan when the curves share no range of quality.
    """
    curves = _increasing(anchor), _increasing(test)
    if min(len(curve) for curve in curves) < 2:
        return float("nan")
    low = max(curve[0, 1] for curve in curves)
    high = min(curve[-1, 1] for curve in curves)
    if low >= high:
        return float("nan")
    anchor_area, test_area = (
        PchipInterpolator(quality, np.log(bpp)).integrate(low, high)
        for bpp, quality in (curve.T for curve in curves)
    )
    return float(100 * np.expm1((test_area - anchor_area) / (high - low)))


def rate_difference(anchor: Curve, bpp: float, quality: float) -> float:
    """How many bits more (+) or fewer (-) a point takes than the curve at its quality, in percent;
    nan where the curve does not reach."""
    curve = _increasing(anchor)
    if len(curve) < 2 or not curve[0, 1] <= quality <= curve[-1, 1]:
        return float("nan")
    log_rate = PchipInterpolator(curve[:, 1], np.log(curve[:, 0]))(quality)
    return float(100 * np.expm1(np.log(bpp) - log_rate))


def mean_bd_rate(anchors: Mapping[str, Curve], tests: Mapping[str, Curve]) -> tuple[float, int]:
    """Mean over the images of each image's own BD-rate, and how many images it rests on.

    Images whose curves share no range of quality have no BD-rate and are left out; nan and 0 when
    that leaves none.
    """
    rates = [bd_rate(anchors[name], tests[name]) for name in anchors.keys() & tests.keys()]
    rates = [rate for rate in rates if np.isfinite(rate)]
    return (float(np.mean(rates)), len(rates)) if rates else (float("nan"), 0)


def _increasing(curve: Curve) -> np.ndarray:
    """(n, 2) array in order of rate, without the points that cost more and look no better, and
    without those of infinite quality, between which nothing can be interpolated."""
    kept: list[tuple[float, float]] = []
    for point in sorted(point for point in curve if np.isfinite(point[1])):
        if not kept or point[1] > kept[-1][1]:
            kept.append(point)
    return np.array(kept).reshape(-1, 2)
