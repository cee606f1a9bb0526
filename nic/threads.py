"""Threads of the matrix products."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from threadpoolctl import threadpool_limits


class OneThread:
    """BLAS on one thread, while any thread of the program asks for it.

    The number of BLAS's threads is the process's: the first to ask sets it, and the last to end
    restores it.
    """

    def __init__(self):
        self.lock, self.users = threading.Lock(), 0
        self.limits: threadpool_limits | None = None

    @contextmanager
    def __call__(self) -> Iterator[None]:
        with self.lock:
            if not self.users:
                self.limits = threadpool_limits(1, "blas")
            self.users += 1
        try:
            yield
        finally:
            with self.lock:
                self.users -= 1
                if not self.users:
                    self.limits.restore_original_limits()


one_thread = OneThread()
"""For the serial loop, whose products are small: a second thread costs more than it gives."""
