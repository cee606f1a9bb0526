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
from nic.threads import PIECE_BYTES, workers


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

    def conv(
        self, name: str, x: np.ndarray, stride: int = 1, rectified: bool = False
    ) -> np.ndarray:
        """Convolution with zeros beyond the border, odd kernels; rectified: max(it, 0)."""
        k, finish = self.tensors[f"{name}.weight"].shape[-1], self._finish(name, rectified)
        if k == 3 and stride == 1:
            return winograd.convolve(x, self._weight(name, winograd.transformed), finish)
        kernels = self._weight(name, _kernel_rows)
        # Gathered are the taps of a row; those of the rows above and below are gathered already.
        padded = np.pad(x, ((k // 2, k // 2), (k // 2, k // 2), (0, 0)))
        taps = sliding_window_view(padded, k, 1)[:, ::stride].transpose(0, 1, 3, 2)
        _, channels, width = kernels.shape
        h, w = -(-len(x) // stride), taps.shape[1]
        out = np.empty((h, w, width), np.float32)

        def work(top: int, bottom: int) -> None:
            last = stride * (bottom - top - 1)
            piece = taps[stride * top : stride * top + last + k].reshape(-1, w, channels)
            rows = [piece[dy : dy + last + 1 : stride].reshape(-1, channels) for dy in range(k)]
            out[top:bottom] = finish(sum(map(np.matmul, rows, kernels))).reshape(-1, w, width)

        workers.deal(work, h, PIECE_BYTES // (4 * w * channels * stride))
        return out

    def pointwise(
        self,
        name: str,
        x: np.ndarray,
        shuffle: int = 1,
        rectified: bool = False,
        onto: np.ndarray | None = None,
    ) -> np.ndarray:
        """1x1 convolution, with PixelShuffle(shuffle) after it; rectified: max(it, 0); onto: what
        it is added to, in place, contiguous in memory."""
        finish, n = self._finish(name, rectified, shuffle), shuffle
        matrix = self._weight(name, lambda weight: _by_place(weight[..., 0, 0], n).T)
        (h, w, channels), width = x.shape, matrix.shape[1] // n**2
        out = np.empty((h * n, w * n, width), np.float32) if onto is None else onto
        blocks = out.reshape(h, n, w, n * width)

        def work(top: int, bottom: int) -> None:
            sums = finish(x[top:bottom].reshape(-1, channels) @ matrix)
            sums = sums.reshape(-1, w, n, n * width).transpose(0, 2, 1, 3)
            if onto is None:
                blocks[top:bottom] = sums
            else:
                blocks[top:bottom] += sums

        workers.deal(work, h, PIECE_BYTES // (4 * w * channels))
        return out

    def _finish(
        self, name: str, rectified: bool, shuffle: int = 1
    ) -> Callable[[np.ndarray], np.ndarray]:
        """What follows a layer's products, in place, a piece at a time: the bias and max(it, 0)."""
        bias = _by_place(self.tensors[f"{name}.bias"], shuffle)

        def finish(sums: np.ndarray) -> np.ndarray:
            sums += bias
            return np.maximum(sums, 0, out=sums) if rectified else sums

        return finish

    def _weight(self, name: str, arrange: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """A layer's weights as its way of convolving takes them; each has one way."""
        if name not in self._arranged:
            self._arranged[name] = arrange(self.tensors[f"{name}.weight"])
        return self._arranged[name]


def _kernel_rows(weight: np.ndarray) -> np.ndarray:
    """Convolution weights (out, in, k, k) as (k, k * in, out)."""
    out, channels, k, _ = weight.shape
    return weight.transpose(2, 3, 1, 0).reshape(k, k * channels, out)


def _by_place(values: np.ndarray, n: int) -> np.ndarray:
    """Outputs that PixelShuffle(n) follows, first axis: channels of one place side by side, where
    they were places of one channel."""
    places = values.reshape(-1, n * n, *values.shape[1:])
    return places.swapaxes(0, 1).reshape(values.shape)


def leaky_relu(x: np.ndarray) -> np.ndarray:
    """x where positive, LEAKY_SLOPE x elsewhere."""
    return np.maximum(x, x * np.float32(LEAKY_SLOPE))
