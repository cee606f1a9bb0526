"""Work is dealt to as many threads as BLAS would have taken, and BLAS is left as it was."""

import os
import subprocess
import sys
import threading

import numpy as np
import pytest
from processes import ROOT
from threadpoolctl import threadpool_info, threadpool_limits

from nic.threads import MOST, workers


def blas_threads():
    return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("rows, most", [(0, 4), (1, 4), (2, 1), (7, 3), (64, 1000), (64, 0)])
def test_every_row_is_dealt_once(rows, most, threads):
    pieces = []
    with threadpool_limits(threads, "blas"):
        workers.deal(lambda top, bottom: pieces.append((top, bottom)), rows, most)
    assert [k for top, bottom in sorted(pieces) for k in range(top, bottom)] == list(range(rows))
    assert all(bottom - top <= max(1, most) for top, bottom in pieces)
    assert len(pieces) >= (min(rows, threads) if 4 * rows > most else 1)


def test_there_are_no_more_threads_than_pay():
    with threadpool_limits(2 * MOST, "blas"):
        before = threading.active_count()
        with workers:
            assert threading.active_count() == before + MOST
        assert threading.active_count() == before


def test_two_threads_of_the_program_share_the_workers():
    """Whoever comes first, whoever leaves last, and though threadpoolctl served another before."""
    entered, left = threading.Barrier(2), threading.Event()
    seen = []

    def first():
        with workers:
            entered.wait(60)
            seen.append(blas_threads())
        left.set()

    threadpool_limits(2, "blas")  # for good: this thread stays in control of them
    try:
        thread = threading.Thread(target=first)
        thread.start()
        with workers:
            entered.wait(60)
            assert left.wait(60)
            seen.append(blas_threads())
            assert workers.map(pow, [2, 3], [3, 2]) == [8, 9]
        thread.join()
        assert seen == [{1}, {1}] and blas_threads() == {2}
        thread = threading.Thread(target=lambda: workers.deal(lambda *_: seen.append(None), 8, 1))
        thread.start()
        thread.join()
        assert len(seen) == 10 and blas_threads() == {2}
    finally:
        threadpool_limits(1, "blas")


LATE = """
import atexit, threading
from threadpoolctl import threadpool_limits
from nic.threads import workers
threadpool_limits(2, "blas")
def work(name):
    print(name, workers.map(pow, [2, 3], [3, 2]), flush=True)
atexit.register(work, "at exit")
def later():
    threading.main_thread().join()
    work("later")
threading.Thread(target=later).start()
"""

FORKED = """
import os
from threadpoolctl import threadpool_limits
from nic.threads import workers
threadpool_limits(2, "blas")
with workers:
    if not os.fork():
        print("child", workers.map(pow, [2, 3], [3, 2]), flush=True)
        os._exit(0)
    os.wait()
    print("parent", workers.map(pow, [2, 3], [3, 2]), flush=True)
"""


@pytest.mark.parametrize(
    "script, names", [(LATE, ["later", "at exit"]), (FORKED, ["child", "parent"])]
)
def test_work_after_the_end_and_after_a_fork(script, names):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-W", "ignore", "-c", script]
    found = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    assert found.stdout.splitlines() == [f"{name} [8, 9]" for name in names]
    assert found.returncode == 0 and not found.stderr


def test_as_many_work_at_once_as_blas_would_have():
    with threadpool_limits(3, "blas"):
        together = threading.Barrier(3)
        assert sorted(workers.map(lambda k: together.wait(timeout=60), range(3))) == [0, 1, 2]
        with workers:
            assert blas_threads() == {1}
            begun = [workers.begin(pow, 2, k) for k in range(3 * MOST)]
            assert [wait() for wait in begun] == [2**k for k in range(3 * MOST)]
        assert blas_threads() == {3}


@pytest.mark.parametrize("threads", [1, 2])
def test_what_work_raises_reaches_its_caller(threads):
    def work(top, bottom):
        raise MemoryError(f"{top}")

    with threadpool_limits(threads, "blas"):
        with pytest.raises(MemoryError, match="0"):
            workers.deal(work, 8, 1)
        with workers, pytest.raises(MemoryError):
            workers.begin(work, 1, 2)()
        assert blas_threads() == {threads}


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_products_are_those_of_numpy(threads):
    x, matrix = np.arange(42.0).reshape(2, 7, 3), np.arange(12.0).reshape(3, 4)
    with threadpool_limits(threads, "blas"):
        np.testing.assert_array_equal(workers.product(x, matrix), x @ matrix)
