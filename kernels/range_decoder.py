"""One step's residuals from range-coded lanes: `SymbolReader.read_coded` for many streams.

Each lane of each grid is a range decoder of its own (`nic.range_coder`), in a vector of lanes that
one program of the GPU decodes together. Damaged streams are noted, and reported at the end: until
then a lane goes on with symbols that mean nothing, but stays within its table and its bytes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from kernels.launch import check, constexpr, jit, require, tl
from nic.errors import FormatError
from nic.range_coder import AHEAD, DAMAGED, EARLY, MIN_RANGE, PRECISION, check_end
from nic.symbols import TOO_LARGE, VALUE_MAX, split_lanes
from nic.tables import FrequencyTables

_DAMAGED_BIT, _EARLY_BIT, _TOO_LARGE_BIT = 1, 2, 4
MESSAGES = {_DAMAGED_BIT: DAMAGED, _EARLY_BIT: EARLY, _TOO_LARGE_BIT: TOO_LARGE}
"""What a FormatError says of each error bit."""

# A symbol is a search in its table (12 dependent reads for the longest, 2217 entries) and about 20
# integer operations; all tables are 77 kB, which the first cache level holds. Nothing is parallel
# within a lane: at about a microsecond a symbol, a step of one image with one lane and 1700 coded
# symbols waits for milliseconds; with 128 lanes it is 14 rounds. Streams beside each other cost
# nothing more, up to the number of multiprocessors.

_PRECISION, _VALUE_MAX = constexpr(PRECISION), constexpr(VALUE_MAX)
_AHEAD, _MIN_RANGE = constexpr(AHEAD), constexpr(MIN_RANGE)
_DAMAGED, _EARLY, _TOO_LARGE = map(constexpr, MESSAGES)


@jit()
def _narrow(data_ptr, state, end, low, width, active):
    """Narrow the active lanes' intervals by `low` to `width`; read bytes until range >= 2**24."""
    code, range_, position, errors = state
    unused = range_ >> _PRECISION << _PRECISION
    errors |= tl.where(active & (code >= unused), _DAMAGED, 0)
    code = tl.where(active, code - low, code)
    range_ = tl.where(active, width, range_)
    for _ in tl.static_range(2):
        short = active & (range_ < _MIN_RANGE)
        byte = tl.load(data_ptr + position, mask=short & (position < end), other=0).to(tl.uint32)
        code = tl.where(short, code << 8 | byte, code)
        range_ = tl.where(short, range_ << 8, range_)
        position += short.to(tl.int64)
    errors |= tl.where(position > end + _AHEAD, _EARLY, 0)
    return code, range_, position, errors


@jit()
def _read_symbol(data_ptr, state, end, cdf_ptr, size, active, SEARCH: tl.constexpr):
    """A symbol 0..size in each active lane, by the table at cdf_ptr."""
    code, r = state[0], state[1] >> _PRECISION
    # The last symbol whose interval does not begin above the code: in [symbol, above).
    symbol = tl.zeros(size.shape, tl.int32)
    above = size + 1
    for _ in range(SEARCH):
        middle = (symbol + above) >> 1
        reached = r * tl.load(cdf_ptr + middle).to(tl.uint32) <= code
        symbol = tl.where(reached, middle, symbol)
        above = tl.where(reached, above, middle)
    low = tl.load(cdf_ptr + symbol).to(tl.uint32)
    high = tl.load(cdf_ptr + symbol + 1).to(tl.uint32)
    return symbol, _narrow(data_ptr, state, end, r * low, r * (high - low), active)


