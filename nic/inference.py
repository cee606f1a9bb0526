"""g_a, g_s and h_a in NumPy, from a weight file's arrays: all that coding on a CPU needs.

The networks are those of `transforms.py`, where they are trained. Importing PyTorch takes longer
than coding a photograph, and these layers are matrix products, which BLAS does as well. Arrays are
float32, channels last: (H, W, C).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from nic.config import BASE_STEP, LATENT_STRIDE, LEAKY_SLOPE, Z_START_SCALE, ModelConfig
from nic.grids import shuffle, unshuffle

WINDOW = 128
"""Side, in latent positions, of the regions into which large images are divided."""

GATHER_BYTES = 2**23
"""A convolution's taps are gathered in pieces of about this size, which fit a CPU's cache."""


class Networks:
    """The float networks of one model. `s` is the quality, 0..1."""

    def __init__(self, config: ModelConfig, tensors: dict[str, np.ndarray]):
        self.config = config
        self.tensors = {name: value.astype(np.float32) for name, value in tensors.items()}

    @cached_property
    def std(self) -> np.ndarray:
        """(M,) standard deviations that whiten y."""
        return self.tensors["std"].reshape(-1)

    @cached_property
    def _matrices(self) -> dict[str, np.ndarray]:
        """Convolution weights (out, in, k, k) as (k * k * in, out)."""
        return {
            name.removesuffix(".weight"): weight.transpose(2, 3, 1, 0).reshape(-1, len(weight))
            for name, weight in self.tensors.items()
            if weight.ndim == 4 and name.endswith(".weight")
        }

    def analyse(self, x: np.ndarray, s: float) -> np.ndarray:
        """g_a: pixels -0.5..0.5, (H, W, 3), sides multiples of 16 -> u (H / 16, W / 16, M)."""
        h, w = x.shape[0] // LATENT_STRIDE, x.shape[1] // LATENT_STRIDE
        u = np.empty((h, w, self.config.M), np.float32)
        for core, window, inner in windows(h, w, self.reach):
            u[core] = self._analyse(x[_pixels(window)], s)[inner]
        return u

    def synthesise(self, u_hat: np.ndarray, s: float) -> np.ndarray:
        """g_s: decoded u (h, w, M) -> pixels (16 h, 16 w, 3), not yet clipped to -0.5..0.5."""
        h, w, _ = u_hat.shape
        x_hat = np.empty((h * LATENT_STRIDE, w * LATENT_STRIDE, 3), np.float32)
        for core, window, inner in windows(h, w, self.reach):
            x_hat[_pixels(core)] = self._synthesise(u_hat[window], s)[_pixels(inner)]
        return x_hat

    @property
    def reach(self) -> int:
        """Latent positions that a network sees beyond its own, in each direction."""
        # A block reaches one position of its grid, and so does the layer between the grids.
        return self.config.coarse_blocks + (self.config.fine_blocks + 2) // 2

    def _analyse(self, x: np.ndarray, s: float) -> np.ndarray:
        h = self._conv("g_a.head", unshuffle(x, 8)) * self._gain("g_a.fine_gain", s)
        h = self._blocks("g_a.fine", self.config.fine_blocks, h)
        h = self._conv("g_a.down", h, stride=2) * self._gain("g_a.coarse_gain", s)
        h = self._blocks("g_a.coarse", self.config.coarse_blocks, h)
        y = unshuffle(x, LATENT_STRIDE) @ self._block_matrix + self.tensors["g_a.linear.bias"]
        return (y + self._conv("g_a.tail", h)) / self.std

    def _synthesise(self, u_hat: np.ndarray, s: float) -> np.ndarray:
        x = self._conv("g_s.head", u_hat) * self._gain("g_s.coarse_gain", s)
        x = self._blocks("g_s.coarse", self.config.coarse_blocks, x)
        x = shuffle(self._conv("g_s.up", x), 2) * self._gain("g_s.fine_gain", s)
        x = self._blocks("g_s.fine", self.config.fine_blocks, x)
        linear = shuffle(self._conv("g_s.linear", u_hat * self.std), LATENT_STRIDE)
        return (linear * BASE_STEP + shuffle(self._conv("g_s.tail", x), 8)) * BASE_STEP

    def hyper_analyse(self, u: np.ndarray, s: float) -> np.ndarray:
        """h_a: u (h, w, M), sides multiples of 4 -> z (h / 4, w / 4, z_channels)."""
        u = u * self._gain("h_a.gain", s)
        h = self._conv("h_a.head", np.concatenate([u, np.abs(u)], axis=2))
        h = self._conv("h_a.down1", leaky_relu(self._block("h_a.block", h)), stride=2)
        return self._conv("h_a.down2", leaky_relu(h), stride=2) * np.float32(Z_START_SCALE)

    @cached_property
    def _block_matrix(self) -> np.ndarray:
        """The 16x16 block transform, for `unshuffle`d blocks: (3 * 256, M)."""
        weight = self.tensors["g_a.linear.weight"]
        return weight.reshape(len(weight), -1).T

    def _gain(self, name: str, s: float) -> np.ndarray:
        values = self.tensors[f"{name}.values"]
        position = s * (len(values) - 1)
        below = min(int(position), len(values) - 2)
        fraction = np.float32(position - below)
        return np.exp(values[below] * (1 - fraction) + values[below + 1] * fraction)

    def _blocks(self, name: str, count: int, x: np.ndarray) -> np.ndarray:
        for k in range(count):
            x = self._block(f"{name}.{k}", x)
        return x

    def _block(self, name: str, x: np.ndarray) -> np.ndarray:
        h = relu(self._conv(f"{name}.layers.0", x))
        h = relu(self._conv(f"{name}.layers.2", h))
        return x + self._conv(f"{name}.layers.4", h)

    def _conv(self, name: str, x: np.ndarray, stride: int = 1) -> np.ndarray:
        """Convolution with zeros beyond the border, odd kernels."""
        matrix, bias = self._matrices[name], self.tensors[f"{name}.bias"]
        h, w, channels = x.shape
        k = int((len(matrix) // channels) ** 0.5)
        if k == 1:
            out = x.reshape(-1, channels) @ matrix
            out += bias
            return out.reshape(h, w, -1)
        padded = np.pad(x, ((k // 2, k // 2), (k // 2, k // 2), (0, 0)))
        taps = sliding_window_view(padded, (k, k), (0, 1))[::stride, ::stride]
        taps = taps.transpose(0, 1, 3, 4, 2)
        h, w = taps.shape[:2]
        out = np.empty((h, w, matrix.shape[1]), np.float32)
        rows = max(1, GATHER_BYTES // (4 * w * len(matrix)))
        for top in range(0, h, rows):
            piece = taps[top : top + rows].reshape(-1, len(matrix))
            out[top : top + rows] = (piece @ matrix).reshape(-1, w, matrix.shape[1])
        out += bias
        return out


def check_tensors(config: ModelConfig, tensors: dict[str, np.ndarray]) -> None:
    """ValueError unless `tensors` are just the arrays that the configuration's networks need."""
    expected = _shapes(config)
    for name in sorted(expected.keys() | tensors.keys()):
        if name not in tensors or name not in expected or tensors[name].shape != expected[name]:
            raise ValueError(f"tensor {name} is missing, unknown or of another shape")
        if not np.isfinite(tensors[name]).all():
            raise ValueError(f"tensor {name} holds numbers that are not finite")


