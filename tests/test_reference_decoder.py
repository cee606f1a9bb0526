"""format_spec.md suffices: a decoder written from it alone decodes what nic writes, alike."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator

import numpy as np
import pytest
from reference_decoder import RangeDecoder, Source, decode, read_table_of_chunks
from test_format_spec import example
from vectors.make import FOLDER, NIC_1, VECTORS, picture

from nic import codec, container, models
from nic.errors import (
    ChecksumError,
    FormatError,
    LimitExceeded,
    ModelMismatch,
    NicError,
    UnsupportedVersion,
)
from nic.picture import Picture

KINDS = {
    FormatError: "format",
    ChecksumError: "checksum",
    UnsupportedVersion: "version",
    ModelMismatch: "model",
    LimitExceeded: "limit",
}


@pytest.fixture(scope="module")
def weights(model) -> bytes:
    return models.SHIPPED.read_bytes()


def check(data: bytes, weights: bytes, model) -> None:
    v_hat, pixels, opacity, metadata = decode(data, weights)
    header, chunks = container.read(data)
    if header.tiles == 1:
        assert zlib.crc32(v_hat.astype("<i4").tobytes()) == header.latents_crc
    np.testing.assert_array_equal(v_hat, codec.decode_latents(header, chunks, model))
    expected = codec.decode(data, model=model)
    assert pixels.shape == expected.pixels.shape
    assert np.abs(pixels.astype(int) - expected.pixels).max() <= 1
    np.testing.assert_array_equal(opacity, expected.alpha)
    kept = {"c": expected.icc, "e": expected.exif, "x": expected.xmp}
    assert metadata == {kind: value for kind, value in kept.items() if value is not None}


@pytest.mark.parametrize("name", VECTORS)
def test_golden_files_decode_alike(name):
    data, path = (FOLDER / f"{name}.nic").read_bytes(), VECTORS[name].weights
    check(data, path.read_bytes(), models.load(path))


def test_the_example_of_the_document_decodes_alike():
    check(example(), NIC_1.read_bytes(), models.load(NIC_1))


@pytest.mark.parametrize("quality", [0, 50, 100])
def test_files_of_the_shipped_model_decode_alike(quality, weights, model):
    check(codec.encode(Picture(picture(48, 33)), quality, model=model), weights, model)


@pytest.mark.parametrize("shape", [(130, 5), (3, 150)])
@pytest.mark.parametrize("lanes", [1, 128])
def test_narrow_noise_decodes_alike(shape, lanes, weights, model):
    # Single columns have steps without positions, noise at quality 100 has escapes on both sides.
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    check(codec.encode(Picture(pixels), 100, lanes=lanes, model=model), weights, model)


@pytest.mark.parametrize(
    "bits, symbols, stream",
    [
        ([], [], ""),
        ([1], [1], "80"),
        ([1] * 16, [1, 0] * 8, "AA A8"),
        ([1, 3, 16, 16, 13], [1, 5, 48879, 0, 4660], "DB ED 11 11 09 19 6F"),
        ([16] * 5, [32768] * 4 + [32767], "7F" + " FF" * 9),
        ([16] * 5, [32768] * 4 + [32769], "80" + " 00" * 8 + " 01"),
    ],
)
def test_streams_of_the_document(bits, symbols, stream):
    decoder = RangeDecoder(bytes.fromhex(stream))
    assert [decoder.raw(count) for count in bits] == symbols
    decoder.finish()


def with_new_checksums(data: bytes) -> bytes:
    """The file with both CRCs made to match, if its header can be parsed at all."""
    source = Source(data)
    try:
        source.take(15), source.varint(), source.varint(), source.take(4)
        read_table_of_chunks(source)
    except ValueError:
        return data
    head = data[: source.position]
    body = data[source.position + 4 : -4]
    return b"".join([head, zlib.crc32(head).to_bytes(4), body, zlib.crc32(body).to_bytes(4)])


def damaged(data: bytes, places: Iterable[int]) -> Iterator[bytes]:
    """One byte changed, doubled or removed, with checksums that show it and that do not."""
    for at in places:
        for new in ([data[at] ^ 0x01], [data[at] ^ 0x80], [data[at]] * 2, []):
            changed = data[:at] + bytes(new) + data[at + 1 :]
            yield changed
            yield with_new_checksums(changed)


def outcome_by_document(data: bytes, weights: bytes) -> str:
    try:
        decode(data, weights)
    except ValueError as error:
        return str(error).split(":")[0]
    return "sound"


def outcome_by_nic(data: bytes, model) -> str:
    try:
        codec.decode(data, model=model)
    except NicError as error:
        return KINDS[type(error)]
    return "sound"


def check_outcomes(files: Iterable[bytes], weights: bytes, model) -> None:
    for data in files:
        assert outcome_by_document(data, weights) == outcome_by_nic(data, model), data.hex(" ")


def test_damaged_files_are_refused_for_the_same_kind_of_reason(weights, model):
    data = codec.encode(Picture(np.zeros((1, 1), np.uint8)), 50)
    check_outcomes(damaged(data, range(len(data))), weights, model)


def test_damaged_tables_of_tiles_are_refused_for_the_same_kind_of_reason(weights, model):
    data = codec.encode(Picture(np.zeros((1, 1025), np.uint8)), 0)
    header = container.read_header(data)
    end = header.size + sum(size for _, size in header.chunks)
    check_outcomes(damaged(data, range(header.size, end)), weights, model)


def test_damaged_alpha_and_metadata_are_refused_for_the_same_kind_of_reason(weights, model):
    source = Picture(np.zeros((1, 1), np.uint8), np.full((1, 1), 77, np.uint8), xmp=b"<x/>")
    data = codec.encode(source, 0)
    header = container.read_header(data)
    sizes = dict(header.chunks)
    end = len(data) - container.CRC_SIZE
    check_outcomes(damaged(data, range(header.size, header.size + sizes["x"])), weights, model)
    check_outcomes(damaged(data, range(end - sizes["A"], end)), weights, model)
