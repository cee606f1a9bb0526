"""The exact integer prior: latents <-> residuals, in wavefront order.

Everything here is integers, held in float64 where matrix products need it, so that encoder and
decoder agree to the bit on every machine. Names as in Minnen et al. 2018; Q formats (value =
integer * 2**-bits):

    z_hat         integers                    u_hat (context)   CONTEXT_BITS, int16
    psi, phi      int16, per model            means of u        MEAN_BITS
    gains         GAIN_BITS                   v_hat, means of v LATENT_BITS
    1 / gain      INVERSE_BITS                scale index       SCALE_BITS
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import chain, count, pairwise
from typing import NamedTuple, Protocol

import numpy as np

from nic import quantizer
from nic.causal import CausalSums, Taps, split
from nic.config import HYPER_STRIDE, QUALITY_STEPS
from nic.grids import shuffle
from nic.integer import ACTIVATION_MAX, Layer, rounding_shift
from nic.symbols import VALUE_MAX, SymbolReader, SymbolWriter
from nic.tables import SCALES, FrequencyTables
from nic.threads import workers
from nic.wavefront import TAPS, Positions, Progress, lockstep, step_count

CONTEXT_BITS = 9
MEAN_BITS = 12
GAIN_BITS = 16
INVERSE_BITS = 24
LATENT_BITS = 6
SCALE_BITS = 8
HEAD_LIMIT = 2**18 - 1
"""Magnitude of the entropy parameters as the network gives them."""

Coder = Callable[[Positions, np.ndarray, np.ndarray], np.ndarray]
"""(positions, means (n, M) of v in LATENT_BITS, scale levels (n, M)) -> residuals (n, M)."""


class SerialLoop(Protocol):
    """What runs the networks for the coders of residuals: `IntegerPrior`, or one on a device."""

    def hyper_sums(self, z_hat: np.ndarray, step: int, h: int, w: int): ...

    def run_grids(
        self,
        sums: Sequence,
        steps: Sequence[int],
        coders: Sequence[Coder],
        progress: Progress | None = None,
    ) -> list[np.ndarray]: ...


class LatentCode(NamedTuple):
    """Coded latents: the stream, and (h, w, M) arrays."""

    stream: bytes
    v_hat: np.ndarray
    """int32 in LATENT_BITS."""
    residuals: np.ndarray
    """int32; zero where skipped."""
    levels: np.ndarray
    """uint8 scale levels."""


def _check_table(name: str, table: np.ndarray, channels: int, low: int, high: int) -> None:
    """ValueError unless a table is int32 (steps, channels) within low..high - 1."""
    shape = QUALITY_STEPS, channels
    if table.dtype != np.int32 or table.shape != shape or table.min() < low or table.max() >= high:
        raise ValueError(f"{name} of another type, shape or range")


def _within_values(tables: FrequencyTables) -> bool:
    """Whether tables cover no value beyond VALUE_MAX, which bounds the sums as an escape's does."""
    lows = tables.lows.astype(np.int64)
    return lows.min() >= -VALUE_MAX and (lows + tables.sizes).max() <= VALUE_MAX + 1