def _shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Names and shapes of all arrays of the networks."""
    N, M, C = config.N, config.M, config.hyper_channels
    convolutions = {
        "g_a.linear": (M, 3, LATENT_STRIDE, LATENT_STRIDE),
        "g_a.head": (N, 3 * 64, 1, 1),
        "g_a.down": (N, N, 3, 3),
        "g_a.tail": (M, N, 1, 1),
        "g_s.linear": (3 * LATENT_STRIDE**2, M, 1, 1),
        "g_s.head": (N, M, 1, 1),
        "g_s.up": (4 * N, N, 1, 1),
        "g_s.tail": (3 * 64, N, 1, 1),
        "h_a.head": (C, 2 * M, 1, 1),
        "h_a.down1": (C, C, 5, 5),
        "h_a.down2": (config.z_channels, C, 5, 5),
    }
    blocks = {"h_a.block": C}
    for side in ("g_a", "g_s"):
        blocks |= {f"{side}.fine.{k}": N for k in range(config.fine_blocks)}
        blocks |= {f"{side}.coarse.{k}": N for k in range(config.coarse_blocks)}
    for name, n in blocks.items():
        convolutions[f"{name}.layers.0"] = (n // 2, n, 1, 1)
        convolutions[f"{name}.layers.2"] = (n // 2, n // 2, 3, 3)
        convolutions[f"{name}.layers.4"] = (n, n // 2, 1, 1)
    gains = {f"{side}.{grid}_gain": N for side in ("g_a", "g_s") for grid in ("fine", "coarse")}
    gains["h_a.gain"] = M
    return (
        {f"{name}.weight": shape for name, shape in convolutions.items()}
        | {f"{name}.bias": shape[:1] for name, shape in convolutions.items()}
        | {f"{name}.values": (config.anchors, n) for name, n in gains.items()}
        | {"std": (1, M, 1, 1)}
    )


Region = tuple[slice, slice]


def windows(h: int, w: int, margin: int) -> Iterator[tuple[Region, Region, Region]]:
    """Regions of an h x w grid that are computed one at a time, to bound memory.

    Yields each region's core, the window to compute it from, `margin` wider where the grid goes on,
    and the core's place within the window.
    """
    for top in range(0, h, WINDOW):
        for left in range(0, w, WINDOW):
            corner, end = (top, left), (min(top + WINDOW, h), min(left + WINDOW, w))
            outer = [max(0, a - margin) for a in corner]
            stop = [min(b + margin, size) for b, size in zip(end, (h, w))]
            yield (
                _region(corner, end),
                _region(outer, stop),
                _region(
                    [a - o for a, o in zip(corner, outer)], [b - o for b, o in zip(end, outer)]
                ),
            )


def _region(corner: Sequence[int], end: Sequence[int]) -> Region:
    return slice(corner[0], end[0]), slice(corner[1], end[1])


def _pixels(region: Region) -> Region:
    """A region of the latents' grid in pixels."""
    return tuple(slice(r.start * LATENT_STRIDE, r.stop * LATENT_STRIDE) for r in region)


def relu(x: np.ndarray) -> np.ndarray:
    """max(x, 0), in place."""
    return np.maximum(x, 0, out=x)


def leaky_relu(x: np.ndarray) -> np.ndarray:
    """x where positive, LEAKY_SLOPE x elsewhere."""
    return np.maximum(x, x * np.float32(LEAKY_SLOPE))
