"""Integers of any size <-> range-coded lanes, by frequency tables with an escape.

Values come in steps: all values of one step are coded before the next step's tables are known.
Value k of a step belongs to lane k mod lanes. In each lane a step's symbols come first, then the
escaped ones' values, each as 4 bits n - 1, the n - 1 low bits of m, and a sign, where m >= 1 is an
n-bit number: how far the value lies outside its table.
"""

from __future__ import annotations

import numpy as np

from nic.container import LANES, read_varint, write_varint
from nic.errors import FormatError, part_of_file
from nic.range_coder import RangeDecoder, RangeEncoder
from nic.tables import FrequencyTables

VALUE_MAX = 32767
"""Largest magnitude of a coded value."""

TOO_LARGE = f"a decoded value is beyond +-{VALUE_MAX}"
"""What a FormatError says of another."""

LANE_BYTES = 4
"""What a lane adds to a stream, in bytes: its length and the coder's last ones; 1 to 4 measured."""


def lanes_within(size: float) -> int:
    """The most lanes, a power of two, that add no more than `size` bytes to a stream."""
    return max(n for n in LANES if n == 1 or LANE_BYTES * n <= size)


class SymbolWriter:
    """Codes steps of values into `lanes` range-coder substreams."""

    def __init__(self, lanes: int = 1):
        self.encoders = [RangeEncoder() for _ in range(lanes)]

    def write(self, tables: FrequencyTables, indices: np.ndarray, values: np.ndarray) -> None:
        """Code one step: values (n,) int within +-VALUE_MAX, value k by table indices[k]."""
        symbols = values - tables.lows[indices]
        sizes = tables.sizes[indices]
        outside = (symbols < 0) | (symbols >= sizes)
        coded = np.where(outside, sizes, symbols)
        lanes = len(self.encoders)
        for lane, encoder in enumerate(self.encoders):
            own = slice(lane, None, lanes)
            encoder.encode(tables.lists, indices[own].tolist(), coded[own].tolist())
            for k in np.flatnonzero(outside[own]) * lanes + lane:
                _write_escape(encoder, int(symbols[k]), int(sizes[k]))

    def finish(self) -> bytes:
        """One lane's bytes as they are; of more lanes, the lengths as varints come first."""
        streams = [encoder.finish() for encoder in self.encoders]
        if len(streams) == 1:
            return streams[0]
        return b"".join([*(write_varint(len(s)) for s in streams), *streams])


class SymbolReader:
    """Decodes what `SymbolWriter` wrote, step by step."""

    def __init__(self, data: bytes, lanes: int = 1):
        self.decoders = [RangeDecoder(stream) for stream in split_lanes(data, lanes)]

    def read(self, tables: FrequencyTables, indices: np.ndarray) -> np.ndarray:
        """Values of one step, (n,) int64; FormatError where it ends or a value is too large."""
        lanes = len(self.decoders)
        symbols = np.empty(len(indices), np.int64)
        escaped = {}
        sizes = tables.sizes[indices]
        for lane, decoder in enumerate(self.decoders):
            own = slice(lane, None, lanes)
            symbols[own] = decoder.decode(tables.lists, indices[own].tolist())
            for k in np.flatnonzero(symbols[own] == sizes[own]) * lanes + lane:
                escaped[k] = _read_escape(decoder, int(sizes[k]))
        for k, symbol in escaped.items():
            symbols[k] = symbol
        values = symbols + tables.lows[indices]
        if escaped and np.abs(values).max() > VALUE_MAX:
            raise FormatError(TOO_LARGE)
        return values

    def read_coded(
        self, tables: FrequencyTables, levels: np.ndarray, skip_below: int
    ) -> np.ndarray:
        """Residuals of one step by their scale levels, of any shape: int64, and zero where the
        level is below `skip_below` and nothing was coded."""
        residuals = np.zeros(levels.size, np.int64)
        coded = np.flatnonzero(levels >= skip_below)
        residuals[coded] = self.read(tables, levels.ravel()[coded])
        return residuals.reshape(levels.shape)

    def finish(self) -> None:
        """FormatError unless every lane was used up exactly."""
        for decoder in self.decoders:
            decoder.finish()


def _write_escape(encoder: RangeEncoder, symbol: int, size: int) -> None:
    below = symbol < 0
    m = -symbol if below else symbol - size + 1
    n = m.bit_length()
    encoder.encode_bits(n - 1, 4)
    if n > 1:
        encoder.encode_bits(m - (1 << n - 1), n - 1)
    encoder.encode_bits(int(below), 1)


def _read_escape(decoder: RangeDecoder, size: int) -> int:
    n = decoder.decode_bits(4) + 1
    m = (1 << n - 1) + (decoder.decode_bits(n - 1) if n > 1 else 0)
    below = decoder.decode_bits(1)
    return -m if below else size - 1 + m


def split_lanes(data: bytes, lanes: int) -> list[bytes]:
    """The substreams of a stream that `SymbolWriter` wrote; FormatError where they do not fit."""
    if lanes == 1:
        return [data]
    lengths, at = [], 0
    with part_of_file("lane lengths"):
        for _ in range(lanes):
            length, at = read_varint(data, at)
            lengths.append(length)
    if at + sum(lengths) != len(data):
        raise FormatError("lane lengths do not add up to the latent stream")
    bounds = np.cumsum([at, *lengths])
    return [data[a:b] for a, b in zip(bounds, bounds[1:])]