@dataclass(frozen=True)
class IntegerPrior:
    """Integer weights and tables of one model, as they stand in its weight file."""

    hyper: list[Layer]
    """h_s: a PixelShuffle(2) follows each layer but the last."""
    context: Layer
    """(phi, M, 1, 12): the causal window's taps in the order of TAPS; no phi, no context."""
    entropy: list[Layer]
    """1x1 layers on (psi, phi); the last gives M means of u, then M scale indices."""
    gains: np.ndarray
    """(steps, M): std * gain at each quality step."""
    inverses: np.ndarray
    """(steps, M)"""
    scale_offsets: np.ndarray
    """(steps, M): log of the gain, in scale levels."""
    quality_bias: np.ndarray
    """(steps, hidden): added to the sum of the first entropy layer."""
    residual_tables: FrequencyTables
    z_tables: FrequencyTables
    skip_below: int
    """Residuals of lower scale levels are zero and not coded."""

    def __post_init__(self):
        """ValueError unless all parts fit together and stay within the bounds of exactness."""
        M, z_channels = self.context.weight.shape[1], self.hyper[0].weight.shape[1]
        psi, phi = len(self.hyper[-1].weight), len(self.context.weight)
        inputs = [z_channels, *(len(layer.weight) // 4 for layer in self.hyper[:-1])]
        inputs += [psi + phi, *(len(layer.weight) for layer in self.entropy[:-1])]
        layers = [*self.hyper, *self.entropy]
        hidden = [*layers[:-1], self.context]
        sound = (
            [layer.weight.shape[1] for layer in layers] == inputs
            and len(self.entropy) > 1
            and len(self.entropy[-1].weight) == 2 * M
            and self.context.weight.shape[2:] == (1, len(TAPS))
            and all(layer.limit <= ACTIVATION_MAX for layer in hidden)
            and self.entropy[-1].limit <= HEAD_LIMIT
            and len(self.residual_tables.lows) == SCALES
            and len(self.z_tables.lows) == z_channels
            and 0 <= self.skip_below <= SCALES
            and all(map(_within_values, (self.residual_tables, self.z_tables)))
        )
        if not sound:
            raise ValueError("layers and tables of the prior do not fit together")
        _check_table("gains", self.gains, M, 1, 2**26)
        _check_table("inverses", self.inverses, M, 0, 2**29)
        _check_table("scale_offsets", self.scale_offsets, M, -(2**24), 2**24)
        hidden_channels = len(self.entropy[0].weight)
        _check_table("quality_bias", self.quality_bias, hidden_channels, -(2**31), 2**31)

    def encode_z(self, z_hat: np.ndarray) -> bytes:
        """(hz, wz, channels) integers -> hyperlatent stream, position by position."""
        writer = SymbolWriter()
        indices = np.tile(np.arange(z_hat.shape[2]), z_hat[..., 0].size)
        writer.write(self.z_tables, indices, z_hat.reshape(-1).astype(np.int64))
        return writer.finish()

    def decode_z(self, data: bytes, h: int, w: int) -> np.ndarray:
        """Hyperlatent stream of an h x w latent grid -> z_hat (hz, wz, channels), in float64."""
        hz, wz, channels = -(-h // HYPER_STRIDE), -(-w // HYPER_STRIDE), len(self.z_tables.lows)
        reader = SymbolReader(data)
        values = reader.read(self.z_tables, np.tile(np.arange(channels), hz * wz))
        reader.finish()
        return values.reshape(hz, wz, channels).astype(np.float64)

    def decode_zs(
        self, streams: Sequence[bytes], sizes: Sequence[tuple[int, int]]
    ) -> list[np.ndarray]:
        """`decode_z` of several grids of (h, w) latents."""
        return [self.decode_z(data, *size) for data, size in zip(streams, sizes, strict=True)]

    def encode_y(self, v: np.ndarray, z_hat: np.ndarray, step: int, lanes: int = 1) -> LatentCode:
        """(h, w, M) float latents times gain -> the latent stream and what it holds."""
        return self.encode_grids([v], [z_hat], [step], [lanes])[0]

    def encode_grids(
        self,
        vs: Sequence[np.ndarray],
        z_hats: Sequence[np.ndarray],
        steps: Sequence[int],
        lanes: Sequence[int],
        dead_zone: float = 0.0,
        progress: Progress | None = None,
        loop: SerialLoop | None = None,
    ) -> list[LatentCode]:
        """`encode_y` of several grids of latents in lockstep, each with its quality step.

        dead_zone: what rounding takes off residuals, in quantiser steps. `progress`, if given, is
        called with (steps done, steps in all). loop: what runs the networks, by default this prior.
        """
        writers = [SymbolWriter(n) for n in lanes]
        residual_grids = [np.empty(v.shape, np.int32) for v in vs]
        level_grids = [np.empty(v.shape, np.uint8) for v in vs]

        def code(grid: int, at: Positions, means: np.ndarray, levels: np.ndarray) -> np.ndarray:
            centres = means * 2.0**-LATENT_BITS
            values = quantizer.with_dead_zone(vs[grid][at], centres, dead_zone)
            residuals = quantizer.residual(values, centres)
            residuals = np.clip(residuals, -VALUE_MAX, VALUE_MAX).astype(np.int64)
            coded = levels >= self.skip_below
            residuals[~coded] = 0
            writers[grid].write(self.residual_tables, levels[coded], residuals[coded])
            residual_grids[grid][at], level_grids[grid][at] = residuals, levels
            return residuals

        loop = loop or self
        sums = [loop.hyper_sums(z, q, *v.shape[:2]) for v, z, q in zip(vs, z_hats, steps)]
        coders = [partial(code, grid) for grid in range(len(vs))]
        v_hats = loop.run_grids(sums, steps, coders, progress)
        streams = [writer.finish() for writer in writers]
        return list(map(LatentCode, streams, v_hats, residual_grids, level_grids))

    def decode_y(
        self, data: bytes, z_hat: np.ndarray, step: int, h: int, w: int, lanes: int = 1
    ) -> np.ndarray:
        """Latent stream -> v_hat (h, w, M) int32 in LATENT_BITS."""
        return self.decode_grids([data], [z_hat], [step], [(h, w)], [lanes])[0]

    def decode_grids(
        self,
        streams: Sequence[bytes],
        z_hats: Sequence[np.ndarray],
        steps: Sequence[int],
        sizes: Sequence[tuple[int, int]],
        lanes: Sequence[int],
        progress: Progress | None = None,
        loop: SerialLoop | None = None,
    ) -> list[np.ndarray]:
        """`decode_y` of several grids of (h, w) latents in lockstep; as in `encode_grids`."""
        readers = [SymbolReader(data, n) for data, n in zip(streams, lanes, strict=True)]

        def code(
            reader: SymbolReader, at: Positions, means: np.ndarray, levels: np.ndarray
        ) -> np.ndarray:
            return reader.read_coded(self.residual_tables, levels, self.skip_below)

        loop = loop or self
        sums = [loop.hyper_sums(z, q, h, w) for z, q, (h, w) in zip(z_hats, steps, sizes)]
        coders = [partial(code, reader) for reader in readers]
        v_hats = loop.run_grids(sums, steps, coders, progress)
        for reader in readers:
            reader.finish()
        return v_hats

    def hyper_sums(self, z_hat: np.ndarray, step: int, h: int, w: int) -> np.ndarray:
        """psi's and the quality's part of the first entropy layer's sums: (h, w, hidden)."""
        x = z_hat
        for layer in self.hyper[:-1]:
            x = shuffle(layer.grid(x), 2)
        psi = self.hyper[-1].grid(x)[:h, :w]
        bias = self.entropy[0].bias + self.quality_bias[step].astype(np.float64)
        return workers.product(psi, self._matrices[0]) + bias

    def run_grids(
        self,
        sums: Sequence[np.ndarray],
        steps: Sequence[int],
        coders: Sequence[Coder],
        progress: Progress | None = None,
    ) -> list[np.ndarray]:
        """The serial loop for several grids at once, each with its hyper sums, quality step and
        coder: one product takes less time than several small ones. Returns each one's v_hat."""
        sizes = [s.shape[:2] for s in sums]
        # One under the other; windows reach two rows up, and find zeros between the grids.
        tops = np.cumsum([0, *(h + 2 for h, _ in sizes)])
        stack = np.zeros((tops[-1], max(w for _, w in sizes), sums[0].shape[2]))
        places = [np.s_[top : top + h, :w] for top, (h, w) in zip(tops, sizes)]
        for place, values in zip(places, sums):
            stack[place] = values

        done, total = count(1), max(step_count(h, w) for h, w in sizes)

        def code(at: Positions, means: np.ndarray, levels: np.ndarray) -> np.ndarray:
            bounds = np.searchsorted(at[0], tops)
            parts = []
            for coder, top, a, b in zip(coders, tops, bounds, bounds[1:]):
                parts.append(coder((at[0][a:b] - top, at[1][a:b]), means[a:b], levels[a:b]))
            if progress:
                progress(next(done), total)
            return np.concatenate(parts)

        rows = np.repeat(steps, np.diff(tops))
        v_hat = self.run(stack, rows, lockstep(sizes, tops), code)
        return [v_hat[place] for place in places]

    def run(
        self, sums: np.ndarray, steps: np.ndarray, order: Iterable[Positions], code: Coder
    ) -> np.ndarray:
        """The serial loop of encoder and decoder: visits positions in `order`, asks `code` for the
        residuals there, and returns v_hat (h, w, M) int32. steps: (h,) quality step of each row;
        order: asked for a step ahead, see `CausalSums` for which it may be."""
        h, w, _ = sums.shape
        M = self.gains.shape[1]
        used, quality = np.unique(steps, return_inverse=True)
        gains, inverses = self.gains[used].astype(np.float64), self.inverses[used]
        inverses, offsets = inverses.astype(np.float64), self.scale_offsets[used]
        v_hat = np.zeros((h, w, M), np.int32)
        context = CausalSums(self._taps, v_hat.shape)
        with workers:
            for at, following in pairwise(chain(order, [None])):
                q = quality[at[0]]
                means, scales = self._entropy_parameters(context.sums(at), sums[at])
                if following:
                    context.begin(following)
                means = rounding_shift(means * gains[q], MEAN_BITS + GAIN_BITS - LATENT_BITS)
                levels = rounding_shift(scales() + offsets[q], SCALE_BITS)
                levels = np.clip(levels, 0, SCALES - 1).astype(np.int64)
                v_hat[at] = values = code(at, means, levels) * 2**LATENT_BITS + means
                u_hat = rounding_shift(
                    values * inverses[q], LATENT_BITS + INVERSE_BITS - CONTEXT_BITS
                )
                context.add(at, np.clip(u_hat, -ACTIVATION_MAX, ACTIVATION_MAX))
        return v_hat

    @cached_property
    def _taps(self) -> tuple[Taps, Taps]:
        return split(self.context)

    @cached_property
    def _heads(self) -> list[Layer]:
        """The last entropy layer's halves: means of u, scale indices."""
        last = self.entropy[-1]
        halves = zip(np.split(last.weight, 2), np.split(last.bias, 2))
        return [replace(last, weight=weight, bias=bias) for weight, bias in halves]

    @cached_property
    def _matrices(self) -> list[np.ndarray]:
        """Of the first entropy layer's psi half, its phi half, the layers between, the heads."""
        first, *rest = [layer.matrix() for layer in [*self.entropy[:-1], *self._heads]]
        psi, phi = np.split(first, [len(first) - len(self.context.weight)])
        return [psi, phi, *rest]

    def _entropy_parameters(
        self, context: np.ndarray, hyper: np.ndarray
    ) -> tuple[np.ndarray, Callable[[], np.ndarray]]:
        """Sums of causal windows (n, phi) and of hyperlatents (n, hidden) -> means of u (n, M), and
        what waits for the scale indices (n, M), which take as long."""
        _, first, *middle, means, scales = self._matrices
        phi = self.context.finish(context + self.context.bias)
        h = self.entropy[0].finish(phi @ first + hyper)
        for layer, matrix in zip(self.entropy[1:-1], middle):
            h = layer.finish(h @ matrix + layer.bias)
        of_mean, of_scale = self._heads
        scale_sums = workers.begin(np.matmul, h, scales)
        means = of_mean.finish(h @ means + of_mean.bias)
        return means, lambda: of_scale.finish(scale_sums() + of_scale.bias)
