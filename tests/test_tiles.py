"""Large images: the table of tiles, crops, damage, and no seam between tiles."""

from __future__ import annotations

import warnings
import zlib

import crafted
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vectors.make import picture

from nic import codec, container, models, postfilter, postfilter_chunk, regions, tiles
from nic.errors import ChecksumError, FormatError, InputError, NicError
from nic.fidelity import psnr
from nic.picture import Picture
from nic.prior import GAIN_BITS, LATENT_BITS
from nic.samples import grey_levels
from nic.stored import Stored

# The table


def test_exact_bytes_of_the_table():
    first, second = {"H": b"h", "L": bytes(200)}, {"H": b"", "L": b"123456789"}
    chunks, crc = tiles.pack([(first, 1), (second, 0xAABBCCDD)])
    assert chunks == [
        ("T", bytes.fromhex("01 8148 00000001 81b89cff 00 09 aabbccdd cbf43926")),
        ("H", b"h"),
        ("L", bytes(200) + b"123456789"),
    ]
    assert crc == zlib.crc32(bytes.fromhex("00000001 aabbccdd"))
    assert tiles.pack([(first, 7)]) == ([("H", b"h"), ("L", bytes(200))], 7)


def file_of(
    streams: list[dict[str, bytes]], crcs: list[int], width: int, height: int, **changes
) -> bytes:
    chunks, latents_crc = tiles.pack(list(zip(streams, crcs)))
    fields = {"fingerprint": bytes(8), "quality_step": 9, "gray": False, "lanes": 1}
    chunks = [(kind, changes.get(kind, data)) for kind, data in chunks]
    latents_crc = changes.get("latents_crc", latents_crc)
    return container.write(chunks, width=width, height=height, latents_crc=latents_crc, **fields)


