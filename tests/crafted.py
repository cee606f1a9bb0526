"""Files made by hand: sound containers of what no encoder writes."""

from __future__ import annotations

from nic import container, tiles


def empty(side: int, hyper: int, fingerprint: bytes) -> bytes:
    """A square image whose streams are zeros, as many a tile as `hyper` says, and nothing."""
    count = (side // container.TILE_SIDE) ** 2
    chunks, crc = tiles.pack([({"H": bytes(hyper), "L": b""}, 0)] * count)
    return container.write(
        chunks, fingerprint=fingerprint, quality_step=0, gray=False, lanes=1, width=side,
        height=side, latents_crc=crc,
    )  # fmt: skip


def rewritten(
    header: container.Header, chunks: dict[str, bytes], latents_crc: int | None = None
) -> bytes:
    """A file of the same header with other chunks."""
    names = ("fingerprint", "quality_step", "gray", "lanes", "width", "height")
    crc = header.latents_crc if latents_crc is None else latents_crc
    fields = {name: getattr(header, name) for name in names}
    return container.write([*chunks.items()], **fields, latents_crc=crc)
