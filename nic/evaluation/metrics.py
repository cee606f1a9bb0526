"""MS-SSIM: how alike a decoded 8-bit image and the original look.

Images are uint8 (H, W) or (H, W, C), both of one shape.
"""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from nic.fidelity import PEAK

SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Exponents of the five scales, finest first (Wang, Simoncelli and Bovik 2003, sec. 3.2)."""

WINDOW = 11
"""Taps of the Gaussian window."""

SIGMA = 1.5
"""Its standard deviation in pixels."""

C1, C2 = (0.01 * PEAK) ** 2, (0.03 * PEAK) ** 2
"""Constants that keep the ratios of SSIM stable where an image is flat."""


def ms_ssim(a: np.ndarray, b: np.ndarray) -> float:
    """Multi-scale structural similarity, 0..1, per channel and then averaged.

    An image with a side below 176 pixels has no room for five windows: it gets as many scales as
    fit, their exponents scaled to the same sum. Below 11 pixels nothing fits and the result is nan.
    """
    scales = min(len(SCALE_WEIGHTS), (min(a.shape[:2]) // WINDOW).bit_length())
    if scales == 0:
        return float("nan")
    a, b = (np.atleast_3d(x).astype(np.float64) for x in (a, b))
    weights = np.array(SCALE_WEIGHTS[:scales]) * sum(SCALE_WEIGHTS) / sum(SCALE_WEIGHTS[:scales])
    result = 1.0
    for scale, weight in enumerate(weights):
        luminance, structure = _similarity(a, b)
        # Only the coarsest scale compares luminance.
        similarity = luminance * structure if scale == scales - 1 else structure
        # A negative correlation has no real power; it counts as no similarity at all.
        result = result * np.maximum(similarity.mean(axis=(0, 1)), 0) ** weight
        a, b = _halve(a), _halve(b)
    return float(np.mean(result))


def decibels(similarity: float) -> float:
    """MS-SSIM spread out near 1, where all good codecs lie: -10 log10(1 - similarity)."""
    return float(-10 * np.log10(1 - similarity)) if similarity < 1 else float("inf")


def _similarity(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Luminance and contrast-structure terms at every full window of (H, W, C) images."""
    mean_a, mean_b, aa, bb, ab = (_blur(x) for x in (a, b, a * a, b * b, a * b))
    products = mean_a * mean_b
    squares = mean_a**2 + mean_b**2
    luminance = (2 * products + C1) / (squares + C1)
    structure = (2 * (ab - products) + C2) / (aa + bb - squares + C2)
    return luminance, structure


def _blur(x: np.ndarray) -> np.ndarray:
    """Gaussian-weighted means over the windows that lie wholly inside, (H - 10, W - 10, C)."""
    taps = np.exp(-0.5 * ((np.arange(WINDOW) - WINDOW // 2) / SIGMA) ** 2)
    taps /= taps.sum()
    for axis in (0, 1):
        windows = sliding_window_view(x, WINDOW, axis)
        total, weighted = np.zeros(windows.shape[:-1]), np.empty(windows.shape[:-1])
        for i, tap in enumerate(taps):  # in place: fresh memory would take most of the time
            total += np.multiply(windows[..., i], tap, out=weighted)
        x = total
    return x


def _halve(x: np.ndarray) -> np.ndarray:
    """Means of 2x2 pixels; an odd last row or column counts twice, as in the authors' code."""
    height, width = x.shape[:2]
    x = np.pad(x, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    return (x[0::2, 0::2] + x[1::2, 0::2] + x[0::2, 1::2] + x[1::2, 1::2]) / 4
