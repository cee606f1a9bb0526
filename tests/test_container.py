"""The container: exact bytes, round trips, and every way a file can be wrong."""

import string
import subprocess
import sys
import zlib
from dataclasses import fields
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nic import container
from nic.errors import ChecksumError, FormatError, LimitExceeded, NicError, UnsupportedVersion

FIELDS = {
    "fingerprint": bytes.fromhex("0123456789abcdef"),
    "quality_step": 128,
    "gray": False,
    "lanes": 1,
    "width": 768,
    "height": 512,
    "latents_crc": 0xDEADBEEF,
}
CHUNKS = [("H", b"hyper"), ("L", bytes(range(200)))]


def write(chunks=CHUNKS, **changes):
    return container.write(chunks, **FIELDS | changes)


def signed(header: bytes, body: bytes = b"") -> bytes:
    """A file of handmade header bytes with sound checksums."""
    return header + crc(header) + body + crc(body)


def crc(data):
    return zlib.crc32(data).to_bytes(4, "big")


def handmade(version="10", flags="00", width="8600", height="8400", table="48 00 cc 00"):
    """A signed file without chunk data; fields in hexadecimal."""
    model, latents_crc = "0123456789abcdef", "00000000"
    fields = f"{version} {model} 80 {flags} {width} {height} {latents_crc} {table}"
    return signed(container.MAGIC + bytes.fromhex(fields))


def test_exact_bytes():
    data = write()
    header = bytes.fromhex(
        "89 4e 49 43"  # magic
        "10"  # version 1.0
        "01 23 45 67 89 ab cd ef"
        "80"  # quality step 128
        "00"  # RGB, one lane
        "86 00"  # width 768
        "84 00"  # height 512
        "de ad be ef"  # CRC of the latents
        "48 05"  # H, 5 bytes
        "cc 81 48"  # L and the end of the table, 200 bytes
    )
    body = b"hyper" + bytes(range(200))
    assert data == signed(header, body)
    assert crc(b"123456789").hex() == "cbf43926"


def test_handmade_files_are_sound():
    header, chunks = container.read(handmade())
    assert (header.width, header.height, chunks) == (768, 512, {"H": b"", "L": b""})


def test_a_typical_photo_spends_at_most_40_bytes_on_the_container():
    chunks = [("H", bytes(1500)), ("L", bytes(120_000))]
    data = write(chunks, width=1024, height=768)
    assert len(data) - 121_500 <= 40


headers = st.fixed_dictionaries(
    {
        "fingerprint": st.binary(min_size=8, max_size=8),
        "quality_step": st.integers(0, 255),
        "gray": st.booleans(),
        "lanes": st.sampled_from(container.LANES),
        "width": st.integers(1, 2048) | st.sampled_from([127, 128, 16383, 16384, 65535]),
        "height": st.integers(1, 2048),
        "latents_crc": st.integers(0, 2**32 - 1),
    }
)


@settings(deadline=None)
@given(headers, st.binary(max_size=300), st.binary(max_size=300), st.booleans())
def test_every_field_survives(values, hyper, latents, swapped):
    chunks = [("H", hyper), ("L", latents)]
    if values["width"] > 1024 or values["height"] > 1024:
        chunks.append(("T", b"table"))
    if swapped:
        chunks.reverse()
    data = container.write(chunks, **values)
    header, found = container.read(data)
    assert {name: getattr(header, name) for name in values} == values
    assert list(found.items()) == chunks
    assert header.chunks == tuple((kind, len(d)) for kind, d in chunks)
    assert header.file_size == len(data)
    assert header.size == len(data) - sum(len(part) for _, part in chunks) - 4


