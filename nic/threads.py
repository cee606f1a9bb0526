"""Threads of the products: BLAS keeps to one, and pieces of work are dealt to several of our own.

BLAS's threads wait for each other busily at the end of each product, so that beside other programs
a product takes many times as long; and what lies between products they leave to one of them.
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from contextlib import ContextDecorator
from queue import SimpleQueue
from typing import TypeVar

import numpy as np
from threadpoolctl import OpenBLASController, ThreadpoolController

T = TypeVar("T")

MOST = 8
"""Threads, since Python's part of each piece of work is done by one at a time."""

PIECE_BYTES = 2**20
"""Rows of inputs are taken together that have about this size, which fit a CPU's cache."""

WORTHWHILE = 1 / 4
"""Of a full piece: what is less work than that is not dealt."""


class Workers(ContextDecorator):
    """As many threads as BLAS would take, up to MOST, while any thread of the program is within
    `with`.

    The number of BLAS's threads is the process's: the first to enter sets it to one, and the last
    to leave restores it. Work that is dealt must not deal any itself. Where no thread can be
    started any more, as at the end of the program, work is done by whoever asks for it.
    """

    def __init__(self):
        self._lock, self._users = threading.Lock(), 0

    def __enter__(self) -> Workers:
        with self._lock:
            if not self._users:
                self._blas = ThreadpoolController().select(user_api="blas")
                found = (library["num_threads"] for library in self._blas.info())
                self._limits = self._limit()
                self._start(min(min(found, default=os.cpu_count() or 1), MOST))
            self._users += 1
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._users -= 1
            if not self._users:
                try:
                    for _ in self._threads:
                        self._tasks.put(None)
                    for thread in self._threads:
                        thread.join()
                finally:
                    _take_control()
                    self._limits.restore_original_limits()
                    _take_control()

    def _start(self, count: int) -> None:
        """As many threads as can be started, up to `count`; none for a count of one."""
        self._tasks, self._threads = SimpleQueue(), []
        try:
            while len(self._threads) < count > 1:
                thread = threading.Thread(target=self._serve, args=[self._tasks], daemon=True)
                thread.start()
                self._threads.append(thread)
        except RuntimeError:
            pass

    def _serve(self, tasks: SimpleQueue) -> None:
        """Do tasks until there comes a None."""
        self._limit()  # where BLAS is built with OpenMP, each thread has a number of its own
        while task := tasks.get():
            future, work, arguments = task
            try:
                future.set_result(work(*arguments))
            except BaseException as error:
                future.set_exception(error)

    def _limit(self):
        """BLAS on one thread; what is returned restores its number."""
        _take_control()
        return self._blas.limit(limits=1)

    def forget(self) -> None:
        """In a new process, which has none of its parent's threads. BLAS stays at one if it was."""
        self.__init__()

    def begin(self, work: Callable[..., T], *arguments: object) -> Callable[[], T]:
        """Start work(*arguments), within `with`; what is returned waits for its result."""
        if self._threads:
            future: Future[T] = Future()
            self._tasks.put((future, work, arguments))
            return future.result
        result = work(*arguments)
        return lambda: result

    def map(self, work: Callable[..., T], *arguments: Iterable) -> list[T]:
        """Results of work for each argument, or for each one of several, in their order."""
        with self:
            begun = [self.begin(work, *each) for each in zip(*arguments)]
            return [result() for result in begun]

    def deal(self, work: Callable[[int, int], object], rows: int, most: int) -> None:
        """work(top, bottom) for pieces that together are rows 0..rows - 1, of no more than `most`
        each, or one."""
        if rows <= WORTHWHILE * most:
            work(0, rows)
            return
        with self:
            count = max(1, len(self._threads))
            pieces = -(-rows // max(1, most))
            pieces = min(rows, -(-pieces // count) * count)
            tops = [rows * n // pieces for n in range(pieces)]
            self.map(work, tops, [*tops[1:], rows])

    def product(self, x: np.ndarray, matrix: np.ndarray) -> np.ndarray:
        """x @ matrix: (..., k) and (k, n), of one type."""
        *shape, k = x.shape
        rows, result = x.reshape(-1, k), np.empty((math.prod(shape), matrix.shape[1]), x.dtype)

        def work(top: int, bottom: int) -> None:
            np.matmul(rows[top:bottom], matrix, out=result[top:bottom])

        self.deal(work, len(rows), PIECE_BYTES // (k * x.itemsize))
        return result.reshape(*shape, -1)


def _take_control() -> None:
    """Threadpoolctl would do nothing, and say nothing, but for the first thread that it served."""
    if clear := getattr(OpenBLASController, "clear_controlling_thread", None):
        clear(force=True)


workers = Workers()
os.register_at_fork(after_in_child=workers.forget)
