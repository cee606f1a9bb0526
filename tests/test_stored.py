"""Files of which no more is read than is needed."""

import io
import os
import threading
import time

import numpy as np
import pytest

import nic
from nic.stored import PIECE, Stored, read_up_to


class Trickle(io.BytesIO):
    """Gives at most two bytes a read, as pipes and very large files may."""

    def read(self, count: int = -1) -> bytes:
        return super().read(min(count, 2))


def test_slices_are_whole():
    stored = Stored(Trickle(b"0123456789"), 1, 9)
    assert (len(stored), stored[2:7], stored[:100], stored[5:2]) == (8, b"34567", b"12345678", b"")
    assert stored.part(slice(2, 7))[1:] == b"4567"


@pytest.mark.parametrize("count", [0, 1, 7, 10, 11])
def test_reads_go_on_until_the_end(count):
    assert read_up_to(Trickle(b"0123456789"), count) == b"0123456789"[:count]


def test_a_read_takes_no_memory_for_what_a_header_claims():
    class Large(io.BytesIO):
        def read(self, count: int = -1) -> bytes:
            assert 0 <= count <= PIECE
            return super().read(count)

    assert read_up_to(Large(b"0123456789"), 2**35) == b"0123456789"


def test_a_header_that_comes_through_a_pipe_in_pieces(golden_model, tmp_path):
    data = nic.encode(np.zeros((4, 4), np.uint8))
    os.mkfifo(tmp_path / "pipe")

    def write() -> None:
        with open(tmp_path / "pipe", "wb", buffering=0) as pipe:
            pipe.write(data[:9])
            time.sleep(0.05)  # long enough for the reader to have come for them
            pipe.write(data[9:])

    writer = threading.Thread(target=write)
    writer.start()
    assert nic.info(tmp_path / "pipe") == nic.info(data)
    writer.join()
