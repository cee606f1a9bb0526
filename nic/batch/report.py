"""What a batch says at its end."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from nic.batch.manifest import DONE, LARGER, Row


@dataclass
class Report:
    """Counts of a run, as its rows come in."""

    unchanged: int = 0
    done: int = 0
    larger: int = 0
    failed: int = 0
    noted: int = 0
    """Files of which something was lost or converted."""
    deleted: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    """Of the files done."""
    bpp: float = 0.0
    """Their sum."""
    start: float = field(default_factory=time.monotonic)

    def add(self, row: Row) -> None:
        """Count a row."""
        self.failed += row.error is not None
        self.larger += row.status == LARGER
        self.noted += bool(row.notes)
        self.deleted += row.deleted
        if row.status == DONE:
            self.done += 1
            self.bytes_in += row.bytes_in
            self.bytes_out += row.bytes_out
            self.bpp += row.bpp

    def __str__(self) -> str:
        """A table of what became of how many files."""
        counts = {
            "done": self.done,
            "unchanged": self.unchanged,
            "larger, not written": self.larger,
            "failed": self.failed,
            "sources deleted": self.deleted,
            "with notes in the manifest": self.noted,
        }
        lines = [f"{count:>8}  {name}" for name, count in counts.items() if count]
        if self.done:
            lines[0] += f": {self._sizes()}"
        return "\n".join(lines)

    def _sizes(self) -> str:
        change = 100 * (self.bytes_out / self.bytes_in - 1)
        rate = self.done / (time.monotonic() - self.start)
        return (
            f"{self.bytes_in:,} -> {self.bytes_out:,} bytes ({change:+.1f} %),"
            f" {self.bpp / self.done:.3f} bpp on average, {rate:.1f} images/s"
        )
