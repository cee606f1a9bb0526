"""Work is dealt to as many threads as BLAS would have taken, and BLAS is left as it was."""

import threading

import numpy as np
import pytest
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
    assert len(pieces) >= min(rows, threads)


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
