"""Post-filters <-> chunk `f`, as in format_spec.md."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nic.errors import FormatError
from nic.postfilter import WEIGHT_COUNTS, Component, PostFilter


def pack(filters: Sequence[PostFilter]) -> bytes:
    """Chunk `f`, of the filters of all tiles in their order; empty where there are none."""
    if not any(any(own) for own in filters):
        return b""
    return b"".join(map(_pack, filters))


def _pack(post_filter: PostFilter) -> bytes:
    present = sum(1 << k for k, own in enumerate(post_filter) if own)
    parts = [bytes([own.code]) + own.weights.tobytes() for own in post_filter if own]
    return bytes([present]) + b"".join(parts)


def unpack(data: bytes, count: int, gray: bool) -> list[PostFilter]:
    """Chunk `f` -> the filters of so many tiles; FormatError where it is malformed."""
    filters, at = [], 0
    for _ in range(count):
        post_filter, at = _unpack(data, at, WEIGHT_COUNTS[:1] if gray else WEIGHT_COUNTS)
        filters.append(post_filter)
    if at != len(data):
        raise FormatError("chunk f is too long")
    return filters


def _unpack(data: bytes, at: int, counts: Sequence[int]) -> tuple[PostFilter, int]:
    def read(size: int) -> bytes:
        nonlocal at
        at += size
        if at > len(data):
            raise FormatError("chunk f is too short")
        return data[at - size : at]

    [present] = read(1)
    if present >> len(counts):
        raise FormatError("chunk f filters unknown components")
    post_filter: list[Component | None] = []
    for k, count in enumerate(counts):
        if not present >> k & 1:
            post_filter.append(None)
            continue
        [code] = read(1)
        if code == 0:
            raise FormatError("chunk f has a threshold of 0")
        post_filter.append(Component(code, np.frombuffer(read(count), np.int8)))
    return post_filter, at
