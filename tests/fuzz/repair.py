"""Checksums, sizes and fingerprint of a mutated file made good, so that mutations reach what
stands behind them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields

from nic import container, tiles
from nic.container import CRC_SIZE, Header, read_varint
from nic.errors import NicError


def repaired(data: bytes, fingerprint: bytes) -> bytes:
    """The file as a writer would have sealed it, where it can be parsed; otherwise as it is.

    The last chunk ends where the file does. Checksums of latents are left alone but for the one of
    a table of tiles.
    """
    try:
        header, chunks = _parsed(data)
        container.check_size(header.width, header.height)
        latents_crc = header.latents_crc
        if "T" in chunks and header.tiles > 1:
            chunks["T"], latents_crc = _signed_table(header, chunks)
        return container.write(
            list(chunks.items()),
            fingerprint=fingerprint,
            quality_step=header.quality_step,
            gray=header.gray,
            lanes=header.lanes,
            width=header.width,
            height=header.height,
            latents_crc=latents_crc,
        )
    except NicError:
        return data


def _parsed(data: bytes) -> tuple[Header, dict[str, bytes]]:
    values, at = {}, 0
    for field in fields(Header):
        values[field.name], at = field.metadata["type"].read(data, at)
    header, chunks = Header(**values), {}
    at += CRC_SIZE
    for kind, size in header.chunks:
        chunks[kind] = data[at : at + size]
        at += size
    chunks[kind] += data[at:-CRC_SIZE]
    return header, chunks


def _signed_table(header: Header, chunks: Mapping[str, bytes]) -> tuple[bytes, int]:
    """The table of tiles with the checksums of what it points at; what a table lacks is zeros."""
    table, at = chunks["T"] + bytes(16), 0
    kinds = [kind for kind in tiles.TILED if kind in chunks]
    starts, parts = dict.fromkeys(kinds, 0), []
    for _ in range(header.tiles):
        streams = {}
        for kind in kinds:
            size, at = read_varint(table, at)
            streams[kind] = chunks[kind][starts[kind] : starts[kind] + size]
            starts[kind] += size
        crc = table[at : at + CRC_SIZE]
        parts.append((streams, int.from_bytes(crc, "big")))
        at += 2 * CRC_SIZE
    [(_, signed), *_], latents_crc = tiles.pack(parts)
    return signed, latents_crc
