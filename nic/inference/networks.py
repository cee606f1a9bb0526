"""What the kinds of transforms share: windows, convolutions, gains."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import cached_property

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from nic.config import LATENT_STRIDE, LEAKY_SLOPE, ModelConfig
from nic.inference import winograd
from nic.postfilter import PostFilter, filtered
from nic.regions import scaled, windows
from nic.samples import grey_levels

GATHER_BYTES = 2**21
"""A convolution's taps are gathered in pieces of about this size, which fit a CPU's cache."""


class Networks(ABC):
    """The float networks of one model; each kind of transforms is a subclass. `s` is the quality,
    0..1."""

    window: int
    """Side, in latent positions, of the regions into which large images are divided."""
    reach: int
    """Latent positions that a network sees beyond its own, in each direction, with what the
    post-filter sees beyond."""

    def __init__(self, config: ModelConfig, tensors: dict[str, np.ndarray]):
        self.config = config
        self.tensors = {name: value.astype(np.float32) for name, value in tensors.items()}
        self._arranged: dict[str, np.ndarray] = {}

    @cached_property
    def std(self) -> np.ndarray:
        """(M,) standard deviations that whiten y."""
        return self.tensors["std"].reshape(-1)

    def analyse(self, x: np.ndarray, s: float) -> np.ndarray:
        """g_a: pixels -0.5..0.5, (H, W, 3), sides multiples of 16 -> u (H / 16, W / 16, M)."""
        h, w = x.shape[0] // LATENT_STRIDE, x.shape[1] // LATENT_STRIDE
        u = np.empty((h, w, self.config.M), np.float32)
        for core, window, inner in windows(h, w, self.window, self.reach):
            u[core] = self.analyse_window(x[scaled(window, LATENT_STRIDE)], s)[inner]
        return u

    def synthesise(self, u_hat: np.ndarray, s: float) -> np.ndarray:
        """g_s: decoded u (h, w, M) -> pixels (16 h, 16 w, 3), not yet clipped to -0.5..0.5."""
        h, w, _ = u_hat.shape
        x_hat = np.empty((h * LATENT_STRIDE, w * LATENT_STRIDE, 3), np.float32)
        for core, window, inner in windows(h, w, self.window, self.reach):
            part = self.synthesise_window(u_hat[window], s)
            x_hat[scaled(core, LATENT_STRIDE)] = part[scaled(inner, LATENT_STRIDE)]
        return x_hat

    def render(
        self, u_hat: np.ndarray, s: float, gray: bool, post_filter: PostFilter
    ) -> np.ndarray:
        """`synthesise`, filtered, to pixels: uint8 (16 h, 16 w, 3) or, gray, (16 h, 16 w)."""
        x_hat = self.synthesise(u_hat, s)
        return grey_levels(filtered(x_hat.mean(axis=2) if gray else x_hat, post_filter))

    @abstractmethod
    def analyse_window(self, x: np.ndarray, s: float) -> np.ndarray:
        """`analyse` of a region."""

    @abstractmethod
    def synthesise_window(self, u_hat: np.ndarray, s: float) -> np.ndarray:
        """`synthesise` of a region."""

    @abstractmethod
    def hyper_analyse(self, u: np.ndarray, s: float) -> np.ndarray:
        """h_a: u (h, w, M), sides multiples of 4 -> z (h / 4, w / 4, z_channels)."""

    def gain(self, name: str, s: float) -> np.ndarray:
        """(channels,) factors that a network takes from the quality."""
        values = self.tensors[f"{name}.values"]
        position = s * (len(values) - 1)
        below = min(int(position), len(values) - 2)
        fraction = np.float32(position - below)
        return np.exp(values[below] * (1 - fraction) + values[below + 1] * fraction)

    def conv(self, name: str, x: np.ndarray, stride: int = 1) -> np.ndarray:
        """Convolution with zeros beyond the border, odd kernels."""
        k, bias = self.tensors[f"{name}.weight"].shape[-1], self.tensors[f"{name}.bias"]
        if k == 3 and stride == 1:
            out = winograd.convolve(x, self._weight(name, winograd.transformed))
            out += bias
            return out
        matrix = self._weight(name, _matrix)
        h, w, channels = x.shape
        if k == 1:
            out = x.reshape(-1, channels) @ matrix
            out += bias
            return out.reshape(h, w, -1)
        # Gathered are the taps of a row; those of the rows above and below are gathered already.
        padded = np.pad(x, ((k // 2, k // 2), (k // 2, k // 2), (0, 0)))
        taps = sliding_window_view(padded, k, 1)[:, ::stride].transpose(0, 1, 3, 2)
        h, w = -(-h // stride), taps.shape[1]
        out = np.empty((h, w, matrix.shape[1]), np.float32)
        rows = max(1, GATHER_BYTES // (4 * w * k * channels * stride))
        for top in range(0, h, rows):
            sums = out[top : top + rows].reshape(-1, matrix.shape[1])
            sums[:] = bias
            last = stride * (len(sums) // w - 1)
            piece = taps[stride * top : stride * top + last + k].reshape(-1, w, k * channels)
            for dy, kernel in enumerate(matrix.reshape(k, k * channels, -1)):
                sums += piece[dy : dy + last + 1 : stride].reshape(-1, k * channels) @ kernel
        return out

    def _weight(self, name: str, arrange: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """A layer's weights as its way of convolving takes them; each has one way."""
        if name not in self._arranged:
            self._arranged[name] = arrange(self.tensors[f"{name}.weight"])
        return self._arranged[name]


def _matrix(weight: np.ndarray) -> np.ndarray:
    """Convolution weights (out, in, k, k) as (k * k * in, out)."""
    return weight.transpose(2, 3, 1, 0).reshape(-1, len(weight))


def leaky_relu(x: np.ndarray) -> np.ndarray:
    """x where positive, LEAKY_SLOPE x elsewhere."""
    return np.maximum(x, x * np.float32(LEAKY_SLOPE))
