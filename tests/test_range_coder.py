"""The range coder against exact bytes, a big-integer reference, and damaged streams."""

import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nic.errors import FormatError
from nic.range_coder import PRECISION, RangeDecoder, RangeEncoder

TOTAL = 2**PRECISION
HALVES = [0, TOTAL // 2, TOTAL]
RARE = [0, 1, TOTAL]
"""Symbol 0 has frequency 1, symbol 1 the rest."""


def encode(cdfs, indices, symbols):
    encoder = RangeEncoder()
    encoder.encode(cdfs, indices, symbols)
    return encoder.finish()


def decode(data, cdfs, indices):
    decoder = RangeDecoder(data)
    symbols = decoder.decode(cdfs, indices)
    decoder.finish()
    return symbols


def reference(intervals):
    """The stream of cumulative intervals [(a, b), ...], with one integer for the whole message.

    No carry, no bytes on the way: `low` grows by eight bits where `range` is rescaled.
    """
    low, range_, places = 0, 2**32 - 1, 0
    for a, b in intervals:
        r = range_ // TOTAL
        low, range_ = low + r * a, r * (b - a)
        while range_ < 2**24:
            low, range_, places = low * 256, range_ * 256, places + 1
    for extra in range(5):
        unit = 256 ** (4 - extra)
        value = -(-low // unit)
        if value * unit < low + range_:
            return value.to_bytes(places + extra, "big")


def intervals_of(cdfs, indices, symbols):
    return [(cdfs[i][s], cdfs[i][s + 1]) for i, s in zip(indices, symbols)]


@st.composite
def tables(draw):
    cuts = st.integers(1, TOTAL - 1)
    edges = st.sampled_from([1, 2, TOTAL // 2, TOTAL - 2, TOTAL - 1])
    inner = draw(st.sets(cuts | edges, max_size=draw(st.sampled_from([1, 3, 40]))))
    return [0, *sorted(inner), TOTAL]


@st.composite
def messages(draw):
    """(cdfs, indices, symbols), extreme symbols as likely as the rest."""
    cdfs = draw(st.lists(tables(), min_size=1, max_size=5))
    indices = draw(st.lists(st.integers(0, len(cdfs) - 1), max_size=60))
    symbols = []
    for i in indices:
        last = len(cdfs[i]) - 2
        symbols.append(draw(st.integers(0, last) | st.sampled_from([0, last])))
    return cdfs, indices, symbols


@pytest.mark.parametrize(
    "symbols, expected",
    [
        ([], ""),
        ([0], ""),
        ([1], "80"),
        ([0, 0], ""),
        ([0, 1], "40"),
        ([1, 0], "80"),
        ([1, 1], "c0"),
        ([1, 0] * 8, "aaa8"),
    ],
)
def test_exact_bytes_of_coin_flips(symbols, expected):
    data = encode([HALVES], [0] * len(symbols), symbols)
    assert data.hex() == expected
    assert decode(data, [HALVES], [0] * len(symbols)) == symbols


@pytest.mark.parametrize(
    "cdf, symbols, expected",
    [
        (RARE, [0], "0000"),
        (RARE, [0, 0], "00000000"),
        (RARE, [1], "01"),
        (RARE, [1] * 100, "01"),
        ([0, TOTAL - 1, TOTAL], [1], "fffe01"),
        ([0, TOTAL - 1, TOTAL], [0] * 100, ""),
        ([0, TOTAL], [0] * 1000, ""),
    ],
)
def test_exact_bytes_of_extreme_frequencies(cdf, symbols, expected):
    data = encode([cdf], [0] * len(symbols), symbols)
    assert data.hex() == expected
    assert decode(data, [cdf], [0] * len(symbols)) == symbols


def encode_numbers(numbers):
    """[(value, bits), ...] -> stream."""
    encoder = RangeEncoder()
    for value, count in numbers:
        encoder.encode_bits(value, count)
    return encoder.finish()


def test_exact_bytes_of_raw_bits():
    numbers = [(1, 1), (5, 3), (0xBEEF, 16), (0, 16), (0x1234, 13)]
    data = encode_numbers(numbers)
    assert data.hex() == "dbed111109196f"
    decoder = RangeDecoder(data)
    assert [(decoder.decode_bits(count), count) for _, count in numbers] == numbers
    decoder.finish()


@pytest.mark.parametrize(
    "last, expected",
    [
        # 0x8000 four times leaves 7F FF FF FF FF FF FF FF written and one half right above them.
        (0x7FFF, "7fffffffffffffffffff"),
        (0x8000, "80000000000000000000"),
        (0x8001, "80000000000000000001"),
    ],
)
def test_carry_runs_through_a_chain_of_ff(last, expected):
    numbers = [(0x8000, 16)] * 4 + [(last, 16)]
    data = encode_numbers(numbers)
    assert data.hex() == expected
    decoder = RangeDecoder(data)
    assert [(decoder.decode_bits(16), 16) for _ in numbers] == numbers
    decoder.finish()


@settings(deadline=None)
@given(messages())
def test_streams_are_the_reference_ones_and_decode(message):
    cdfs, indices, symbols = message
    data = encode(*message)
    assert data == reference(intervals_of(*message))
    assert decode(data, cdfs, indices) == symbols


@settings(deadline=None)
@given(messages(), st.lists(st.tuples(st.integers(0, 60), st.integers(1, 16), st.integers(0))))
def test_symbols_and_raw_bits_interleave(message, numbers):
    cdfs, indices, symbols = message
    numbers = sorted((min(at, len(indices)), n, value % 2**n) for at, n, value in numbers)
    encoder, start = RangeEncoder(), 0
    for at, n, value in numbers:
        encoder.encode(cdfs, indices[start:at], symbols[start:at])
        encoder.encode_bits(value, n)
        start = at
    encoder.encode(cdfs, indices[start:], symbols[start:])

    decoder, decoded, start = RangeDecoder(encoder.finish()), [], 0
    for at, n, value in numbers:
        decoded += decoder.decode(cdfs, indices[start:at])
        assert decoder.decode_bits(n) == value
        start = at
    decoded += decoder.decode(cdfs, indices[start:])
    decoder.finish()
    assert decoded == symbols


def assert_refused_or_canonical(data, cdfs, indices):
    """A stream is accepted only as the one stream of other symbols; returns them, or None."""
    try:
        symbols = decode(data, cdfs, indices)
    except FormatError:
        return None
    assert encode(cdfs, indices, symbols) == data
    return symbols


@settings(deadline=None)
@given(messages())
def test_no_cut_and_no_extra_byte_gives_the_same_symbols(message):
    cdfs, indices, symbols = message
    data = encode(*message)
    for cut in range(len(data)):
        assert assert_refused_or_canonical(data[:cut], cdfs, indices) != symbols
    for extra in range(256):
        assert assert_refused_or_canonical(data + bytes([extra]), cdfs, indices) != symbols
    assert assert_refused_or_canonical(data + b"\x01\x01", cdfs, indices) is None


@settings(deadline=None)
@given(messages(), st.binary(max_size=40))
def test_any_bytes_are_refused_or_canonical(message, data):
    cdfs, indices, _ = message
    assert_refused_or_canonical(data, cdfs, indices)


def test_a_code_beyond_the_last_symbol_is_damage():
    with pytest.raises(FormatError, match="damaged"):
        decode(b"\xff\xff\xff\xff", [HALVES], [0])


def test_a_stream_may_lack_four_bytes_but_not_five():
    assert decode(b"", [HALVES], [0] * 7) == [0] * 7
    with pytest.raises(FormatError, match="end early"):
        decode(b"", [HALVES], [0] * 8)


def test_a_wrong_table_index_is_no_format_error():
    with pytest.raises(IndexError):
        RangeDecoder(b"").decode([HALVES], [1])


def test_long_messages_cost_what_their_frequencies_say():
    cdf = [0, 300, 60000, 65000, TOTAL]
    symbols = [1] * 3000 + [0, 2, 3] * 300
    indices = [0] * len(symbols)
    data = encode([cdf], indices, symbols)
    bits = sum(PRECISION - math.log2(cdf[s + 1] - cdf[s]) for s in symbols)
    assert bits <= 8 * len(data) <= bits * 1.001 + 16
    assert decode(data, [cdf], indices) == symbols


def test_the_specification_lists_these_streams():
    spec = (Path(__file__).parents[1] / "format_spec.md").read_text("utf-8")
    section = spec.split("### Streams to test with\n")[1].split("\n## ")[0]
    rows = [line.split("|")[2] for line in section.splitlines() if line.startswith("|")][2:]
    assert [bytes.fromhex(row.replace("(empty)", "")) for row in rows] == [
        encode([HALVES], [], []),
        encode([HALVES], [0], [1]),
        encode([HALVES], [0] * 16, [1, 0] * 8),
        encode([RARE], [0], [0]),
        encode([[0, TOTAL - 1, TOTAL]], [0], [1]),
        encode_numbers([(1, 1), (5, 3), (48879, 16), (0, 16), (4660, 13)]),
        encode_numbers([(32768, 16)] * 4 + [(32767, 16)]),
        encode_numbers([(32768, 16)] * 4 + [(32769, 16)]),
    ]