@settings(deadline=None)
@given(st.integers(0, 2**35 - 1) | st.sampled_from([2**n - d for n in range(36) for d in (0, 1)]))
def test_varints_survive_in_the_fewest_bytes(value):
    value = min(value, 2**35 - 1)
    data = container.write_varint(value)
    assert len(data) == max(1, -(-value.bit_length() // 7))
    assert container.read_varint(b"\xff" + data + b"\xff", 1) == (value, 1 + len(data))


@pytest.mark.parametrize("data", ["80 00", "80 80 01", "90 80 80 80 80 00", "81", ""])
def test_malformed_varints(data):
    with pytest.raises(FormatError):
        container.read_varint(bytes.fromhex(data), 0)


def test_the_header_needs_only_the_first_bytes():
    data = write()
    header = container.read_header(data[: container.MAX_HEADER_SIZE])
    assert header == container.read_header(data[: header.size]) == container.read(data)[0]


def test_the_longest_header_is_within_its_bound():
    header = container.Header(
        version=container.VERSION,
        fingerprint=bytes(8),
        quality_step=255,
        flags=container.Flags(gray=True, lanes=128),
        width=65535,
        height=65535,
        latents_crc=2**32 - 1,
        chunks=tuple((letter, 2**35 - 1) for letter in string.ascii_letters),
    )
    assert header.size <= container.MAX_HEADER_SIZE


def test_every_flipped_bit_is_an_error():
    data = write()
    for bit in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(NicError):
            container.read(bytes(damaged))


def test_every_cut_is_a_format_error_at_its_end():
    data = write()
    for cut in range(len(data)):
        with pytest.raises(FormatError) as caught:
            container.read(data[:cut])
        assert caught.value.offset == cut
        if cut < container.read_header(data).size:
            with pytest.raises(FormatError) as caught:
                container.read_header(data[:cut])
            assert caught.value.offset == cut


def test_bytes_after_the_end():
    data = write()
    with pytest.raises(FormatError, match="after the end") as caught:
        container.read(data + b"\0")
    assert caught.value.offset == len(data)


@settings(deadline=None)
@given(st.binary(max_size=100))
def test_garbage_is_refused(garbage):
    for data in (garbage, container.MAGIC + garbage, container.MAGIC + b"\x10" + garbage):
        with pytest.raises(NicError):
            container.read(data)


def test_another_file_type_is_named_as_such():
    with pytest.raises(FormatError, match="not a .nic file"):
        container.read_header(b"\x89PNG\r\n\x1a\n")


@pytest.mark.parametrize("at, kind", [(10, "header"), (60, "data")])
def test_damage_is_told_from_a_newer_version(at, kind):
    damaged = bytearray(write())
    damaged[at] ^= 0x55
    with pytest.raises(ChecksumError, match=kind):
        container.read(bytes(damaged))


@pytest.mark.parametrize("version", ["00", "20", "f0"])
def test_other_major_versions(version):
    with pytest.raises(UnsupportedVersion, match="this reader knows 1.x"):
        container.read(handmade(version=version))


def test_a_newer_minor_version_is_read():
    assert container.read(handmade(version="1f"))[0].version == (1, 15)


@pytest.mark.parametrize("flags", ["10", "20", "40", "80", "f1"])
def test_reserved_flags(flags):
    with pytest.raises(UnsupportedVersion, match="reserved"):
        container.read_header(handmade(flags=flags))


def test_flags():
    header = container.read_header(handmade(flags="0f"))
    assert header.gray and header.lanes == 128


def test_an_unknown_critical_chunk():
    with pytest.raises(UnsupportedVersion, match="chunk Q"):
        container.read_header(handmade(table="48 00 51 00 cc 00"))


def test_an_unknown_ancillary_chunk_is_passed_over():
    chunks = [("H", b"h"), ("q", b"note"), ("L", b"l")]
    header, found = container.read(write(chunks))
    assert found["H"] == b"h" and found["L"] == b"l"
    assert ("chunk q", "4 bytes", "unknown, skipped") in container.describe(header)


@pytest.mark.parametrize(
    "table, message",
    [
        ("c8 00", "chunk L is missing"),
        ("cc 00", "chunk H is missing"),
        ("48 00 48 00 cc 00", "twice"),
        ("48 00 31 00 cc 00", "no letter"),
        ("48 80 00 cc 00", "leading zeros"),
        ("48 90 80 80 80 80 00 cc 00", "more than 5 bytes"),
        ("48 00 cc ff ff ff ff 7f", "needs 3435973"),
    ],
)
def test_malformed_tables(table, message):
    with pytest.raises(FormatError, match=message):
        container.read(handmade(table=table))


@pytest.mark.parametrize(
    "width, height, error",
    [
        ("00", "84 00", FormatError),
        ("86 00", "00", FormatError),
        ("80 86 00", "84 00", FormatError),
        ("84 80 00", "01", LimitExceeded),
        ("01", "84 80 00", LimitExceeded),
        ("ff ff ff ff 7f", "ff ff ff ff 7f", LimitExceeded),
        ("83 ff 7f", "83 ff 7f", LimitExceeded),
    ],
)
def test_zero_and_absurd_sizes(width, height, error):
    with pytest.raises(error):
        container.read_header(handmade(width=width, height=height))


def test_the_largest_image():
    chunks = [("T", b""), *CHUNKS]
    assert container.read_header(write(chunks, width=2**14, height=2**13)).height == 2**13
    for width, height in [(2**14, 2**13 + 1), (65536, 1), (1, 65536)]:
        with pytest.raises(LimitExceeded):
            write(chunks, width=width, height=height)
        with pytest.raises(LimitExceeded):
            container.check_size(width, height)


def test_several_tiles_need_a_table_and_one_has_none():
    with_table = [("T", b""), *CHUNKS]
    for width, height, tiles in [(1024, 1024, 1), (1025, 1, 2), (3000, 2048, 6)]:
        right, wrong = (CHUNKS, with_table) if tiles == 1 else (with_table, CHUNKS)
        header = container.read_header(write(right, width=width, height=height))
        assert header.tiles == tiles
        with pytest.raises(FormatError, match="chunk T"):
            write(wrong, width=width, height=height)


def test_the_data_checksum_leaves_out_the_data_of_tiles():
    chunks = [("x", b"note"), ("T", b"table"), ("H", b"h"), ("A", b"a"), ("L", b"l")]
    data = write(chunks, width=1025)
    assert data[-4:] == crc(b"notetable")
    for offset, whole in [(-5, True), (-6, True), (-7, True), (-8, False), (-13, False)]:
        damaged = bytearray(data)
        damaged[offset] ^= 1
        if whole:
            assert container.read(bytes(damaged))[1]["T"] == b"table"
        else:
            with pytest.raises(ChecksumError, match="data"):
                container.read(bytes(damaged))


def test_description_names_every_field_and_chunk():
    rows = container.describe(container.read_header(write(gray=True, lanes=4)))
    values = {name: value for name, value, _ in rows}
    assert values == {
        "magic": "894e4943",
        "version": "1.0",
        "fingerprint": "0123456789abcdef",
        "quality_step": "128 (quality 50.2)",
        "flags": "gray, 4 lanes",
        "width": "768",
        "height": "512",
        "latents_crc": "deadbeef",
        "chunks": "2",
        "chunk H": "5 bytes",
        "chunk L": "200 bytes",
    }


def test_the_specification_lists_the_same_fields():
    spec = (Path(__file__).parents[1] / "format_spec.md").read_text("utf-8")
    section = spec.split("### Header\n")[1].split("###")[0]
    rows = [line.split("|") for line in section.splitlines() if line.startswith("|")][2:]
    documented = [(row[4].strip(" `"), row[3].strip()) for row in rows]
    described = [(f.name, f.metadata["type"].name) for f in fields(container.Header)]
    assert documented == [*described, ("header_crc", "u32")]


def test_importing_loads_neither_numpy_nor_torch():
    code = "import sys, nic.container; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"numpy", "torch", "PIL"} & set(loaded)
