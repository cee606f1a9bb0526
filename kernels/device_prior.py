"""The serial loop of the exact prior on a device, for many grids of latents at once."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from kernels import wavefront
from kernels.decode_loop import DecodeLoop
from kernels.launch import obstacle
from kernels.lockstep import Lockstep
from kernels.range_decoder import DeviceReader
from kernels.wavefront import DenseLayer, Network
from nic.config import HYPER_STRIDE
from nic.device import memory_errors, resolve
from nic.prior import Coder, IntegerPrior, LatentCode
from nic.wavefront import Progress, wavefront_at

MANY = 8
"""Hyperlatents of so many grids are decoded on the device: a stream is one lane, in which a symbol
may take there several times the 0.3 us of a CPU."""

StepCoder = Callable[[int, Tensor], Tensor]
"""(step, means and levels (2, n, M) int32) -> residuals (n, M) int32, all on the device."""


class DevicePrior:
    """An `IntegerPrior` on a device: the same integers, for a batch of grids in lockstep.

    device: "cuda", "cuda:1", ... or "cpu". Kernels are Triton's; where those cannot run, PyTorch
    does the same, slower, and a RuntimeWarning says why. `triton=False` asks for PyTorch.
    RuntimeError where a CUDA device is asked for and there is none.
    """

    def __init__(
        self, prior: IntegerPrior, device: str | torch.device = "cuda", triton: bool = True
    ):
        device = resolve(device)
        if triton and (reason := obstacle(device)):
            warnings.warn(f"{reason}: the prior runs in PyTorch", RuntimeWarning, stacklevel=2)
            triton = False
        self.prior, self.device, self.triton = prior, device, triton
        self.network = Network.of(prior, device)
        self.hyper = [DenseLayer.of(layer, device) for layer in prior.hyper]
        psi = len(prior.hyper[-1].weight)
        self.first = torch.from_numpy(prior.entropy[0].matrix()[:psi]).to(device)
        biases = torch.from_numpy(prior.quality_bias + prior.entropy[0].bias)
        self.first_biases = biases.double().to(device)
        # A folder's images are of few sizes, mostly; other lanes and another order are only data.
        self._loop = lru_cache(4)(partial(DecodeLoop, prior, self.network, device=device))

    def encode_grids(self, *args: Any, **options: Any) -> list[LatentCode]:
        """As `IntegerPrior.encode_grids`, its networks on the device."""
        with memory_errors(self._loop.cache_clear):
            return self.prior.encode_grids(*args, loop=self, **options)

    def decode_grids(
        self,
        streams: Sequence[bytes],
        z_hats: Sequence[np.ndarray],
        steps: Sequence[int],
        sizes: Sequence[tuple[int, int]],
        lanes: Sequence[int],
        progress: Progress | None = None,
    ) -> list[np.ndarray]:
        """`IntegerPrior.decode_grids`; with Triton nothing crosses to the host before v_hat.

        Raises FormatError where a stream is damaged, whichever it is.
        """
        with memory_errors(self._loop.cache_clear):
            if not self.triton:
                return self.prior.decode_grids(streams, z_hats, steps, sizes, lanes, progress, self)
            room = 1 << max(16, sum(map(len, streams)).bit_length())
            order = sorted(range(len(sizes)), key=sizes.__getitem__)
            loop = self._loop(tuple(sorted(sizes)), max(lanes), room)
            given = ([values[grid] for grid in order] for values in (streams, lanes, steps))
            sums = (self.hyper_sums(z_hats[grid], steps[grid], *sizes[grid]) for grid in order)
            v_hats = dict(zip(order, loop.decode(*given, sums)))
            if progress:
                progress(loop.lockstep.count, loop.lockstep.count)
            return [v_hats[grid] for grid in range(len(sizes))]

    def decode_zs(
        self, streams: Sequence[bytes], sizes: Sequence[tuple[int, int]]
    ) -> list[np.ndarray]:
        """`IntegerPrior.decode_zs`, on the device where there are many, beside each other."""
        if not self.triton or len(streams) < MANY:
            return self.prior.decode_zs(streams, sizes)
        with memory_errors(self._loop.cache_clear):
            return self._decode_zs(streams, sizes)

    def _decode_zs(
        self, streams: Sequence[bytes], sizes: Sequence[tuple[int, int]]
    ) -> list[np.ndarray]:
        tables = self.prior.z_tables
        channels = len(tables.lows)
        shapes = [(-(-h // HYPER_STRIDE), -(-w // HYPER_STRIDE), channels) for h, w in sizes]
        starts = np.cumsum([0, *(hz * wz for hz, wz, _ in shapes)])
        capacity = sum(map(len, streams))
        reader = DeviceReader(len(streams), 1, capacity, tables, 0, starts, self.device)
        reader.load(streams, [1] * len(streams))
        indices = torch.arange(channels, dtype=torch.int32, device=self.device)
        with torch.cuda.device_of(indices):
            values = reader.read(0, indices.repeat(int(starts[-1]), 1)).double().cpu().numpy()
        reader.finish()
        return [part.reshape(shape) for part, shape in zip(np.split(values, starts[1:-1]), shapes)]

    def hyper_sums(self, z_hat: np.ndarray, step: int, h: int, w: int) -> Tensor:
        """`IntegerPrior.hyper_sums` on the device: (h, w, hidden) float64."""
        x = torch.from_numpy(z_hat).double().to(self.device)
        for layer in self.hyper[:-1]:
            x = F.pixel_shuffle(_grid(layer, x).permute(2, 0, 1), 2).permute(1, 2, 0)
        psi = _grid(self.hyper[-1], x)[:h, :w]
        return psi @ self.first + self.first_biases[step]

    def run_grids(
        self,
        sums: Sequence[Tensor],
        steps: Sequence[int],
        coders: Sequence[Coder],
        progress: Progress | None = None,
    ) -> list[np.ndarray]:
        """`IntegerPrior.run_grids`: entropy parameters come to the coders on the host, and their
        residuals go back, in one copy a step each."""
        lockstep = Lockstep.of([tuple(s.shape[:2]) for s in sums], steps, self.device)
        rows = torch.cat([s.flatten(0, 1) for s in sums])
        code = self._host_coder(lockstep, coders)
        return lockstep.grids(self.advance(lockstep, rows, code, progress))

    def advance(
        self,
        lockstep: Lockstep,
        sums: Tensor,
        code: StepCoder,
        progress: Progress | None = None,
    ) -> Tensor:
        """The loop itself, from rows of hyper sums to rows of v_hat; `code` gives the residuals of
        each step."""
        network, M = self.network, self.network.M
        kernels = wavefront.parameters, wavefront.update
        references = wavefront.parameters_reference, wavefront.update_reference
        parameters, update = kernels if self.triton else references
        u_hat = torch.zeros(lockstep.padded, M, dtype=torch.int32, device=self.device)
        v_hat = torch.zeros(len(sums), M, dtype=torch.int32, device=self.device)
        with torch.cuda.device_of(u_hat):
            for step, cells in lockstep.steps():
                both = parameters(network, cells, sums, u_hat)
                update(network, cells, both[0], code(step, both), u_hat, v_hat)
                if progress:
                    progress(step + 1, lockstep.count)
        return v_hat

    def _host_coder(self, lockstep: Lockstep, coders: Sequence[Coder]) -> StepCoder:
        """Coders of single grids on the host -> the batch's coder on the device."""
        most = max(cells.shape[1] for _, cells in lockstep.steps()) * self.network.M
        # Only pinned memory is copied without a detour, and while the host goes on.
        pinned = self.device.type == "cuda"
        down = torch.empty(2 * most, dtype=torch.int32, pin_memory=pinned)
        up = torch.empty(most, dtype=torch.int32, pin_memory=pinned)

        def code(step: int, both: Tensor) -> Tensor:
            means, levels = down[: both.numel()].view(both.shape).copy_(both).numpy()
            residuals = up[: means.size].view(means.shape)
            for grid, part in enumerate(lockstep.split(step)):
                if part.start < part.stop:
                    at = wavefront_at(*lockstep.sizes[grid], step)
                    values = coders[grid](at, means[part].astype(np.float64), levels[part])
                    residuals.numpy()[part] = values
            return residuals.to(self.device, non_blocking=True)

        # The copy down waits for the GPU: when it is done, nothing reads `up` any more.
        return code


def _grid(layer: DenseLayer, x: Tensor) -> Tensor:
    """`nic.integer.Layer.grid` of 3x3: (h, w, in) -> (h, w, out) float64, zeros beyond the border.

    A product of matrices, not a convolution: those of GPU libraries may transform their inputs,
    which is not exact.
    """
    windows = F.pad(x, (0, 0, 1, 1, 1, 1)).unfold(0, 3, 1).unfold(1, 3, 1)
    windows = windows.permute(0, 1, 3, 4, 2).flatten(2)
    return layer.finish(windows @ layer.exact + layer.bias)
