"""Threads of the products: BLAS keeps to one, and pieces of work are dealt to several of our own.

BLAS's threads wait for each other busily at the end of each product, so that beside other programs
a product takes many times as long; and what lies between products they leave to one of them.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ContextDecorator
from typing import TypeVar

import numpy as np
from threadpoolctl import ThreadpoolController

T = TypeVar("T")

MOST = 8
"""Threads, since Python's part of each piece of work is done by one at a time."""


class Workers(ContextDecorator):
    """As many threads as BLAS would take, while any thread of the program is within `with`.

    The number of BLAS's threads is the process's: the first to enter sets it to one, and the last
    to leave restores it. Work that is dealt must not deal any itself.
    """

    def __init__(self):
        self._lock, self._users = threading.Lock(), 0

    def __enter__(self) -> Workers:
        with self._lock:
            if not self._users:
                blas = ThreadpoolController().select(user_api="blas")
                most = min((library["num_threads"] for library in blas.info()), default=1)
                self._limits, self._count = blas.limit(limits=1), min(most, MOST)
                self._pool = ThreadPoolExecutor(self._count) if self._count > 1 else None
            self._users += 1
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._users -= 1
            if not self._users:
                if self._pool:
                    self._pool.shutdown(cancel_futures=True)
                self._limits.restore_original_limits()

    def begin(self, work: Callable[..., T], *arguments: object) -> Callable[[], T]:
        """Start work(*arguments), within `with`; what is returned waits for its result."""
        if self._pool:
            return self._pool.submit(work, *arguments).result
        result = work(*arguments)
        return lambda: result

    def map(self, work: Callable[..., T], *arguments: Iterable) -> list[T]:
        """Results of work for each argument, or for each one of several, in their order."""
        with self:
            return list((self._pool.map if self._pool else map)(work, *arguments))

    def deal(self, work: Callable[[int, int], object], rows: int, most: int) -> None:
        """work(top, bottom) for pieces that together are rows 0..rows - 1, of no more than `most`
        each, or one."""
        with self:
            pieces = -(-rows // max(1, most))
            pieces = min(rows, -(-pieces // self._count) * self._count)
            tops = [rows * n // pieces for n in range(pieces)]
            self.map(work, tops, [*tops[1:], rows])

    def product(self, x: np.ndarray, matrix: np.ndarray) -> np.ndarray:
        """x @ matrix: (..., k) and (k, n), of one type."""
        *shape, k = x.shape
        rows, result = x.reshape(-1, k), np.empty((math.prod(shape), matrix.shape[1]), x.dtype)

        def work(top: int, bottom: int) -> None:
            np.matmul(rows[top:bottom], matrix, out=result[top:bottom])

        self.deal(work, len(rows), len(rows))
        return result.reshape(*shape, -1)


workers = Workers()
