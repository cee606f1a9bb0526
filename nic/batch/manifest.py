"""What has become of every file of a batch: JSON lines, only ever appended to.

A row is written when a file is begun and another when it is done, so that whatever kills the run,
the next one knows which outputs are whole and which it may replace.
"""

from __future__ import annotations

import fcntl
import json
import os
from dataclasses import asdict, dataclass, fields

from nic.errors import OutputError

NAME = "nic-batch.jsonl"
"""Its name in the folder of outputs."""

STARTED, DONE, LARGER, FAILED = "started", "done", "larger", "failed"
"""What a row can say. LARGER: converted, but not written for being larger than its source."""


@dataclass(frozen=True)
class Row:
    """The state of one output; what is not known yet is None."""

    output: str
    """Name in the folder of outputs."""
    input: str
    """Absolute path or URL."""
    stamp: str
    """The input's, as in `storage.File`."""
    settings: dict
    """All that the output's bytes depend on, but the input."""
    status: str
    error: str | None = None
    """Set where it FAILED, where it is STARTED and the process was killed, and where it is DONE but
    the source that was to be deleted is kept."""
    notes: tuple[str, ...] = ()
    """What was lost or converted."""
    digest: str | None = None
    """SHA-256 of the input, hexadecimal."""
    bytes_in: int | None = None
    bytes_out: int | None = None
    bpp: float | None = None
    """Bits per pixel of the .nic file."""
    quality: float | None = None
    """Of the .nic file, 0..100 in steps of 1/2.55."""
    deleted: bool = False
    """The source is, or is about to be, deleted: the output may be the only copy."""
    foreign: bool = False
    """What stood at the output was not of this file, nor known to be of a batch: before this is
    DONE, it may stand there still."""


_FIELDS = {field.name for field in fields(Row)}


def read(path: str) -> dict[str, Row]:
    """The last row of every output; none where there is no manifest. Errors: OutputError.

    Lines that are no rows, such as one cut short by a crash, are passed over.
    """
    rows = {}
    try:
        # Other names than ASCII's stand as escapes, even those that are no Unicode.
        with open(path, encoding="ascii", errors="replace") as file:
            for line in file:
                if row := _parse(line):
                    rows[row.output] = row
    except FileNotFoundError:
        pass
    except OSError as error:
        raise OutputError(f"{path}: cannot be read: {error.strerror or error}") from error
    return rows


def _parse(line: str) -> Row | None:
    try:
        values = json.loads(line)
        row = Row(**{key: values[key] for key in _FIELDS & values.keys()})
        return row if isinstance(row.output, str) else None
    except (ValueError, TypeError, AttributeError):
        return None


class Manifest:
    """The manifest at `path`, held by one run at a time; a context manager. Errors: OutputError."""

    def __init__(self, path: str):
        self.path = path
        try:
            self._file = open(path, "a+b")
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise OutputError(f"{path}: another run of nic batch is at work here") from error
        except OSError as error:
            raise OutputError(f"{path}: cannot be written: {error.strerror or error}") from error
        self.rows = read(path)
        self._end_last_line()

    def _end_last_line(self) -> None:
        """A line cut short must not swallow the next one."""
        if self._file.tell():
            self._file.seek(-1, os.SEEK_END)
            if self._file.read(1) != b"\n":
                self._write(b"\n", durable=False)

    def append(self, row: Row, durable: bool = False) -> None:
        """Add a row; a durable one outlives a crash of the machine."""
        self._write(json.dumps(asdict(row)).encode("ascii") + b"\n", durable)
        self.rows[row.output] = row

    def _write(self, line: bytes, durable: bool) -> None:
        try:
            self._file.write(line)
            self._file.flush()
            if durable:
                os.fsync(self._file.fileno())
        except OSError as error:
            raise OutputError(f"{self.path}: cannot be written: {error.strerror}") from error

    def unfinished(self) -> list[str]:
        """Outputs whose process was killed; those that FAILED have cleared up after themselves."""
        return [name for name, row in self.rows.items() if row.status == STARTED]

    def __enter__(self) -> Manifest:
        return self

    def __exit__(self, *_) -> None:
        self._file.close()
