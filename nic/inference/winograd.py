"""3x3 convolutions with a quarter of the products: Winograd's minimal filtering F(4x4, 3x3).

Lavin and Gray 2016, "Fast algorithms for convolutional neural networks", sec. 4.3: of inputs d,
6x6, and a kernel g, the 4x4 outputs are A' (G g G' * B' d B) A, where * multiplies number by number
and the sum over input channels goes within. To apply a matrix from both sides is to apply its
Kronecker product to the numbers row by row. In float32 it is right to five digits.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from nic.threads import workers

OUT, IN = 4, 6
"""Sides of a block of outputs, and of the inputs that it sees."""

PIECE_BYTES = 2**21
"""Blocks are taken together whose inputs have about this size, which fit a CPU's cache."""

# A', B' and 24 G.
_A = [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]]
_B = [
    [4, 0, -5, 0, 1, 0],
    [0, -4, -4, 1, 1, 0],
    [0, 4, -4, -1, 1, 0],
    [0, -2, -1, 2, 1, 0],
    [0, 2, -1, -2, 1, 0],
    [0, 4, 0, -5, 0, 1],
]
_G = [[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]]
INPUT_TRANSFORM = np.kron(_B, _B).astype(np.float32)
OUTPUT_TRANSFORM = np.kron(_A, _A).astype(np.float32)
FILTER_TRANSFORM = np.kron(_G, _G).astype(np.float32) / 24**2


def transformed(weight: np.ndarray) -> np.ndarray:
    """Weights (out, in, 3, 3) as `convolve` takes them: (36, in, out)."""
    out, channels, *_ = weight.shape
    taps = weight.transpose(2, 3, 1, 0).reshape(9, -1)
    return (FILTER_TRANSFORM @ taps).reshape(IN * IN, channels, out)


def convolve(
    x: np.ndarray, kernels: np.ndarray, finish: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """Convolution with zeros beyond the border: (h, w, in) -> (h, w, out) float32.

    finish: what pieces of the result become, perhaps in place.
    """
    h, w, channels = x.shape
    rows, columns, width = -(-h // OUT), -(-w // OUT), kernels.shape[2]
    padded = np.pad(x, ((1, OUT * rows + 1 - h), (1, OUT * columns + 1 - w), (0, 0)))
    blocks = sliding_window_view(padded, (IN, IN), (0, 1))[::OUT, ::OUT].transpose(3, 4, 0, 1, 2)
    out = np.empty((rows, OUT, columns, OUT, width), np.float32)

    def work(top: int, bottom: int) -> None:
        piece = blocks[:, :, top:bottom].reshape(IN * IN, -1)
        products = (INPUT_TRANSFORM @ piece).reshape(IN * IN, -1, channels) @ kernels
        outputs = OUTPUT_TRANSFORM @ products.reshape(IN * IN, -1)
        outputs = outputs.reshape(OUT, OUT, -1, columns, width)
        out[top:bottom] = finish(outputs.transpose(2, 0, 3, 1, 4))

    workers.deal(work, rows, PIECE_BYTES // (blocks[:, :, 0].size * x.itemsize))
    return out.reshape(OUT * rows, OUT * columns, width)[:h, :w]
