"""What can go wrong, as types. Every error a user can cause is a `NicError`.

Arguments stand unchanged in `args`, so that errors survive the pickling between processes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class NicError(Exception):
    """Base of all errors; `exit_code` is what the command line returns for it."""

    exit_code = 1


class InputError(NicError):
    """An argument, image or folder that cannot be used as asked."""

    exit_code = 2


class FormatError(NicError):
    """Not a .nic file, cut short, or malformed; `offset` is the byte of the file, where known."""

    exit_code = 3

    def __init__(self, message: str, offset: int | None = None):
        super().__init__(message, offset)
        self.message, self.offset = message, offset

    def __str__(self) -> str:
        return self.message if self.offset is None else f"{self.message} (at byte {self.offset})"


class ChecksumError(NicError):
    """Well-formed, but its bytes or its decoded latents are not those that were written."""

    exit_code = 4


class UnsupportedVersion(NicError):
    """Sound, but needs a newer reader: a newer major version, a reserved flag, a critical chunk."""

    exit_code = 5


class ModelMismatch(NicError):
    """The file was made with another model; fingerprints in hexadecimal."""

    exit_code = 6

    def __init__(self, expected: str, found: str):
        super().__init__(expected, found)
        self.expected, self.found = expected, found

    def __str__(self) -> str:
        return f"the file needs model {self.expected}, this is model {self.found}"


class LimitExceeded(NicError):
    """Larger than the format or this reader allows."""

    exit_code = 7


class OutputError(NicError):
    """The result cannot be written: it exists, the disk is full, permission is missing."""

    exit_code = 8


@contextmanager
def part_of_file(name: str) -> Iterator[None]:
    """A FormatError from within names this part of the file, in place of a byte counted from the
    part's start."""
    try:
        yield
    except FormatError as error:
        raise FormatError(f"{name}: {error.message}") from error
