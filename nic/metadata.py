"""ICC profile, EXIF and XMP in a file: compressed, and given back byte for byte."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

from nic.container import read_varint, write_varint
from nic.errors import FormatError, LimitExceeded, part_of_file

if TYPE_CHECKING:
    from nic.picture import Picture

KINDS = {"c": "icc", "e": "exif", "x": "xmp"}
"""Chunk types -> the fields of a `Picture` that they hold."""

MAX_SIZE = 2**24
"""Bytes of one kind, uncompressed."""


def pack(picture: Picture) -> list[tuple[str, bytes]]:
    """Chunks of a picture's metadata, of which there may be none; LimitExceeded if too large."""
    chunks = []
    for kind, name in KINDS.items():
        if value := getattr(picture, name):
            _check_size(name, len(value))
            chunks.append((kind, write_varint(len(value)) + zlib.compress(value, 9)))
    return chunks


def unpack(chunks: Mapping[str, bytes]) -> dict[str, bytes]:
    """Metadata among a file's chunks, by the names of `Picture`'s fields.

    Raises FormatError, and LimitExceeded before anything too large is inflated.
    """
    return {name: _inflate(name, chunks[kind]) for kind, name in KINDS.items() if kind in chunks}


def _inflate(name: str, data: bytes) -> bytes:
    with part_of_file(f"the {name} chunk"):
        size, start = read_varint(data, 0)
    _check_size(name, size)
    inflater = zlib.decompressobj()
    try:
        # One byte more than there should be, so that too much is noticed and never inflated.
        value = inflater.decompress(data[start:], size + 1)
    except zlib.error as error:
        raise FormatError(f"the {name} chunk cannot be inflated") from error
    if len(value) != size or not inflater.eof or inflater.unused_data:
        raise FormatError(f"the {name} chunk does not inflate to its {size} bytes")
    return value


def _check_size(name: str, size: int) -> None:
    if size > MAX_SIZE:
        raise LimitExceeded(f"{name} metadata of {size} bytes: more than {MAX_SIZE}")
