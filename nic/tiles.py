"""Large images in tiles: squares of latents, each with streams and checksums of its own.

A tile decodes alone, and damage to one leaves the others whole.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

from nic.config import LATENT_STRIDE
from nic.container import CRC_SIZE, TILE_SIDE, TILED, Header, read_varint, write_varint
from nic.errors import ChecksumError, FormatError, part_of_file
from nic.regions import Region, is_empty, latent_grid, overlap, scaled, squares, whole
from nic.stored import Stored

SIDE = TILE_SIDE // LATENT_STRIDE
"""Latent positions of a tile in each direction."""


@dataclass(frozen=True)
class Tile:
    """One tile of a file."""

    header: Header
    """Of its file."""
    name: str
    region: Region
    """Its latents."""
    streams: dict[str, bytes]
    """By the type of the chunk they are in: hyperlatents, latents, alpha where there is any."""
    latents_crc: int
    data_crc: int | None
    """CRC-32 of the streams; None where the file's own covers them."""

    @property
    def damaged(self) -> bool:
        """Whether the streams are not those that were written."""
        return self.data_crc is not None and _crc(*self.streams.values()) != self.data_crc


def regions(height: int, width: int) -> list[Region]:
    """The latents of each tile of an image of that many pixels, row by row."""
    return squares(*latent_grid(height, width), SIDE)


def pack(tiles: Sequence[tuple[dict[str, bytes], int]]) -> tuple[list[tuple[str, bytes]], int]:
    """Of each tile its streams, by types that are the same for all, and the CRC of its latents ->
    chunks, and what stands in the header for `latents_crc`."""
    if len(tiles) == 1:
        [(streams, latents_crc)] = tiles
        return list(streams.items()), latents_crc
    table, crcs = bytearray(), b""
    for streams, latents_crc in tiles:
        table += b"".join(write_varint(len(data)) for data in streams.values())
        table += _pack_crc(latents_crc) + _pack_crc(_crc(*streams.values()))
        crcs += _pack_crc(latents_crc)
    joined = [(kind, b"".join(streams[kind] for streams, _ in tiles)) for kind in tiles[0][0]]
    return [("T", bytes(table)), *joined], _crc(crcs)


def unpack(
    header: Header, chunks: Mapping[str, bytes | Stored], wanted: Region | None = None
) -> list[Tile]:
    """The tiles of a file, or those that share latents with a region; their data not yet checked.

    Raises FormatError or ChecksumError where the table of tiles is not that of the file.
    """
    kinds = [kind for kind in TILED if kind in chunks]
    places = regions(header.height, header.width)
    if "T" not in chunks:
        streams = {kind: chunks[kind] for kind in kinds}
        return [Tile(header, "the image", places[0], streams, header.latents_crc, None)]
    wanted = wanted or whole(*latent_grid(header.height, header.width))
    with part_of_file("the table of tiles"):
        entries = _read_table(chunks["T"], len(kinds), len(places))
    if _crc(*(_pack_crc(latents_crc) for _, latents_crc, _ in entries)) != header.latents_crc:
        raise ChecksumError("the table of tiles does not match the header's checksum")
    stretches = []
    for kind, sizes in zip(kinds, zip(*(sizes for sizes, _, _ in entries))):
        ends = list(accumulate(sizes, initial=0))
        if ends[-1] != len(chunks[kind]):
            raise FormatError(f"the table of tiles does not fit chunk {kind}")
        stretches.append([slice(a, b) for a, b in pairwise(ends)])
    return [
        Tile(header, _name(n, region), region, {k: chunks[k][s] for k, s in zip(kinds, own)}, *crcs)
        for n, (region, own, (_, *crcs)) in enumerate(zip(places, zip(*stretches), entries))
        if not is_empty(overlap(region, wanted))
    ]


def _read_table(table: bytes, kinds: int, count: int) -> list[tuple[list[int], int, int]]:
    """Of every tile the sizes of its streams, CRC of its latents, CRC of its data."""
    entries, at = [], 0
    for _ in range(count):
        sizes = []
        for _ in range(kinds):
            size, at = read_varint(table, at)
            sizes.append(size)
        middle, end = at + CRC_SIZE, at + 2 * CRC_SIZE
        crcs = int.from_bytes(table[at:middle], "big"), int.from_bytes(table[middle:end], "big")
        entries.append((sizes, *crcs))
        at = end
    if at != len(table):
        raise FormatError("too short or too long")
    return entries


def verify(tiles: Iterable[Tile]) -> None:
    """ChecksumError that names every damaged tile."""
    damaged = [tile.name for tile in tiles if tile.damaged]
    if damaged:
        raise ChecksumError(f"the file is damaged: {', '.join(damaged)}")


def _name(number: int, region: Region) -> str:
    y, x = scaled(region, LATENT_STRIDE)
    return f"tile {number} (from x {x.start}, y {y.start})"


def _pack_crc(crc: int) -> bytes:
    return crc.to_bytes(CRC_SIZE, "big")


def _crc(*parts: bytes) -> int:
    crc = 0
    for part in parts:
        crc = zlib.crc32(part, crc)
    return crc
