"""Targets: the search meets a size from below and a PSNR from either side, or says why not."""

import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nic import targets
from nic.errors import InputError


def size_at(step: int, zone: float, smallest: int) -> int:
    """A file's size as the codec's grow: 1.5 % a step, some 1 % less for 0.01 of dead zone."""
    return round(smallest * math.exp(0.0155 * step - zone))


class Files:
    """Stands in for a picture's files, and counts the distinct ones made."""

    filters = False

    def __init__(self, smallest: int, factor: float = 1.0):
        self.smallest, self.factor, self.made = smallest, factor, set()

    def file(self, step, dead_zone, filtered):
        self.made.add((step, dead_zone, filtered))
        size = round(size_at(step, dead_zone, self.smallest) * self.factor)
        psnr = 25 + 18 * math.log(size / self.smallest) / (0.0155 * 255)
        return struct.pack("d", psnr).ljust(size, b" ")

    def psnr(self, data):
        return struct.unpack("d", data[:8])[0]


class FilteredFiles(Files):
    """Files of which every other has a filter of 52 bytes and is better by 0.2 dB for it."""

    filters = True

    def file(self, step, dead_zone, filtered):
        data = super().file(step, dead_zone, filtered)
        if not filtered or (step + round(1e4 * dead_zone)) % 2:
            return data
        return struct.pack("d", self.psnr(data) + 0.2) + data[8:] + bytes(52)


@given(st.integers(200, 10**5), st.floats(0.5, 60), st.booleans())
def test_size_is_met_from_below_or_refused(smallest, ratio, quick):
    limit, files = round(smallest * ratio), Files(smallest)
    least, most = size_at(0, targets.WIDEST, smallest), size_at(255, targets.ZONE, smallest)
    if least <= limit <= most:
        size = len(targets.for_size(files, Files(smallest, 1.1) if quick else None, limit))
        assert 0.99 * limit <= size <= limit
    elif limit < least or most < 0.99 * limit:
        with pytest.raises(InputError, match=f" {least if limit < least else most} at"):
            targets.for_size(files, None, limit)
    assert len(files.made) <= 8


@given(st.integers(200, 2000), st.floats(1.0, 50), st.booleans())
def test_size_is_met_where_filters_come_and_go(smallest, ratio, quick):
    limit, files = round(smallest * ratio), FilteredFiles(smallest)
    size = len(targets.for_size(files, Files(smallest, 1.1) if quick else None, limit))
    assert 0.99 * limit <= size <= limit


@given(st.floats(25.2, 42.8))
def test_psnr_is_met_where_filters_come_and_go(target):
    files = FilteredFiles(1000)
    assert abs(files.psnr(targets.for_psnr(files, None, target)) - target) <= 0.05


@pytest.mark.parametrize("fixed", [0, 5000, 20_000])
@pytest.mark.parametrize("target", [1.5, 4, 20])
def test_few_files_are_made_however_sizes_rise(fixed, target):
    class WithMetadata(Files):
        def file(self, step, dead_zone, filtered):
            return super().file(step, dead_zone, filtered) + bytes(fixed)

    files = WithMetadata(1000)
    targets.for_size(files, None, fixed + round(1000 * target))
    assert len(files.made) <= 7
    zones = sorted(zone for _, zone, _ in files.made)
    assert all(b - a > 1e-9 for a, b in zip(zones, zones[1:]) if a != b)


def test_quick_files_save_slow_ones():
    slow = Files(1000)
    targets.for_size(slow, Files(1000, 1.1), 20_000)
    assert len(slow.made) <= 3


@given(st.floats(25.0, 42.9))
def test_psnr_is_met_by_a_near_step(target):
    files = Files(100_000)
    found = files.psnr(targets.for_psnr(files, None, target))
    assert abs(found - target) <= 0.05


@given(st.floats(25.2, 44.0), st.integers(0, 255))
def test_psnr_where_pictures_are_coded_without_loss(target, lossless):
    class FlatFiles(Files):
        def psnr(self, data):
            own = super().psnr(data)
            return own if own < super().psnr(self.file(lossless, 0.0, False)) else math.inf

    files = FlatFiles(100_000)
    if target < Files.psnr(files, files.file(lossless, 0.2, False)):
        assert abs(files.psnr(targets.for_psnr(files, files, target)) - target) <= 0.05
    elif target > Files.psnr(files, files.file(lossless, 0.0, False)) + 0.05:
        with pytest.raises(InputError, match="nearest"):
            targets.for_psnr(files, files, target)


def test_no_bytes_are_too_few():
    with pytest.raises(InputError, match="^0 bytes are too few for this picture: 819 at least$"):
        targets.for_size(Files(1000), None, 0)


@pytest.mark.parametrize("target", [20.0, 60.0])
def test_psnr_out_of_reach_is_refused(target):
    with pytest.raises(InputError, match="nearest"):
        targets.for_psnr(Files(100_000), None, target)
