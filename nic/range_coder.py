"""Range coder: integers in, bytes out (Martin 1979). Knows no network.

Encoder state: `low` and `range`; the message so far is the interval [low, low + range) in units of
the last byte place worked on. Decoder state: `range` and `code`, the stream's value less low.

Between symbols
    2**24 <= range < 2**32             renormalisation multiplies by 256 until this holds
    0 <= low, low + range < 2**33      whatever exceeds 2**32 is a carry into the byte before
    0 <= code < range                  or else the next symbol is found to be damaged

A symbol of cumulative frequencies [a, b) out of 2**16 narrows the interval, with r = range >> 16,
to [low + r * a, low + r * b). The part from r * 2**16 up to range is never used: a code in there
betrays a damaged stream. As b > a, range is at least 256 before renormalisation: at most two bytes.

The stream is the shortest whose value, with zeros after its end, lies in the last interval: a byte
for each multiplication by 256, and at most one more. The decoder has read four bytes by the first
symbol, so it never needs more than four of those zeros.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from nic.errors import FormatError

PRECISION = 16
"""Bits of frequencies: those of each table sum to 2**PRECISION."""

MIN_RANGE = 2**24
"""Of `range`, between symbols."""

AHEAD = 4
"""Bytes that a decoder holds in `code`, and zeros that it may read after the end of a stream."""

DAMAGED, EARLY = "coded symbols are damaged", "coded symbols end early"
"""What a FormatError says of a stream."""


class RangeEncoder:
    """Symbols to bytes; see `finish`."""

    def __init__(self):
        self._low, self._range = 0, 2**32 - 1
        # One for each byte, 0..511: carries are added up in `finish`, off the hot path.
        self._digits: list[int] = []

    def encode(
        self, cdfs: Sequence[Sequence[int]], indices: Sequence[int], symbols: Sequence[int]
    ) -> None:
        """Append symbols; the k-th is coded by the table cdfs[indices[k]].

        A table of n symbols 0..n-1 holds n + 1 strictly increasing integers, 0 to 2**PRECISION.
        All are lists of int: elements of NumPy arrays are several times slower.
        """
        low, range_ = self._low, self._range
        append = self._digits.append
        for index, symbol in zip(indices, symbols):
            cdf = cdfs[index]
            start = cdf[symbol]
            r = range_ >> PRECISION
            low += r * start
            range_ = r * (cdf[symbol + 1] - start)
            while range_ < MIN_RANGE:
                append(low >> 24)
                low = (low & 0xFFFFFF) << 8
                range_ <<= 8
        self._low, self._range = low, range_

    def encode_bits(self, value: int, count: int) -> None:
        """Append the number 0 <= value < 2**count, all values equally likely; count is 1..16."""
        self.encode([_uniform(count)], [0], [value])

    def finish(self) -> bytes:
        """The stream; nothing can be appended after it."""
        end = -(-self._low >> 32) << 32
        if end >= self._low + self._range:
            end = -(-self._low >> 24) << 24
        digits = [*self._digits, end >> 24]
        for k in range(len(digits) - 1, 0, -1):
            digits[k - 1] += digits[k] >> 8
            digits[k] &= 0xFF
        return bytes(digits if digits[-1] else digits[:-1])


class RangeDecoder:
    """Bytes to symbols: the calls that made the stream, in the same order, then `finish`."""

    def __init__(self, data: bytes):
        self._data = data + bytes(AHEAD)
        self._code, self._range = int.from_bytes(self._data[:AHEAD], "big"), 2**32 - 1
        self._position = AHEAD

    def decode(self, cdfs: Sequence[Sequence[int]], indices: Sequence[int]) -> list[int]:
        """The next symbols; tables as in `RangeEncoder.encode`. Raises FormatError."""
        code, range_ = self._code, self._range
        data, position, find = self._data, self._position, bisect_right
        symbols: list[int] = []
        append = symbols.append
        try:
            for index in indices:
                r = range_ >> PRECISION
                cdf = cdfs[index]
                end = find(cdf, code // r)
                start = cdf[end - 1]
                range_ = r * (cdf[end] - start)
                code -= r * start
                append(end - 1)
                while range_ < MIN_RANGE:
                    code = code << 8 | data[position]
                    position += 1
                    range_ <<= 8
        except IndexError:
            if code >= r << PRECISION:
                raise FormatError(DAMAGED) from None
            if range_ < MIN_RANGE:
                raise FormatError(EARLY) from None
            raise
        self._code, self._range, self._position = code, range_, position
        return symbols

    def decode_bits(self, count: int) -> int:
        """The next number of `count` bits. Raises FormatError."""
        return self.decode([_uniform(count)], [0])[0]

    def finish(self) -> None:
        """Raises FormatError unless the stream is the one `RangeEncoder` makes of these symbols."""
        stream, shifts = self._data[:-AHEAD], self._position - AHEAD
        check_end(stream, shifts, self._code, self._range)


def check_end(stream: bytes, shifts: int, code: int, range_: int) -> None:
    """Raises FormatError unless an encoder would have ended its stream here.

    shifts: times the range was shifted so far; code, range_: the decoder's state.
    """
    if len(stream) == shifts:
        return
    # One byte more is right where a shorter value, or a smaller one as long, would have missed the
    # interval.
    low = (stream[-1] << 24) - code
    if len(stream) != shifts + 1 or not 0 < low <= 2**32 - range_ or code >= MIN_RANGE:
        raise FormatError("bytes after the coded symbols")


def _uniform(count: int) -> range:
    """The table of 2**count equally likely symbols."""
    return range(0, 2**PRECISION + 1, 2 ** (PRECISION - count))
