"""How long the stages of coding take, for those who ask."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def timed(report: dict | None, stage: str) -> Iterator[None]:
    """Adds the seconds of what is done within to report["seconds"], if there is a report."""
    start = time.perf_counter()
    yield
    if report is not None:
        report.setdefault("seconds", {})[stage] = time.perf_counter() - start