@jit()
def _read_bits(data_ptr, state, end, count, active):
    """A number of `count` bits, 0..16, in each active lane; no symbol at all where count is 0."""
    active = active & (count > 0)
    share = (state[1] >> _PRECISION << _PRECISION) >> count.to(tl.uint32)
    last = (tl.full(count.shape, 1, tl.uint32) << count.to(tl.uint32)) - 1
    number = tl.minimum(state[0] // share, last)  # unsigned, so // rounds down
    state = _narrow(data_ptr, state, end, number * share, share, active)
    return tl.where(active, number, 0).to(tl.int32), state


@jit()
def _read_escape(data_ptr, state, end, low, size, active):
    """A value outside the table of low, low + 1, ... low + size - 1; zero where it is too large."""
    four = tl.full(size.shape, 4, tl.int32)
    bits, state = _read_bits(data_ptr, state, end, four, active)
    rest, state = _read_bits(data_ptr, state, end, bits, active)
    below, state = _read_bits(data_ptr, state, end, four - 3, active)
    m = (tl.full(size.shape, 1, tl.int32) << bits) + rest
    value = tl.where(below > 0, low - m, low + size - 1 + m)
    too_large = active & (tl.abs(value) > _VALUE_MAX)
    code, range_, position, errors = state
    errors |= tl.where(too_large, _TOO_LARGE, 0)
    return tl.where(too_large, 0, value), (code, range_, position, errors)


@jit()
def _list_coded(levels_ptr, residuals_ptr, order_ptr, begin, stop, skip_below, BLOCK: tl.constexpr):
    """List which of the residuals begin..stop are coded, and set the others to zero."""
    coded = tl.zeros((), tl.int32)
    for at in range(begin, stop, BLOCK):
        k = at + tl.arange(0, BLOCK)
        level = tl.load(levels_ptr + k, mask=k < stop, other=0)
        is_coded = (k < stop) & (level >= skip_below)
        rank = coded + tl.cumsum(is_coded.to(tl.int32), 0) - 1
        tl.store(order_ptr + begin + rank, k, mask=is_coded)
        tl.store(residuals_ptr + k, tl.zeros_like(k), mask=(k < stop) & (level < skip_below))
        coded += tl.sum(is_coded.to(tl.int32), 0)
    return coded


@jit(do_not_specialize=["step", "grids", "skip_below"])
def decode_kernel(
    data_ptr,
    ends_ptr,
    codes_ptr,
    ranges_ptr,
    positions_ptr,
    errors_ptr,
    lanes_ptr,
    starts_ptr,
    levels_ptr,
    residuals_ptr,
    order_ptr,
    cdfs_ptr,
    tables_ptr,
    lows_ptr,
    step,
    grids,
    skip_below,
    M: tl.constexpr,
    LANES: tl.constexpr,
    BLOCK: tl.constexpr,
    SEARCH: tl.constexpr,
):
    """One grid's residuals of one step; LANES is the most lanes of any grid."""
    # The grid's share of the step, as a range of residuals.
    grid = tl.program_id(0)
    starts_ptr += step * grids
    first = tl.load(starts_ptr)
    begin = (tl.load(starts_ptr + grid) - first) * M
    stop = (tl.load(starts_ptr + grid + 1) - first) * M
    coded = _list_coded(levels_ptr, residuals_ptr, order_ptr, begin, stop, skip_below, BLOCK)
    # Other threads than those that listed the residuals decode them.
    tl.debug_barrier()

    # The lanes' decoders, where the step before has left them.
    lane = tl.arange(0, LANES)
    lanes = tl.load(lanes_ptr + grid)
    own = grid * LANES + lane
    end = tl.load(ends_ptr + own)
    code, range_ = tl.load(codes_ptr + own).to(tl.uint32), tl.load(ranges_ptr + own).to(tl.uint32)
    state = code, range_, tl.load(positions_ptr + own), tl.load(errors_ptr + own)

    # Round by round, each lane's next symbol.
    escapes = tl.zeros((LANES,), tl.int32)
    for at in range(0, coded, lanes):
        active = (lane < lanes) & (at + lane < coded)
        k = tl.load(order_ptr + begin + at + lane, mask=active, other=0)
        level = tl.load(levels_ptr + k, mask=active, other=0)
        table = tl.load(tables_ptr + level)
        size = tl.load(tables_ptr + level + 1) - table - 2
        symbol, state = _read_symbol(data_ptr, state, end, cdfs_ptr + table, size, active, SEARCH)
        tl.store(residuals_ptr + k, tl.load(lows_ptr + level) + symbol, mask=active)
        escapes += (active & (symbol == size)).to(tl.int32)
    tl.debug_barrier()

    # Values outside their tables follow, where there are any.
    if tl.max(escapes, 0) > 0:
        for at in range(0, coded, lanes):
            active = (lane < lanes) & (at + lane < coded)
            k = tl.load(order_ptr + begin + at + lane, mask=active, other=0)
            level = tl.load(levels_ptr + k, mask=active, other=0)
            low = tl.load(lows_ptr + level)
            size = tl.load(tables_ptr + level + 1) - tl.load(tables_ptr + level) - 2
            symbol = tl.load(residuals_ptr + k, mask=active, other=0) - low
            active = active & (symbol == size)
            # Fewer lanes than threads: several threads read what one of them is to overwrite.
            tl.debug_barrier()
            value, state = _read_escape(data_ptr, state, end, low, size, active)
            tl.store(residuals_ptr + k, value, mask=active)

    # Each lane's state for the next step.
    code, range_, position, errors = state
    tl.store(codes_ptr + own, code.to(tl.int64))
    tl.store(ranges_ptr + own, range_.to(tl.int64))
    tl.store(positions_ptr + own, position)
    tl.store(errors_ptr + own, errors)


BLOCK = 1024


class DeviceReader:
    """Decodes the residuals of several grids, one stream each, on a device.

    lanes: of a stream at most, a power of two; capacity: bytes of all streams at most; starts:
    `Lockstep.starts`. After `load`, `read` takes the steps in order. Its tensors stay where they
    are: what launches on them may be recorded, and replayed on other streams.
    """

    def __init__(
        self,
        grids: int,
        lanes: int,
        capacity: int,
        tables: FrequencyTables,
        skip_below: int,
        starts: np.ndarray,
        device: torch.device,
    ):
        require(device)
        self.device, self.skip_below, self.grids = device, skip_below, grids
        self.search = int(tables.sizes.max()).bit_length()
        self.data = torch.zeros(capacity + 1, dtype=torch.uint8, device=device)
        self.positions, self.ends, self.codes, self.ranges = (
            torch.zeros(grids, lanes, dtype=torch.int64, device=device) for _ in range(4)
        )
        self.errors = torch.zeros(grids, lanes, dtype=torch.int32, device=device)
        self.lanes = torch.zeros(grids, dtype=torch.int32, device=device)
        self.starts, self.cdfs, self.tables, self.lows = (
            torch.as_tensor(a, dtype=torch.int32, device=device)
            for a in (starts, tables.cdfs, tables.starts, tables.lows)
        )

    def load(self, streams: Sequence[bytes], lanes: Sequence[int]) -> None:
        """Begin with these streams of so many lanes; FormatError where these do not fill theirs."""
        self.pieces = [split_lanes(data, n) for data, n in zip(streams, lanes, strict=True)]
        positions, ends, codes = (np.zeros(self.codes.shape, np.int64) for _ in range(3))
        at = 0
        for g, pieces in enumerate(self.pieces):
            for lane, piece in enumerate(pieces):
                positions[g, lane], ends[g, lane] = at + AHEAD, at + len(piece)
                codes[g, lane] = int.from_bytes((piece + bytes(AHEAD))[:AHEAD], "big")
                at += len(piece)
        joined = np.frombuffer(b"".join(p for pieces in self.pieces for p in pieces), np.uint8)
        self.data[:at].copy_(torch.from_numpy(joined.copy()))
        for tensor, values in (
            (self.positions, positions), (self.ends, ends), (self.codes, codes),
        ):  # fmt: skip
            tensor.copy_(torch.from_numpy(values))
        self.lanes.copy_(torch.tensor(lanes))
        self.ranges.fill_(2**32 - 1)
        self.errors.zero_()

    def read(self, step: int, levels: Tensor) -> Tensor:
        """Levels of a step's positions, (n, M) int32 -> residuals (n, M) int32."""
        n, M = levels.shape
        check("levels", levels, torch.int32, (n, M), self.device)
        residuals, order = torch.empty_like(levels), torch.empty_like(levels)
        most = self.codes.shape[1]
        decode_kernel[(self.grids,)](
            self.data,
            self.ends,
            self.codes,
            self.ranges,
            self.positions,
            self.errors,
            self.lanes,
            self.starts,
            levels,
            residuals,
            order,
            self.cdfs,
            self.tables,
            self.lows,
            step,
            self.grids,
            self.skip_below,
            M=M,
            LANES=most,
            BLOCK=BLOCK,
            SEARCH=self.search,
        )
        return residuals

    def finish(self) -> None:
        """FormatError unless every lane was sound and was used up exactly."""
        state = [self.errors.long(), self.codes, self.ranges, self.positions, self.ends]
        state = torch.stack(state, 2).tolist()
        for grid, pieces in zip(state, self.pieces):
            for (errors, code, range_, position, end), piece in zip(grid, pieces):
                for flag, message in MESSAGES.items():
                    if errors & flag:
                        raise FormatError(message)
                check_end(piece, position - AHEAD - end + len(piece), code, range_)
