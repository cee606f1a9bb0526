"""The .nic container: bytes <-> header and chunks, as in format_spec.md. Knows no network.

`Header` is the description of the header: the order, coding and meaning of its fields stand once,
beside their names, and drive reading, writing and printing.
"""

from __future__ import annotations

import warnings
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple

from nic.config import QUALITY_STEPS
from nic.errors import ChecksumError, FormatError, LimitExceeded, UnsupportedVersion
from nic.stored import Stored

MAGIC = b"\x89NIC"
VERSION = (1, 1)
MAX_SIDE = 65535
MAX_PIXELS = 2**27
MAX_RATIO = 4096
"""Pixels for each byte of coded latents, beyond the pixels of one tile. Flat images of nic-1 come
to a fifth of it: more is a small file made to cost much time."""

MAX_HEADER_SIZE = 512
"""Bytes of a file that hold any header whole: all that `read_header` needs."""

TILE_SIDE = 1024
"""Pixels of a tile in each direction, but for those at an image's right and lower edge."""

CHUNKS = {
    "T": "table of tiles",
    "H": "hyperlatents, range coded",
    "L": "latents, range coded",
    "A": "alpha channel, lossless WebP",
    "f": "post-filter of each tile",
    "c": "ICC profile, deflated",
    "e": "EXIF, deflated",
    "x": "XMP, deflated",
}
"""Chunk types this reader knows. Upper case: critical; lower case: ancillary."""

SINCE = {"f": 1}
"""Minor versions of the format in which chunk types came, where not in 1.0."""

REQUIRED = "HL"
TILED = "HLA"
"""Chunks in which each tile has its part; of several tiles, each with a checksum of its own."""

CRC_SIZE = 4
LANES = (1, 2, 4, 8, 16, 32, 64, 128)


class FieldType(NamedTuple):
    """How one field's value becomes bytes, and text."""

    name: str
    read: Callable[[bytes, int], tuple[Any, int]]
    """(data, offset) -> (value, offset after it)."""
    write: Callable[[Any], bytes]
    show: Callable[[Any], str] = str


class Flags(NamedTuple):
    gray: bool
    lanes: int
    reserved: int = 0


def _read_bytes(data: bytes, at: int, count: int) -> bytes:
    if at + count > len(data):
        raise FormatError("the data ends early", len(data))
    return data[at : at + count]


def _bytes(count: int) -> FieldType:
    return FieldType(
        f"{count} bytes", lambda d, at: (_read_bytes(d, at, count), at + count), bytes, bytes.hex
    )


def _uint(count: int, show: Callable[[int], str] = str) -> FieldType:
    def read(data: bytes, at: int) -> tuple[int, int]:
        return int.from_bytes(_read_bytes(data, at, count), "big"), at + count

    return FieldType(f"u{8 * count}", read, lambda value: value.to_bytes(count, "big"), show)


def _read_magic(data: bytes, at: int) -> tuple[bytes, int]:
    if not MAGIC.startswith(data[:4]):
        raise FormatError("not a .nic file", 0)
    return _read_bytes(data, at, 4), at + 4


def _read_version(data: bytes, at: int) -> tuple[tuple[int, int], int]:
    # Checked at once: nothing after it can be relied upon in another major version.
    version = divmod(_read_bytes(data, at, 1)[0], 16)
    if version[0] != VERSION[0]:
        raise UnsupportedVersion(
            f"format version {_show_version(version)}, this reader knows {VERSION[0]}.x"
        )
    return version, at + 1


