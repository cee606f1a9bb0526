"""Files and standard streams: read, and written whole or not at all."""

from __future__ import annotations

import contextlib
import glob
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from nic.errors import InputError, OutputError
from nic.stored import Stored

STREAM = "-"
"""As a file's name on the command line: standard input or output."""

PARTIAL = ".nic-{}.partial"
"""Name of a file that is being written, for some random letters."""


def default_output(name: str, extension: str) -> str:
    """photo.png -> photo.nic and photo.nic -> photo.png; a stream for a stream."""
    if name == STREAM:
        return STREAM
    stem, old = os.path.splitext(name)
    # Decoding, any extension but .nic is part of the name.
    return (stem if ".nic" in (old.lower(), extension) else name) + extension


def read(name: str) -> bytes:
    """All of a file or of standard input; raises InputError, which leaves out the name."""
    try:
        return sys.stdin.buffer.read() if name == STREAM else Path(name).read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a name with a null character
        raise InputError(getattr(error, "strerror", None) or str(error)) from error


@contextlib.contextmanager
def opened(name: str, partly: bool) -> Iterator[bytes | Stored]:
    """`read`, but where only a part is wanted, and the file is no stream or pipe, it is read as its
    slices are taken. Errors as of `read`."""
    if not (partly and os.path.isfile(name)):
        yield read(name)
        return
    try:
        file = open(name, "rb", buffering=0)
    except OSError as error:
        raise InputError(error.strerror or str(error)) from error
    with file:
        yield Stored(file)


def check_output(name: str | Path, source: str | Path, overwrite: bool) -> None:
    """`check_target`, and refuse the input itself; for standard output refuse a terminal. Raises
    OutputError."""
    if name != STREAM:
        check_target(name, overwrite)
        if source != STREAM and os.path.exists(name) and os.path.samefile(name, source):
            raise OutputError(f"{name}: is the input")
    elif sys.stdout.isatty():
        raise OutputError("standard output is a terminal: redirect it, or name a file with -o")


def write(name: str, data: bytes, overwrite: bool) -> None:
    """`write_atomic`, or write to standard output, whose errors are left as they are."""
    if name == STREAM:
        rest = memoryview(data)
        while rest:  # where Python does not buffer, a write may take only a part
            rest = rest[sys.stdout.buffer.write(rest) :]
    else:
        write_atomic(name, data, overwrite)


def check_target(path: str | Path, overwrite: bool) -> None:
    """Refuse a target that cannot be meant, before any work is spent on it; raises OutputError."""
    if not str(path):
        raise OutputError("the output has no name")
    if os.path.isdir(path):
        raise OutputError(f"{path}: is a folder")
    if os.path.isfile(path) and not overwrite:
        raise OutputError(f"{path}: exists already (-f overwrites it)")
    folder = os.path.dirname(path) or "."
    if not os.path.isdir(folder):
        raise OutputError(f"{folder}: no such folder")


def write_atomic(path: str | Path, data: bytes, overwrite: bool = False) -> None:
    """Write `data` to `path` whole or, whatever happens, not at all.

    A link is followed, a replaced file hands on its permissions, and what is no regular file (a
    device, a pipe) is written directly. Raises OutputError.
    """
    check_target(path, overwrite)
    target = os.path.realpath(path)
    if os.path.islink(target):
        raise OutputError(f"{path}: a link that leads to itself")
    try:
        if os.path.exists(path) and not os.path.isfile(path):
            with open(path, "wb") as file:
                file.write(data)
        else:
            _replace(target, data)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror or error}") from error


def _replace(path: str, data: bytes) -> None:
    # In the target's own folder: only within one file system is a rename atomic.
    partial = os.path.join(os.path.dirname(path), PARTIAL.format(os.urandom(8).hex()))
    try:
        with open(partial, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if os.path.exists(path):
            shutil.copymode(path, partial)
        os.replace(partial, path)
    except BaseException:  # an interrupt too must leave nothing behind
        with contextlib.suppress(OSError):
            os.unlink(partial)
        raise


def remove_partials(folder: str | Path) -> None:
    """Delete what killed processes left half-written in a folder in which none is now at work."""
    pattern = os.path.join(glob.escape(folder), PARTIAL.format("[0-9a-f]" * 16))
    for partial in glob.glob(pattern):
        with contextlib.suppress(OSError):
            os.unlink(partial)


def printable(text: object) -> str:
    """One printable line: names and messages from files may hold anything."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(text))
