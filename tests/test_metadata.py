"""Metadata chunks: exact bytes back, and nothing inflated beyond what was declared."""

import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nic import metadata
from nic.container import write_varint
from nic.errors import FormatError, LimitExceeded
from nic.picture import Picture

PIXELS = np.zeros((1, 1), np.uint8)


@given(*[st.none() | st.binary(min_size=1, max_size=200)] * 3)
def test_every_byte_comes_back(icc, exif, xmp):
    chunks = metadata.pack(Picture(PIXELS, None, icc, exif, xmp))
    given = {"icc": icc, "exif": exif, "xmp": xmp}
    assert metadata.unpack(dict(chunks)) == {k: v for k, v in given.items() if v}


def test_exact_bytes():
    ((kind, data),) = metadata.pack(Picture(PIXELS, xmp=b"aaaa"))
    assert (kind, data[:1], zlib.decompress(data[1:])) == ("x", b"\x04", b"aaaa")


@pytest.mark.parametrize("size", [3, 5, 0])
def test_a_wrong_size_is_an_error(size):
    with pytest.raises(FormatError, match="does not inflate"):
        metadata.unpack({"e": write_varint(size) + zlib.compress(b"aaaa")})


def test_damage_is_an_error():
    data = write_varint(100) + zlib.compress(bytes(range(100)))
    for wrong in (b"", data[:1], data[:-1], data + b"\0", data[:9] + b"\xff" + data[10:]):
        with pytest.raises(FormatError):
            metadata.unpack({"c": wrong})


def test_bombs_are_refused_before_they_are_inflated():
    bomb = zlib.compress(bytes(2**25), 9)
    with pytest.raises(LimitExceeded, match="xmp"):
        metadata.unpack({"x": write_varint(2**25) + bomb})
    with pytest.raises(FormatError):
        metadata.unpack({"x": write_varint(10) + bomb})
    with pytest.raises(LimitExceeded, match="icc"):
        metadata.pack(Picture(PIXELS, icc=bytes(metadata.MAX_SIZE + 1)))
