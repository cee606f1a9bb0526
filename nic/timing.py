"""How long the stages of coding take, for those who ask."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def timed(report: dict | None, stage: str) -> Iterator[None]:
    """Records the seconds of what is done within as report["seconds"][stage], if there is a report;
    of a stage that is done again, the last."""
    start = time.perf_counter()
    yield
    if report is not None:
        report.setdefault("seconds", {})[stage] = time.perf_counter() - start
