"""A file of which no more is read than is needed."""

from __future__ import annotations

import os
from io import FileIO
from typing import IO

from nic.errors import InputError

PIECE = 2**24
"""Bytes asked for in one read."""


def read_up_to(file: IO[bytes], count: int) -> bytes:
    """`count` bytes, or as many as there are. A single read may give less, of a pipe for instance,
    and takes memory for all that it is asked for, which a header may claim and a file not have."""
    parts = []
    while count and (part := file.read(min(count, PIECE))):
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


class Stored:
    """A stretch of an open file; a slice of it is read when it is taken, and is bytes.

    May be given for the bytes of a whole .nic file. A slice is short where the file has shrunk
    meanwhile; InputError where it cannot be read.
    """

    def __init__(self, file: FileIO, start: int = 0, stop: int | None = None):
        self.file, self.start = file, start
        self.stop = file.seek(0, os.SEEK_END) if stop is None else stop

    def __len__(self) -> int:
        return self.stop - self.start

    def __getitem__(self, stretch: slice) -> bytes:
        part = self.part(stretch)
        try:
            self.file.seek(part.start)
            return read_up_to(self.file, len(part))
        except OSError as error:
            raise InputError(error.strerror or str(error)) from error

    def part(self, stretch: slice) -> Stored:
        """A slice that is not yet read."""
        start, stop, _ = stretch.indices(len(self))
        return Stored(self.file, self.start + start, self.start + max(start, stop))
