"""Files made by hand: sound containers of what no encoder writes."""

from __future__ import annotations

import zlib
from dataclasses import fields

from nic import container, tiles


def empty(side: int, hyper: int, fingerprint: bytes) -> bytes:
    """A square image whose streams are zeros, as many a tile as `hyper` says, and nothing."""
    count = (side // container.TILE_SIDE) ** 2
    chunks, crc = tiles.pack([({"H": bytes(hyper), "L": b""}, 0)] * count)
    return container.write(
        chunks, fingerprint=fingerprint, quality_step=0, gray=False, lanes=1, width=side,
        height=side, latents_crc=crc,
    )  # fmt: skip


def of_tiles(
    header: container.Header, parts: list[tuple[dict[str, bytes], int]], **others: bytes
) -> bytes:
    """A file of the same header with other tiles; parts: of each, its streams and latents' CRC;
    others: chunks that are not in parts."""
    packed, latents_crc = tiles.pack(parts)
    return rewritten(header, dict(packed) | others, latents_crc)


def rewritten(
    header: container.Header, chunks: dict[str, bytes], latents_crc: int | None = None
) -> bytes:
    """A file of the same header with other chunks."""
    names = ("fingerprint", "quality_step", "gray", "lanes", "width", "height")
    crc = header.latents_crc if latents_crc is None else latents_crc
    fields = {name: getattr(header, name) for name in names}
    return container.write([*chunks.items()], **fields, latents_crc=crc)


def header_alone(header: container.Header) -> bytes:
    """A header with its checksum, and nothing of what it speaks of."""
    packed = b"".join(f.metadata["type"].write(getattr(header, f.name)) for f in fields(header))
    return packed + zlib.crc32(packed).to_bytes(container.CRC_SIZE, "big")
