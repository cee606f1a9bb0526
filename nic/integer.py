"""Exact fixed-point layers: what the entropy decoder's networks are made of.

A layer holds int16 weights and takes int16 activations. Products and sums are carried in float64,
where every partial sum is an integer below 2**52 and therefore exact in any order, with any BLAS,
any number of threads and any instruction set (`Layer` checks the bound). One rounding shift a layer
brings the sum back to int16:

    requantize(acc, s) = clip(floor(acc * 2**-s + 1/2), -32767, 32767)

which is an arithmetic shift with rounding, not round-half-even. The idea is that of Balle et al.
2019, "Integer networks for data compression with latent-variable models".
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from nic.threads import workers

ACTIVATION_MAX = 32767
SUM_LIMIT = 2**52
WINDOW_BYTES = 2**21
"""Windows are taken together that fill about so much, which fits a CPU's cache."""
LEAKY_SHIFT = 3
"""LeakyReLU of slope 1/8: negative values are shifted right, rounding down."""


def rounding_shift(values: np.ndarray, shift: int) -> np.ndarray:
    """floor(values / 2**shift + 1/2) on integers held in float64."""
    return np.floor(values * 2.0**-shift + 0.5)


def leaky_relu(values: np.ndarray) -> np.ndarray:
    """max(x, x >> 3) on integers held in float64."""
    return np.maximum(values, np.floor(values * 2.0**-LEAKY_SHIFT))


@dataclass(frozen=True)
class Layer:
    """One convolution in fixed point; it may have no outputs.

    weight: (out, in, kh, kw) int16; bias: (out,) int64 in units of the sum; shift: rounding shift
    from sum to output; limit: magnitude the output is clipped to.
    """

    weight: np.ndarray
    bias: np.ndarray
    shift: int
    leaky: bool
    limit: int = ACTIVATION_MAX

    def __post_init__(self):
        if self.weight.dtype != np.int16 or self.weight.ndim != 4 or self.bias.dtype != np.int64:
            raise ValueError("fixed-point layer of another type than int16 weights, int64 bias")
        if self.bias.shape != self.weight.shape[:1] or not 0 < self.limit < 2**31:
            raise ValueError("fixed-point layer of inconsistent shape or limit")
        magnitudes = np.abs(self.weight.astype(np.int64)).sum((1, 2, 3))
        # In float64, since the magnitude of -2**63 is no int64.
        biases = np.abs(self.bias.astype(np.float64))
        largest = int((magnitudes * ACTIVATION_MAX + biases).max(initial=0))
        if largest >= SUM_LIMIT or not 0 <= self.shift < 48:
            raise ValueError(f"fixed-point layer out of bounds: sum {largest}, shift {self.shift}")

    def finish(self, acc: np.ndarray) -> np.ndarray:
        """Sum (bias included) -> output activations."""
        out = np.clip(rounding_shift(acc, self.shift), -self.limit, self.limit)
        return leaky_relu(out) if self.leaky else out

    def matrix(self) -> np.ndarray:
        """(kh * kw * in, out) float64, for activations whose channels vary fastest.

        Outputs vary slowest in memory, which BLAS multiplies by a few rows up to twice as fast.
        """
        inputs = math.prod(self.weight.shape[1:])
        rows = self.weight.transpose(0, 2, 3, 1).reshape(-1, inputs)
        return np.ascontiguousarray(rows, dtype=np.float64).T

    def grid(self, x: np.ndarray) -> np.ndarray:
        """Convolve a whole grid, zeros beyond its border: (h, w, in) -> (h, w, out)."""
        out, channels, kh, kw = self.weight.shape
        h, w, _ = x.shape
        padded = np.pad(x, ((kh // 2, kh // 2), (kw // 2, kw // 2), (0, 0)))
        windows = sliding_window_view(padded, (kh, kw), (0, 1)).transpose(0, 1, 3, 4, 2)
        result, matrix = np.empty((h * w, out)), self.matrix()

        def work(top: int, bottom: int) -> None:
            acc = windows[top:bottom].reshape(-1, len(matrix)) @ matrix + self.bias
            result[top * w : bottom * w] = self.finish(acc)

        workers.deal(work, h, WINDOW_BYTES // (w * len(matrix) * 8))
        return result.reshape(h, w, out)