def _show_version(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"


def _read_flags(data: bytes, at: int) -> tuple[Flags, int]:
    byte = _read_bytes(data, at, 1)[0]
    return Flags(bool(byte & 1), LANES[byte >> 1 & 7], byte >> 4), at + 1


def _write_flags(flags: Flags) -> bytes:
    return bytes([flags.gray | LANES.index(flags.lanes) << 1 | flags.reserved << 4])


def _show_flags(flags: Flags) -> str:
    return f"{'gray' if flags.gray else 'RGB'}, {flags.lanes} lane{'s' * (flags.lanes > 1)}"


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """A number from 1 to 5 groups of 7 bits, and the offset after it; FormatError if malformed."""
    value = 0
    for end in range(at + 1, at + 6):
        byte = _read_bytes(data, end - 1, 1)[0]
        value = value << 7 | byte & 0x7F
        if value == 0 and byte >= 0x80:
            raise FormatError("integer with leading zeros", at)
        if byte < 0x80:
            return value, end
    raise FormatError("integer of more than 5 bytes", at)


def write_varint(value: int) -> bytes:
    """0 <= value < 2**35 as the fewest groups of 7 bits, the high bit set on all but the last."""
    groups = [value & 0x7F]
    while value := value >> 7:
        groups.append(value & 0x7F | 0x80)
    return bytes(reversed(groups))


def _read_chunks(data: bytes, at: int) -> tuple[tuple[tuple[str, int], ...], int]:
    chunks: dict[str, int] = {}
    last = False
    while not last:
        byte = _read_bytes(data, at, 1)[0]
        last, letter = byte >= 0x80, chr(byte & 0x7F)
        if not letter.isalpha() or letter in chunks:
            raise FormatError(f"chunk type {letter!r} is no letter, or occurs twice", at)
        chunks[letter], at = read_varint(data, at + 1)
    return tuple(chunks.items()), at


def _write_chunks(chunks: tuple[tuple[str, int], ...]) -> bytes:
    entries = [bytearray(kind.encode("ascii") + write_varint(size)) for kind, size in chunks]
    entries[-1][0] |= 0x80
    return b"".join(entries)


def _show_chunks(chunks: tuple[tuple[str, int], ...]) -> str:
    return str(len(chunks))


def _show_quality(step: int) -> str:
    return f"{step} (quality {100 * step / (QUALITY_STEPS - 1):.1f})"


_VARINT = FieldType("varint", read_varint, write_varint)
_CRC = _uint(CRC_SIZE, "{:08x}".format)


def _field(type: FieldType, meaning: str, **default: Any) -> Any:
    return field(metadata={"type": type, "meaning": meaning}, **default)


@dataclass(frozen=True, kw_only=True)
class Header:
    """All fields of a header, in the file's order; a CRC-32 of their bytes follows them."""

    magic: bytes = _field(
        FieldType("4 bytes", _read_magic, bytes, bytes.hex), "marks a .nic file", default=MAGIC
    )
    version: tuple[int, int] = _field(
        FieldType("u8", _read_version, lambda v: bytes([v[0] << 4 | v[1]]), _show_version),
        "format version, major.minor",
    )
    fingerprint: bytes = _field(_bytes(8), "the model: first 8 bytes of its file's SHA-256")
    quality_step: int = _field(_uint(1, _show_quality), "quality in steps of 1/2.55")
    flags: Flags = _field(
        FieldType("u8", _read_flags, _write_flags, _show_flags),
        "gray image, lanes of the range coder",
    )
    width: int = _field(_VARINT, "pixels")
    height: int = _field(_VARINT, "pixels")
    latents_crc: int = _field(_CRC, "CRC-32 of the decoded latents")
    chunks: tuple[tuple[str, int], ...] = _field(
        FieldType("table", _read_chunks, _write_chunks, _show_chunks), "type and size of each chunk"
    )

    @property
    def gray(self) -> bool:
        return self.flags.gray

    @property
    def lanes(self) -> int:
        return self.flags.lanes

    @property
    def alpha(self) -> bool:
        return "A" in dict(self.chunks)

    @property
    def quality(self) -> float:
        """0..100."""
        return 100 * self.quality_step / (QUALITY_STEPS - 1)

    @property
    def pixels(self) -> int:
        """Width times height."""
        return self.width * self.height

    @property
    def tiles(self) -> int:
        return -(-self.width // TILE_SIDE) * -(-self.height // TILE_SIDE)

    @property
    def size(self) -> int:
        """Bytes of the header with its CRC."""
        return len(_pack(self))

    @property
    def file_size(self) -> int:
        """Bytes of the whole file."""
        return self.size + sum(size for _, size in self.chunks) + CRC_SIZE


def write(
    chunks: Sequence[tuple[str, bytes]],
    *,
    fingerprint: bytes,
    quality_step: int,
    gray: bool,
    lanes: int,
    width: int,
    height: int,
    latents_crc: int,
) -> bytes:
    """A whole .nic file; `lanes` is a power of two, 1..128, and `chunks` are (type, data).

    Raises LimitExceeded for an image too large for the format.
    """
    header = Header(
        version=(VERSION[0], max(SINCE.get(kind, 0) for kind, _ in chunks)),
        fingerprint=fingerprint,
        quality_step=quality_step,
        flags=Flags(gray, lanes),
        width=width,
        height=height,
        latents_crc=latents_crc,
        chunks=tuple((kind, len(data)) for kind, data in chunks),
    )
    _validate(header)
    parts = [data for _, data in chunks]
    return b"".join([_pack(header), *parts, _data_crc(dict(chunks))])


def read_header(data: bytes | Stored) -> Header:
    """The header of a file from its first MAX_HEADER_SIZE bytes, or all if it has fewer.

    Raises FormatError, ChecksumError, UnsupportedVersion or LimitExceeded.
    """
    values, at = {}, 0
    for f in fields(Header):
        values[f.name], at = f.metadata["type"].read(data, at)
    if _read_bytes(data, at, CRC_SIZE) != _crc(data[:at]):
        raise ChecksumError("the header is damaged: its checksum does not match")
    header = Header(**values)
    # Only now, so that "needs a newer reader" is never said of a merely damaged file.
    _validate(header)
    return header


def read(
    data: bytes | Stored, keep_going: bool = False
) -> tuple[Header, dict[str, bytes | Stored]]:
    """The header and the chunks' bytes by type.

    Every byte is verified, but for the data of several tiles, which of a file that is not in memory
    are not even read: see `nic.tiles`. Raises as `read_header`; FormatError also for a file cut
    short and for bytes after its end. keep_going: of several tiles, leave out what a picture can
    do without where it is damaged, with a UserWarning: metadata and post-filters.
    """
    header = read_header(data)
    if len(data) < header.file_size:
        raise FormatError(f"the file ends early, it needs {header.file_size} bytes", len(data))
    if len(data) > header.file_size:
        raise FormatError("bytes after the end of the file", header.file_size)
    chunks, at = {}, header.size
    for kind, size in header.chunks:
        stretch = slice(at, at + size)
        later = isinstance(data, Stored) and header.tiles > 1 and kind in TILED
        chunks[kind] = data.part(stretch) if later else data[stretch]
        at += size
    if data[at:] != _data_crc(chunks):
        if not (keep_going and header.tiles > 1):
            raise ChecksumError("the file is damaged: the checksum of its data does not match")
        warnings.warn("metadata or post-filters are damaged: left out", stacklevel=3)
        chunks = {kind: chunk for kind, chunk in chunks.items() if kind.isupper()}
    return header, chunks


def check_size(width: int, height: int) -> None:
    """LimitExceeded for an image larger than the format allows."""
    if max(width, height) > MAX_SIDE or width * height > MAX_PIXELS:
        raise LimitExceeded(
            f"{width}x{height}: more than {MAX_SIDE} pixels a side or {MAX_PIXELS} in all"
        )


def check_ratio(header: Header) -> None:
    """LimitExceeded for an image of more pixels than MAX_RATIO allows for its bytes."""
    coded = sum(size for kind, size in header.chunks if kind in REQUIRED)
    if header.pixels > TILE_SIDE**2 + MAX_RATIO * coded:
        raise LimitExceeded(
            f"{header.width}x{header.height} pixels from {coded} bytes: more than {MAX_RATIO} for "
            "each (--any-ratio decodes them)"
        )


def describe(header: Header) -> list[tuple[str, str, str]]:
    """(name, value, meaning) of every field, then of every chunk, for people to read."""
    rows = []
    for f in fields(header):
        show = f.metadata["type"].show
        rows.append((f.name, show(getattr(header, f.name)), f.metadata["meaning"]))
    for kind, size in header.chunks:
        rows.append((f"chunk {kind}", f"{size} bytes", CHUNKS.get(kind, "unknown, skipped")))
    if header.tiles > 1:
        rows.append(("tiles", str(header.tiles), f"of {TILE_SIDE}x{TILE_SIDE} pixels or less"))
    return rows


def _crc(data: bytes) -> bytes:
    return zlib.crc32(data).to_bytes(CRC_SIZE, "big")


def _data_crc(chunks: dict[str, bytes]) -> bytes:
    crc = 0
    for kind, data in chunks.items():
        if not ("T" in chunks and kind in TILED):
            crc = zlib.crc32(data, crc)
    return crc.to_bytes(CRC_SIZE, "big")


def _pack(header: Header) -> bytes:
    packed = b"".join(f.metadata["type"].write(getattr(header, f.name)) for f in fields(header))
    return packed + _crc(packed)


def _validate(header: Header) -> None:
    """What a well-formed header must meet beyond its form."""
    if header.flags.reserved:
        raise UnsupportedVersion("a reserved flag is set: written by a newer version")
    if header.pixels == 0:
        raise FormatError(f"an image of {header.width}x{header.height} pixels")
    check_size(header.width, header.height)
    kinds = [kind for kind, _ in header.chunks]
    for kind in kinds:
        if kind.isupper() and kind not in CHUNKS:
            raise UnsupportedVersion(f"chunk {kind} is unknown: written by a newer version")
    for kind in REQUIRED:
        if kind not in kinds:
            raise FormatError(f"chunk {kind} is missing")
    if header.tiles > 1 and "T" not in kinds:
        raise FormatError("chunk T is missing")
    if header.tiles == 1 and "T" in kinds:
        raise FormatError("chunk T in an image of one tile")
