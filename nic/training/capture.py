"""One training step as one launch: what the GPU has to do is recorded once and then replayed.

A step is some thousands of small kernels, which Python launches more slowly than a GPU runs them.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

WARM_UP = 3
"""Calls before the recording, in which libraries choose their algorithms and allocate."""


class Captured:
    """A function without arguments whose kernels, after WARM_UP calls, are launched as one CUDA
    graph.

    It must read its inputs from tensors that stay where they are, wait for no result on the host,
    and do the same work every time; random numbers are drawn anew. What it returns is overwritten
    by the next call. The host gets one call ahead of the GPU, so that it is never waited for, but
    no more: what it says of time and progress is true.
    """

    def __init__(self, function: Callable[[], Tensor]):
        self.function, self.calls = function, 0
        self.graph, self.stream = torch.cuda.CUDAGraph(), torch.cuda.Stream()
        self.last = torch.cuda.Event()

    def __call__(self) -> Tensor:
        self.calls += 1
        if self.calls <= WARM_UP:
            self.stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self.stream):
                result = self.function()
            torch.cuda.current_stream().wait_stream(self.stream)
            return result
        if self.calls == WARM_UP + 1:
            with torch.cuda.graph(self.graph, stream=self.stream):
                self.result = self.function()
        self.graph.replay()
        self.last.synchronize()
        self.last = torch.cuda.Event()
        self.last.record()
        return self.result
