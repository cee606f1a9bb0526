"""The serial loop of decoding, in buffers that stay: its launches can be recorded and replayed.

Some hundred steps of six launches each keep a GPU waiting for Python, which takes tens of
microseconds a launch. Recorded once as a CUDA graph, they follow one another by themselves.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from kernels import wavefront
from kernels.lockstep import Lockstep
from kernels.range_decoder import DeviceReader
from kernels.wavefront import Network
from nic.prior import IntegerPrior


class DecodeLoop:
    """Decodes grids of certain sizes, by Triton's kernels, any number of times.

    lanes: of a stream at most, a power of two; capacity: bytes of all streams together at most.
    """

    def __init__(
        self,
        prior: IntegerPrior,
        network: Network,
        sizes: Sequence[tuple[int, int]],
        lanes: int,
        capacity: int,
        device: torch.device,
    ):
        self.network, self.device = network, device
        self.lockstep = lockstep = Lockstep.of(sizes, [0] * len(sizes), device)
        tables, skip_below = prior.residual_tables, prior.skip_below
        self.reader = DeviceReader(
            len(sizes), lanes, capacity, tables, skip_below, lockstep.starts, device
        )
        positions, hidden = lockstep.cells.shape[1], network.entropy[0].weight.shape[1]
        self.sums = torch.zeros(positions, hidden, dtype=torch.float64, device=device)
        self.u_hat = torch.zeros(lockstep.padded, network.M, dtype=torch.int32, device=device)
        self.v_hat = torch.zeros(positions, network.M, dtype=torch.int32, device=device)
        self.runs, self.graph = 0, None
        self.lock = threading.Lock()

    def decode(
        self,
        streams: Sequence[bytes],
        lanes: Sequence[int],
        steps: Sequence[int],
        sums: Iterable[Tensor],
    ) -> list[np.ndarray]:
        """v_hat of each grid, (h, w, M) int32, from its stream, lanes, quality step and hyper sums.

        The first time compiles the kernels, the second records them. FormatError where a stream is
        damaged, whichever it is.
        """
        with self.lock:  # threads share the buffers; what is on the host at the end is done
            self.reader.load(streams, lanes)
            self._load_sums(sums)
            self.lockstep.set_qualities(steps)
            self._run()
            v_hats = self.lockstep.grids(self.v_hat)
            self.reader.finish()
            return v_hats

    def _load_sums(self, sums: Iterable[Tensor]) -> None:
        parts = self.sums.split([h * w for h, w in self.lockstep.sizes])
        for part, values in zip(parts, sums, strict=True):
            part.copy_(values.flatten(0, 1))

    def _run(self) -> None:
        with torch.cuda.device_of(self.u_hat):
            if self.runs == 1 and self.device.type == "cuda":
                self._record()
            if self.graph is None:
                self._launch()
            else:
                self.graph.replay()
        self.runs += 1

    def _launch(self) -> None:
        self.u_hat.zero_()
        for step, cells in self.lockstep.steps():
            both = wavefront.parameters(self.network, cells, self.sums, self.u_hat)
            residuals = self.reader.read(step, both[1])
            wavefront.update(self.network, cells, both[0], residuals, self.u_hat, self.v_hat)

    def _record(self) -> None:
        graph, stream = torch.cuda.CUDAGraph(), torch.cuda.Stream(self.device)
        try:
            # The outer stream is left also where the end of a failed recording raises. What other
            # threads do on the GPU meanwhile does not spoil it.
            with (
                torch.cuda.stream(stream),
                torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"),
            ):
                self._launch()
        except RuntimeError as error:
            warnings.warn(f"no CUDA graph ({error}): slower", RuntimeWarning, stacklevel=3)
        else:
            self.graph = graph