@settings(max_examples=50)
@given(st.data())
def test_every_tile_comes_back(choose):
    width, height = (choose.draw(st.sampled_from([1, 1024, 1025, 3000])) for _ in range(2))
    kinds = choose.draw(st.sampled_from(["HL", "HLA"]))
    count = -(-width // 1024) * -(-height // 1024)
    streams = [{kind: choose.draw(st.binary(max_size=200)) for kind in kinds} for _ in range(count)]
    crcs = [choose.draw(st.integers(0, 2**32 - 1)) for _ in range(count)]
    found = tiles.unpack(*container.read(file_of(streams, crcs, width, height)))
    assert [tile.streams for tile in found] == streams
    assert [tile.latents_crc for tile in found] == crcs
    assert not any(tile.damaged for tile in found)
    grid = np.zeros(regions.latent_grid(height, width), int)
    for tile in found:
        grid[tile.region] += 1
        assert max(regions.size(tile.region)) <= tiles.SIDE
    assert (grid == 1).all()


def test_tables_that_do_not_fit_are_refused():
    streams = [{"H": b"hh", "L": b"llll"}, {"H": b"h", "L": b""}]
    table = dict(tiles.pack(list(zip(streams, [1, 2])))[0])["T"]
    longer, shifted = bytes([3]) + table[1:], bytes([1]) + table[1:10] + bytes([2]) + table[11:]
    for wrong in (b"", table[:-1], table + b"\0", longer):
        with pytest.raises(FormatError):
            tiles.unpack(*container.read(file_of(streams, [1, 2], 1025, 1, T=wrong)))
    found = tiles.unpack(*container.read(file_of(streams, [1, 2], 1025, 1, T=shifted)))
    assert [tile.damaged for tile in found] == [True, True]
    with pytest.raises(ChecksumError, match="header"):
        tiles.unpack(*container.read(file_of(streams, [1, 2], 1025, 1, latents_crc=0)))


# With the codec


@pytest.fixture(scope="module")
def large(model) -> tuple[Picture, bytes]:
    """Three tiles in a row, the last one small; a part of the middle one is transparent."""
    alpha = np.full((40, 2060), 255, np.uint8)
    alpha[10:20, 1100:1200] = np.arange(100)
    source = Picture(picture(2060, 40), alpha, xmp=b"<x/>")
    return source, codec.encode(source, 30)


@pytest.fixture(scope="module")
def decoded(large) -> Picture:
    return codec.decode(large[1])


def test_a_large_image_comes_back(large, decoded):
    source, data = large
    header = container.read_header(data)
    assert (header.tiles, [kind for kind, _ in header.chunks]) == (
        3,
        ["x", "T", "H", "L", "A", "f"],
    )
    assert psnr(source.pixels, decoded.pixels) > 20
    np.testing.assert_array_equal(decoded.alpha, source.alpha)
    assert decoded.xmp == b"<x/>"
    empty = [not tile.streams["A"] for tile in tiles.unpack(*container.read(data))]
    assert empty == [True, False, True]


def test_two_by_two_tiles(model):
    y, x = np.mgrid[:1033, :1030]
    pixels = (x // 9 + y // 7 + (x > y) * 20).astype(np.uint8)
    data = codec.encode(Picture(pixels), 20)
    decoded = codec.decode(data).pixels
    assert container.read_header(data).tiles == 4
    assert psnr(pixels, decoded) > 35
    part = codec.decode(data, crop=(1020, 1018, 10, 12)).pixels.astype(int)
    assert np.abs(part - decoded[1018:1030, 1020:1030]).max() <= 1


def test_no_seam_shows(large, decoded, model):
    header, chunks = container.read(large[1])
    v_hat = codec.decode_latents(header, chunks, model)
    gain = model.prior.gains[header.quality_step] * 2.0 ** (LATENT_BITS - GAIN_BITS)
    s = model.config.s(header.quality_step)
    x_hat = model.networks.synthesise((v_hat / gain).astype(np.float32), s)
    untiled = np.empty_like(decoded.pixels)
    filters = postfilter_chunk.unpack(chunks["f"], header.tiles, header.gray)
    for (_, columns), own in zip(tiles.regions(40, 2060), filters):
        part = slice(16 * columns.start, 16 * columns.stop)
        untiled[:, part] = grey_levels(postfilter.filtered(x_hat, own))[:40, :2060][:, part]
    assert np.abs(decoded.pixels.astype(int) - untiled).max() <= 1


@pytest.mark.parametrize(
    "crop",
    [
        (0, 0, 2060, 40),
        (0, 0, 1, 1),
        (2059, 39, 1, 1),
        (500, 17, 33, 1),
        (1023, 0, 2, 40),
        (1100, 5, 948, 30),
    ],
)
def test_crops_are_those_of_the_whole(large, decoded, crop):
    x, y, width, height = crop
    part = codec.decode(large[1], crop=crop)
    assert (part.width, part.height) == (width, height)
    whole = decoded.pixels[y : y + height, x : x + width].astype(int)
    assert np.abs(part.pixels - whole).max() <= 1
    np.testing.assert_array_equal(part.alpha, decoded.alpha[y : y + height, x : x + width])


@pytest.mark.parametrize("gray", [False, True])
def test_crops_of_small_images(gray, model):
    data = codec.encode(Picture(picture(56, 40, gray)), 50)
    whole = codec.decode(data).pixels.astype(int)
    part = codec.decode(data, crop=(17, 5, 30, 20)).pixels
    assert np.abs(part - whole[5:25, 17:47]).max() <= 1


@pytest.mark.parametrize(
    "crop",
    [(0, 0, 0, 5), (0, 0, 5, 0), (-1, 0, 5, 5), (0, -1, 5, 5), (0, 0, 2061, 1), (0, 40, 1, 1)],
)
def test_crops_beyond_the_image_are_refused(large, crop):
    with pytest.raises(InputError, match="crop"):
        codec.decode(large[1], crop=crop)


def damage(data: bytes, number: int, kind: str) -> bytes:
    """A bit of one tile's part of a chunk, flipped."""
    header, chunks = container.read(data)
    parts = [tile.streams[kind] for tile in tiles.unpack(header, chunks)]
    at = header.size + sum(len(part) for part in parts[:number])
    for name, size in header.chunks:
        if name == kind:
            break
        at += size
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


@pytest.mark.parametrize("number, kind", [(0, "H"), (2, "L"), (1, "A")])
def test_damage_to_a_tile_loses_that_tile_only(large, decoded, number, kind):
    damaged = damage(large[1], number, kind)
    left = 1024 * number
    name = rf"tile {number} \(from x {left}, y 0\)"
    with pytest.raises(ChecksumError, match=name):
        codec.decode(damaged)
    with pytest.raises(ChecksumError, match=name):
        tiles.verify(tiles.unpack(*container.read(damaged)))
    with pytest.warns(UserWarning, match=name) as caught:
        rest = codec.decode(damaged, keep_going=True)
    assert len(caught) == 1
    lost = np.s_[:, left : left + 1024]
    assert (rest.pixels[lost] == 128).all() and (rest.alpha[lost] == 255).all()
    difference = np.abs(rest.pixels.astype(int) - decoded.pixels).max(axis=(0, 2))
    difference += (rest.alpha != decoded.alpha).max(axis=0)
    difference[left : left + 1024] = 0
    beyond = 16 * models.load().networks.reach  # what the synthesis sees across the border
    assert difference[: max(0, left - beyond)].max(initial=0) <= 1
    assert difference[left + 1024 + beyond :].max(initial=0) <= 1


def test_a_crop_needs_no_sound_tiles_elsewhere(large, decoded):
    part = codec.decode(damage(large[1], 2, "L"), crop=(100, 10, 300, 20))
    whole = decoded.pixels[10:30, 100:400].astype(int)
    assert np.abs(part.pixels - whole).max() <= 1


def test_a_crop_reads_no_tiles_elsewhere(large, tmp_path, monkeypatch):
    (tmp_path / "wide.nic").write_bytes(large[1])
    header, chunks = container.read(large[1])
    read = []

    class Counted(Stored):
        def __getitem__(self, stretch):
            data = super().__getitem__(stretch)
            read.append(len(data))
            return data

        def part(self, stretch):
            part = super().part(stretch)
            return Counted(part.file, part.start, part.stop)

    with open(tmp_path / "wide.nic", "rb", buffering=0) as file:
        part = codec.decode(Counted(file), crop=(100, 10, 300, 20))
    assert (part.pixels == codec.decode(large[1], crop=(100, 10, 300, 20)).pixels).all()
    _, *others = (sum(map(len, tile.streams.values())) for tile in tiles.unpack(header, chunks))
    # The header's fields are read, then all of it for its checksum.
    assert sum(read) <= len(large[1]) + 2 * header.size - sum(others) and len(others) == 2


def test_latents_that_do_not_match_name_their_tile(large, decoded):
    header, chunks = container.read(large[1])
    parts = [
        (tile.streams, tile.latents_crc ^ (n == 2))
        for n, tile in enumerate(tiles.unpack(header, chunks))
    ]
    data = crafted.of_tiles(header, parts, f=chunks["f"])
    with pytest.raises(ChecksumError, match="tile 2 .*decoded latents"):
        codec.decode(data)
    with pytest.warns(UserWarning, match="tile 2 .*decoded latents"):
        rest = codec.decode(data, keep_going=True)
    assert np.abs(rest.pixels[:, :1900].astype(int) - decoded.pixels[:, :1900]).max() <= 1


def test_a_tile_whose_alpha_is_none_is_lost_like_others(large, decoded):
    header, chunks = container.read(large[1])
    parts = [(tile.streams, tile.latents_crc) for tile in tiles.unpack(header, chunks)]
    parts[1][0]["A"] = b"/" + bytes(10)
    data = crafted.of_tiles(header, parts, f=chunks["f"])
    with pytest.raises(FormatError, match="tile 1 .*alpha"):
        codec.decode(data)
    with pytest.warns(UserWarning, match="tile 1 .*alpha"):
        rest = codec.decode(data, keep_going=True)
    assert (rest.pixels[:, 1024:2048] == 128).all() and (rest.alpha[:, 1024:2048] == 255).all()
    assert (rest.alpha[:, :1024] == decoded.alpha[:, :1024]).all()


def test_one_tile_alone_is_never_kept_going(model):
    data = bytearray(codec.encode(Picture(picture(20, 20)), 50))
    data[-6] ^= 1
    with warnings.catch_warnings(), pytest.raises(NicError):
        warnings.simplefilter("error")
        codec.decode(bytes(data), keep_going=True)


@pytest.mark.parametrize("shape", [(1, 3000), (3000, 1), (3, 1025, 3)])
def test_thin_images(shape, model):
    pixels = np.resize(np.arange(256, dtype=np.uint8), shape)
    data = codec.encode(Picture(pixels), 90, lanes=4)
    assert psnr(pixels, codec.decode(data).pixels) > 25


def test_progress_counts_every_step_once(model):
    calls = []
    codec.encode(Picture(picture(5200, 16)), 0, progress=lambda *both: calls.append(both))
    done, totals = zip(*calls)
    assert set(totals) == {max(done)} and list(done) == list(range(1, max(done) + 1))
    assert max(done) == 64 + 64  # six tiles, four and two at once
