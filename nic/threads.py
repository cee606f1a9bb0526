"""Threads of the matrix products."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial

import numpy as np
from threadpoolctl import threadpool_info, threadpool_limits


class OneThread:
    """BLAS on one thread, while any thread of the program asks for it.

    The number of BLAS's threads is the process's: the first to ask sets it, and the last to end
    restores it. Who asks is told how many there are otherwise.
    """

    def __init__(self):
        self.lock, self.users, self.threads = threading.Lock(), 0, 1
        self.limits: threadpool_limits | None = None

    @contextmanager
    def __call__(self) -> Iterator[int]:
        with self.lock:
            if not self.users:
                libraries = [pool for pool in threadpool_info() if pool["user_api"] == "blas"]
                self.threads = min((pool["num_threads"] for pool in libraries), default=1)
                self.limits = threadpool_limits(1, "blas")
            self.users += 1
        try:
            yield self.threads
        finally:
            with self.lock:
                self.users -= 1
                if not self.users:
                    self.limits.restore_original_limits()


one_thread = OneThread()
"""For the serial loop, whose products are small: a second thread costs more than it gives."""


class Beside:
    """Matrix products in a second thread, one at a time, beside what Python does in this one; of
    one thread in all, in this one."""

    def __init__(self, threads: int):
        self._worker = ThreadPoolExecutor(1) if threads > 1 else None
        self._begun = threading.Semaphore(0)

    def __enter__(self) -> Beside:
        return self

    def __exit__(self, *_: object) -> None:
        if self._worker:
            self._worker.shutdown()

    def start(self, a: np.ndarray, b: np.ndarray) -> Callable[[], np.ndarray]:
        """What gives a @ b."""
        if not self._worker:
            return partial(np.matmul, a, b)
        product = self._worker.submit(self._multiply, a, b)
        # A thread that is ready gets the interpreter from one that waits, or else after 5 ms.
        self._begun.acquire()
        return product.result

    def _multiply(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        self._begun.release()
        return a @ b
