"""A literal decoder of .nic files, to be read beside format_spec.md.

It is written from that document and shares no code with nic/: if both decode a file alike, the
document says enough. Order and names are the document's, and docstrings quote its headings. Slow:
position after position, with NumPy only over the channels of one.

    python tests/reference_decoder.py FILE.nic WEIGHTS.safetensors OUT.png
"""

from __future__ import annotations

import hashlib
import io
import json
import sys
import zlib
from bisect import bisect_right
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image


class Decoded(NamedTuple):
    """All that a file holds."""

    v_hat: np.ndarray
    """(h, w, M) int64 in 2^-6."""
    pixels: np.ndarray
    """uint8, (height, width, 3) or, gray, (height, width)."""
    alpha: np.ndarray | None
    """uint8 (height, width)."""
    metadata: dict[str, bytes]
    """By chunk type."""


def decode(data: bytes, weights: bytes) -> Decoded:
    """Decode a .nic file with the model's file `weights`.

    Raises ValueError, whose message starts with the kind that "Errors" gives.
    """
    header, chunks = read_file(data)
    if hashlib.sha256(weights).digest()[:8] != header.fingerprint:
        raise error("model", "the model at hand does not have the fingerprint")
    model = Model(weights)
    metadata = {kind: inflate(chunks[kind]) for kind in "cex" if kind in chunks}
    filters = read_filters(header, chunks["f"]) if "f" in chunks else None
    tiles = read_tiles(header, chunks)
    v_hat = np.zeros((-(-header.height // 16), -(-header.width // 16), model.M), np.int64)
    for tile in tiles:
        latents = decode_tile(model, header, tile)
        v_hat[tile.top : tile.top + tile.h, tile.left : tile.left + tile.w] = latents
    alpha = decode_alpha(tiles, header) if "A" in chunks else None
    return Decoded(v_hat, synthesise(model, header, v_hat, tiles, filters), alpha, metadata)


def decode_tile(model: Model, header: Header, tile: Tile) -> np.ndarray:
    """Latents of one tile, (h, w, M)."""
    z_hat = decode_hyperlatents(model, tile.parts["H"], -(-tile.h // 4), -(-tile.w // 4))
    psi = hyper_features(model, z_hat)
    v_hat = decode_latents(model, header, tile.parts["L"], psi[: tile.h, : tile.w])
    if crc32(v_hat.astype("<i4").tobytes()) != tile.latents_crc:
        raise error("checksum", "the decoded latents do not match latents_crc")
    return v_hat


# File layout


class Header(NamedTuple):
    """The fields of "Header" that decoding needs, `flags` taken apart."""

    fingerprint: bytes
    quality_step: int
    gray: bool
    lanes: int
    width: int
    height: int
    latents_crc: int


def read_file(data: bytes) -> tuple[Header, dict[str, bytes]]:
    """Section "File layout": header, and each chunk's data by type; tested as "Errors" orders."""
    source = Source(data)
    header, lengths = read_header(source)
    if source.position + sum(lengths.values()) + 4 != len(data):
        raise error("format", "the file is not as long as header, chunks and data CRC together")
    chunks = {kind: source.take(length) for kind, length in lengths.items()}
    covered = [d for kind, d in chunks.items() if "T" not in chunks or kind not in "HLA"]
    if crc32(b"".join(covered)) != source.integer(4):
        raise error("checksum", "the data CRC does not match")
    return header, chunks


def read_header(source: Source) -> tuple[Header, dict[str, int]]:
    """Section "Header": its fields, and each chunk's bytes of data by type, in their order."""
    if source.data[:4] != bytes.fromhex("894E4943"):
        raise error("format", "the file does not start with the magic")
    source.take(4)
    if source.integer(1) >> 4 != 1:
        raise error("version", "the major version is not 1")
    fingerprint = source.take(8)
    quality_step = source.integer(1)
    flags = source.integer(1)
    width = source.varint()
    height = source.varint()
    latents_crc = source.integer(4)
    lengths = read_table_of_chunks(source)
    if crc32(source.data[: source.position]) != source.integer(4):
        raise error("checksum", "the header CRC does not match")
    if flags >> 4:
        raise error("version", "a reserved bit is 1")
    if width == 0 or height == 0:
        raise error("format", "width or height is 0")
    if max(width, height) > 65535 or width * height > 2**27:
        raise error("limit", "width, height or their product exceeds its limit")
    if any(kind.isupper() and kind not in "THLA" for kind in lengths):
        raise error("version", "a critical chunk is unknown")
    if "H" not in lengths or "L" not in lengths:
        raise error("format", "H or L is missing")
    if ("T" in lengths) != (width > 1024 or height > 1024):
        raise error("format", "T is missing, or there with one tile")
    gray, lanes = bool(flags & 1), 1 << (flags >> 1 & 7)
    return Header(fingerprint, quality_step, gray, lanes, width, height, latents_crc), lengths


def read_table_of_chunks(source: Source) -> dict[str, int]:
    """Section "Table of chunks": each chunk's bytes of data by type, in their order."""
    lengths = {}
    last = 0
    while not last:
        byte = source.integer(1)
        last, kind = byte >> 7, chr(byte & 0x7F)
        if not kind.isalpha() or kind in lengths:
            raise error("format", "a chunk type is no letter, or occurs twice")
        lengths[kind] = source.varint()
    return lengths


class Tile(NamedTuple):
    """One tile: its place and size in latents, its part of H, L and A, CRC of its latents."""

    top: int
    left: int
    h: int
    w: int
    parts: dict[str, bytes]
    latents_crc: int


def read_tiles(header: Header, chunks: dict[str, bytes]) -> list[Tile]:
    """Section "Tiles"."""
    h, w = -(-header.height // 16), -(-header.width // 16)
    kinds = [kind for kind in "HLA" if kind in chunks]
    if "T" not in chunks:
        return [Tile(0, 0, h, w, {kind: chunks[kind] for kind in kinds}, header.latents_crc)]
    places = [(top, left) for top in range(0, h, 64) for left in range(0, w, 64)]
    table = Source(chunks["T"])
    entries = [([table.varint() for _ in kinds], table.take(4), table.integer(4)) for _ in places]
    if table.position != len(table.data):
        raise error("format", "the table of tiles is too long")
    if crc32(b"".join(crc for _, crc, _ in entries)) != header.latents_crc:
        raise error("checksum", "the table of tiles does not match latents_crc")
    sources = {kind: Source(chunks[kind]) for kind in kinds}
    tiles = []
    for (top, left), (sizes, latents_crc, data_crc) in zip(places, entries):
        parts = {kind: sources[kind].take(size) for kind, size in zip(kinds, sizes)}
        if crc32(b"".join(parts.values())) != data_crc:
            raise error("checksum", "the data of a tile do not match their CRC")
        size = min(64, h - top), min(64, w - left)
        tiles.append(Tile(top, left, *size, parts, int.from_bytes(latents_crc, "big")))
    if any(source.position != len(source.data) for source in sources.values()):
        raise error("format", "the table of tiles does not fit a chunk")
    return tiles


class Source:
    """Bytes read from the first to the last, with the "Varint" among them."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.position = 0

    def take(self, count: int) -> bytes:
        if self.position + count > len(self.data):
            raise error("format", "the file or a chunk ends early")
        self.position += count
        return self.data[self.position - count : self.position]

    def integer(self, count: int) -> int:
        return int.from_bytes(self.take(count), "big")

    def varint(self) -> int:
        value = 0
        for _ in range(5):
            byte = self.integer(1)
            value = value << 7 | byte & 0x7F
            if value == 0 and byte >= 0x80:
                raise error("format", "a varint has more bytes than it needs")
            if byte < 0x80:
                return value
        raise error("format", "a varint has more than 5 bytes")


def crc32(data: bytes) -> int:
    """Section "CRC-32"."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc ^ byte
        for _ in range(8):
            crc = crc >> 1 ^ (0xEDB88320 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def error(kind: str, what: str) -> ValueError:
    """Of a kind that section "Errors" lists, and what is wrong."""
    return ValueError(f"{kind}: {what}")


# Range coder


class RangeDecoder:
    """Sections "State", "Decoding", "End of stream" and "Raw bits" of one stream."""

    def __init__(self, stream: bytes) -> None:
        self.stream = stream
        self.bytes_read = 0
        self.shifts = 0
        self.range = 2**32 - 1
        self.code = 0
        for _ in range(4):
            self.code = self.code << 8 | self.next_byte()

    def next_byte(self) -> int:
        self.bytes_read += 1
        if self.bytes_read > len(self.stream) + 4:
            raise error("format", "a stream ends early")
        return self.stream[self.bytes_read - 1] if self.bytes_read <= len(self.stream) else 0

    def decode(self, cdf: list[int]) -> int:
        r = self.range >> 16
        if self.code // r >= 65536:
            raise error("format", "a stream is damaged")
        s = bisect_right(cdf, self.code // r) - 1
        self.code -= r * cdf[s]
        self.range = r * (cdf[s + 1] - cdf[s])
        while self.range < 2**24:
            self.code = self.code << 8 | self.next_byte()
            self.range <<= 8
            self.shifts += 1
        return s

    def finish(self) -> None:
        n, k = len(self.stream), self.shifts
        if n == k:
            return
        if n != k + 1:
            raise error("format", "a stream is not used up")
        low = (self.stream[-1] << 24) - self.code
        if low <= 0 or low + self.range > 2**32 or self.code >= 2**24:
            raise error("format", "a stream does not end as its encoder would end it")

    def raw(self, count: int) -> int:
        if count == 0:
            return 0
        return self.decode([v << (16 - count) for v in range((1 << count) + 1)])


# Integer arithmetic of the prior


class Table(NamedTuple):
    """Frequencies of the values low, low + 1, ... and, last, of the escape."""

    cdf: list[int]
    low: int


class Model:
    """Section "The model's integers": the tensors by name, widened to int64 or float64."""

    def __init__(self, weights: bytes) -> None:
        start = 8 + int.from_bytes(weights[:8], "little")
        entries = json.loads(weights[8:start])
        config = json.loads(entries.pop("__metadata__")["config"])
        self.M, self.s_max = config["M"], config["s_max"]
        self.transforms = config.get("transforms", "block")
        self.tensors = {}
        for name, entry in entries.items():
            letter, bits = entry["dtype"][0], int(entry["dtype"][1:])
            begin, end = entry["data_offsets"]
            dtype = f"<{letter.lower()}{bits // 8}"
            values = np.frombuffer(weights[start + begin : start + end], dtype)
            wide = np.float64 if letter == "F" else np.int64
            self.tensors[name] = values.astype(wide).reshape(entry["shape"])

    def __getitem__(self, name: str) -> np.ndarray:
        return self.tensors[name]

    def numbered(self, name: str) -> list[str]:
        """The names `name`.0, `name`.1, ... as far as there are tensors under them."""
        names: list[str] = []
        while any(key.startswith(f"{name}.{len(names)}.") for key in self.tensors):
            names.append(f"{name}.{len(names)}")
        return names

    def tables(self, name: str) -> list[Table]:
        cdfs, starts = self[f"{name}.cdfs"].tolist(), self[f"{name}.starts"].tolist()
        lows = self[f"{name}.lows"].tolist()
        return [Table(cdfs[starts[k] : starts[k + 1]], lows[k]) for k in range(len(lows))]


def layer(model: Model, name: str, x: np.ndarray, extra: np.ndarray | int = 0) -> np.ndarray:
    """Section "A layer" at one position: x is (in, rows, columns), the result (out)."""
    shift, leaky, limit = model[f"{name}.settings"].tolist()
    acc = model[f"{name}.bias"] + extra + np.tensordot(model[f"{name}.weight"], x, 3)
    value = np.clip(round_shift(acc, shift), -limit, limit)
    return np.where(value < 0, value >> 3, value) if leaky else value


def round_shift(a: np.ndarray, s: int) -> np.ndarray:
    return (a + (1 << (s - 1))) >> s if s > 0 else a


def at(x: np.ndarray, i: int, j: int) -> np.ndarray:
    """The channels of the grid x at (i, j), 0 beyond the border."""
    rows, columns, channels = x.shape
    return x[i, j] if 0 <= i < rows and 0 <= j < columns else np.zeros(channels, x.dtype)


def neighbourhood(x: np.ndarray, i: int, j: int, size: int) -> np.ndarray:
    """What a convolution of size x size taps sees of the grid x at (i, j): (in, size, size)."""
    taps = [(dy - size // 2, dx - size // 2) for dy in range(size) for dx in range(size)]
    seen = [at(x, i + dy, j + dx) for dy, dx in taps]
    return np.stack(seen, axis=-1).reshape(-1, size, size)


def positions(x: np.ndarray) -> Iterator[tuple[int, int]]:
    return np.ndindex(x.shape[:2])


def shuffle(x: np.ndarray, n: int) -> np.ndarray:
    """Sections "Hyper features" (n = 2) and "Synthesis": n x n channels become n x n positions."""
    rows, columns, channels = x.shape
    result = np.empty((n * rows, n * columns, channels // n**2), x.dtype)
    for dy, dx in np.ndindex(n, n):
        result[dy::n, dx::n] = x[:, :, n * dy + dx :: n**2]
    return result


def unshuffle(x: np.ndarray, n: int) -> np.ndarray:
    """The inverse of `shuffle`."""
    rows, columns, channels = x.shape
    result = np.empty((rows // n, columns // n, channels * n**2), x.dtype)
    for dy, dx in np.ndindex(n, n):
        result[:, :, n * dy + dx :: n**2] = x[dy::n, dx::n]
    return result


def hyper_features(model: Model, z_hat: np.ndarray) -> np.ndarray:
    """Section "Hyper features": psi, on four times the rows and columns of z_hat."""
    x = z_hat
    for k, name in enumerate(model.numbered("prior.hyper")):
        if k > 0:
            x = shuffle(x, 2)
        y = np.empty((*x.shape[:2], len(model[f"{name}.bias"])), np.int64)
        for i, j in positions(x):
            y[i, j] = layer(model, name, neighbourhood(x, i, j, 3))
        x = y
    return x


TAPS = [(-2, -2), (-2, -1), (-2, 0), (-2, 1), (-2, 2)]
TAPS += [(-1, -2), (-1, -1), (-1, 0), (-1, 1), (-1, 2), (0, -2), (0, -1)]


def mean_and_level(
    model: Model, q: int, psi: np.ndarray, u_hat: np.ndarray, i: int, j: int
) -> tuple[np.ndarray, np.ndarray]:
    """Section "Mean and scale of a position": of (i, j), one of each for every channel."""
    context = np.stack([at(u_hat, i + di, j + dj) for di, dj in TAPS], axis=-1)
    phi = layer(model, "prior.context", context[:, None, :])
    e = np.concatenate([psi[i, j], phi])
    for k, name in enumerate(model.numbered("prior.entropy")):
        e = layer(model, name, e[:, None, None], model["prior.quality_bias"][q] if k == 0 else 0)
    mean = round_shift(e[: model.M] * model["prior.gains"][q], 22)
    level = round_shift(e[model.M :] + model["prior.scale_offsets"][q], 8)
    return mean, np.clip(level, 0, 63)


# Symbol order, skip and escapes


def decode_step(lanes: list[RangeDecoder], tables: list[Table]) -> list[int]:
    """Section "Steps, lanes and escapes": the values of one step, value k by tables[k]."""
    values: list[int | None] = []
    for k, table in enumerate(tables):
        s = lanes[k % len(lanes)].decode(table.cdf)
        escape = len(table.cdf) - 2
        values.append(table.low + s if s < escape else None)
    for k, table in enumerate(tables):
        if values[k] is None:
            values[k] = decode_escaped(lanes[k % len(lanes)], table)
    if any(abs(value) > 32767 for value in values):
        raise error("format", "a value exceeds 32767 in magnitude")
    return values


def decode_escaped(lane: RangeDecoder, table: Table) -> int:
    size = len(table.cdf) - 2
    bits = lane.raw(4) + 1
    m = (1 << (bits - 1)) + lane.raw(bits - 1)
    below = lane.raw(1)
    return table.low - m if below else table.low + size - 1 + m


def decode_hyperlatents(model: Model, chunk: bytes, rows: int, columns: int) -> np.ndarray:
    """Section "Hyperlatents": z_hat, (rows, columns, channels)."""
    tables = model.tables("prior.z_tables")
    stream = RangeDecoder(chunk)
    values = decode_step([stream], tables * (rows * columns))
    stream.finish()
    return np.array(values).reshape(rows, columns, len(tables))


def split_lanes(chunk: bytes, lanes: int) -> list[RangeDecoder]:
    """Section "Latents", first paragraph: the streams of chunk L."""
    if lanes == 1:
        return [RangeDecoder(chunk)]
    source = Source(chunk)
    lengths = [source.varint() for _ in range(lanes)]
    streams = [source.take(length) for length in lengths]
    if source.position != len(chunk):
        raise error("format", "the lanes do not fill their chunk")
    return [RangeDecoder(stream) for stream in streams]


def decode_latents(model: Model, header: Header, chunk: bytes, psi: np.ndarray) -> np.ndarray:
    """Section "Latents": v_hat, (h, w, M), from chunk L and the psi of these h x w positions."""
    h, w = psi.shape[:2]
    q = header.quality_step
    skip_below = model["prior.skip_below"][0]
    residual_tables = model.tables("prior.residual_tables")
    lanes = split_lanes(chunk, header.lanes)
    v_hat = np.zeros((h, w, model.M), np.int64)
    u_hat = np.zeros((h, w, model.M), np.int64)
    for t in range(w - 1 + 3 * (h - 1) + 1):
        step = [(i, t - 3 * i) for i in range(h) if 0 <= t - 3 * i < w]
        prior = [mean_and_level(model, q, psi, u_hat, i, j) for i, j in step]
        tables = [residual_tables[k] for _, level in prior for k in level if k >= skip_below]
        values = iter(decode_step(lanes, tables))
        for (i, j), (mean, level) in zip(step, prior):
            r = np.array([next(values) if k >= skip_below else 0 for k in level])
            v_hat[i, j] = (r << 6) + mean
            u = round_shift(v_hat[i, j] * model["prior.inverses"][q], 21)
            u_hat[i, j] = np.clip(u, -32767, 32767)
    for lane in lanes:
        lane.finish()
    return v_hat


# Synthesis


def synthesise(
    model: Model,
    header: Header,
    v_hat: np.ndarray,
    tiles: list[Tile],
    filters: list[Filter] | None,
) -> np.ndarray:
    """Section "Synthesis": the pixels, uint8, (height, width, 3) or, gray, (height, width)."""
    s = model.s_max * header.quality_step / 255
    u = (v_hat / 64) / (model["prior.gains"][header.quality_step] / 65536)
    y = u * model["std"].reshape(-1)
    x = {"block": block_transforms, "gdn": gdn_transforms}[model.transforms](model, u, y, s)
    if header.gray:
        x = x.mean(axis=-1)
    if filters is not None:
        x = post_filter(x, tiles, filters)
    x = x[: header.height, : header.width]
    return np.clip(np.round(x * 255), 0, 255).astype(np.uint8)


NEAR = [(0, 1), (1, -1), (1, 0), (1, 1)]
FAR = [(0, 2), (1, -2), (1, 2), (2, -2), (2, -1), (2, 0), (2, 1), (2, 2)]
LUMA, BLUE, GREEN = range(3)


class Term(NamedTuple):
    source: int
    neighbour: tuple[int, int]
    clipped: bool


def both(source: int, neighbours: list[tuple[int, int]]) -> list[Term]:
    return [Term(source, n, clipped) for n in neighbours for clipped in (False, True)]


FROM_LUMA = [Term(LUMA, n, False) for n in NEAR]
TERMS = [both(LUMA, NEAR + FAR), both(BLUE, NEAR) + FROM_LUMA, both(GREEN, NEAR) + FROM_LUMA]

Filter = dict[int, tuple[float, list[int]]]
"""By component: the threshold, and the weights of its terms."""


def read_filters(header: Header, chunk: bytes) -> list[Filter]:
    """Section "Post-filter", of each tile."""
    source, filters = Source(chunk), []
    count = -(-header.width // 1024) * -(-header.height // 1024)
    for _ in range(count):
        present = source.integer(1)
        if present >= (2 if header.gray else 8):
            raise error("format", "an unknown component is filtered")
        own = {}
        for component, terms in enumerate(TERMS):
            if present >> component & 1:
                code = source.integer(1)
                if code == 0:
                    raise error("format", "a threshold's code is 0")
                weights = [(b + 128) % 256 - 128 for b in source.take(len(terms))]
                own[component] = 2 ** (code / 16 - 4) / 255, weights
        filters.append(own)
    if source.position != len(chunk):
        raise error("format", "chunk f is longer than its filters")
    return filters


def post_filter(x: np.ndarray, tiles: list[Tile], filters: list[Filter]) -> np.ndarray:
    """Section "Post-filter": x (rows, columns, 3) or, gray, (rows, columns)."""
    if x.ndim == 2:
        components = [x]
    else:
        red, green, blue = np.moveaxis(x, 2, 0)
        components = [(red + green + blue) / 3, (red - blue) / 2, (red - 2 * green + blue) / 6]
    result = x.copy()
    for tile, own in zip(tiles, filters):
        moves = [np.zeros(x.shape[:2]) for _ in range(3)]
        for component, (threshold, weights) in own.items():
            for term, weight in zip(TERMS[component], weights):
                add_flow(moves[component], components, term, weight / 256, threshold)
        luma, blue, green = moves
        place = (
            slice(16 * tile.top, 16 * (tile.top + tile.h)),
            slice(16 * tile.left, 16 * (tile.left + tile.w)),
        )
        if x.ndim == 2:
            result[place] += luma[place]
        else:
            changes = [luma + blue + green, luma - 2 * green, luma - blue + green]
            result[place] += np.stack(changes, axis=-1)[place]
    return result


def add_flow(
    move: np.ndarray, components: list[np.ndarray], term: Term, weight: float, threshold: float
) -> None:
    source, (dy, dx) = components[term.source], term.neighbour
    rows, columns = source.shape
    for i in range(rows - dy):
        for j in range(max(0, -dx), min(columns, columns - dx)):
            flow = source[i + dy, j + dx] - source[i, j]
            if term.clipped:
                flow = min(max(flow, -threshold), threshold)
            move[i, j] += weight * flow
            move[i + dy, j + dx] -= weight * flow


def block_transforms(model: Model, u: np.ndarray, y: np.ndarray, s: float) -> np.ndarray:
    """Section "Transforms `block`"."""
    h = conv(model, "g_s.head", u) * gain(model, "g_s.coarse_gain", s)
    for name in model.numbered("g_s.coarse"):
        h = block(model, name, h)
    h = shuffle(conv(model, "g_s.up", h), 2) * gain(model, "g_s.fine_gain", s)
    for name in model.numbered("g_s.fine"):
        h = block(model, name, h)
    x = shuffle(conv(model, "g_s.linear", y), 16) * 22 / 255 + shuffle(
        conv(model, "g_s.tail", h), 8
    )
    if details := model.numbered("g_s.detail"):
        d = conv(model, "g_s.detail_head", unshuffle(x, 4))
        d = (d + shuffle(conv(model, "g_s.detail_up", h), 2)) * gain(model, "g_s.detail_gain", s)
        for name in details:
            d = block(model, name, d)
        x = x + shuffle(conv(model, "g_s.detail_tail", d), 4)
    return x * 22 / 255 + 1 / 2


def gdn_transforms(model: Model, u: np.ndarray, y: np.ndarray, s: float) -> np.ndarray:
    """Section "Transforms `gdn`"."""
    x = y * 22 / 255 / 16
    for k in range(3):
        x = igdn(model, f"g_s.gdn.{k}", shuffle(conv(model, f"g_s.conv.{k}", x), 2))
    return shuffle(conv(model, "g_s.conv.3", x), 2) + 1 / 2


def igdn(model: Model, name: str, x: np.ndarray) -> np.ndarray:
    beta, gamma = model[f"{name}.beta"], model[f"{name}.gamma"]
    return x * np.sqrt(2**-10 + beta**2 + x**2 @ (gamma**2).T)


def conv(model: Model, name: str, x: np.ndarray) -> np.ndarray:
    weight, bias = model[f"{name}.weight"], model[f"{name}.bias"]
    y = np.empty((*x.shape[:2], len(bias)))
    for i, j in positions(x):
        y[i, j] = np.tensordot(weight, neighbourhood(x, i, j, weight.shape[-1]), 3) + bias
    return y


def gain(model: Model, name: str, s: float) -> np.ndarray:
    values = model[f"{name}.values"]
    p = s * (len(values) - 1)
    k = min(int(p), len(values) - 2)
    return np.exp((1 - p + k) * values[k] + (p - k) * values[k + 1])


def block(model: Model, name: str, x: np.ndarray) -> np.ndarray:
    inner = np.maximum(conv(model, f"{name}.layers.0", x), 0)
    inner = np.maximum(conv(model, f"{name}.layers.2", inner), 0)
    return x + conv(model, f"{name}.layers.4", inner)


# Alpha and metadata


def decode_alpha(tiles: list[Tile], header: Header) -> np.ndarray:
    """Section "Alpha": uint8 (height, width)."""
    alpha = np.full((header.height, header.width), 255, np.uint8)
    for tile in tiles:
        area = alpha[16 * tile.top :, 16 * tile.left :][: 16 * tile.h, : 16 * tile.w]
        if tile.parts["A"] or len(tiles) == 1:
            area[:] = decode_webp(tile.parts["A"], *area.shape)
    return alpha


def decode_webp(chunk: bytes, height: int, width: int) -> np.ndarray:
    """Green of a lossless WebP bitstream of that size."""
    size = int.from_bytes(chunk[1:5], "little")
    found = (size >> 14 & 0x3FFF) + 1, (size & 0x3FFF) + 1
    if len(chunk) < 5 or chunk[0] != 0x2F or found != (height, width):
        raise error("format", "the alpha channel is no lossless WebP of the tile's size")
    webp = b"WEBPVP8L" + len(chunk).to_bytes(4, "little") + chunk + bytes(len(chunk) % 2)
    try:
        image = Image.open(io.BytesIO(b"RIFF" + len(webp).to_bytes(4, "little") + webp))
        return np.asarray(image.convert("RGB"))[:, :, 1]
    except (OSError, ValueError):
        raise error("format", "the alpha channel is damaged") from None


def inflate(chunk: bytes) -> bytes:
    """Section "Metadata"."""
    source = Source(chunk)
    size = source.varint()
    if size > 2**24:
        raise error("limit", "metadata exceed their limit")
    inflater = zlib.decompressobj()
    try:
        value = inflater.decompress(chunk[source.position :], size + 1)
    except zlib.error:
        raise error("format", "metadata are no zlib stream") from None
    if len(value) != size or not inflater.eof or inflater.unused_data:
        raise error("format", "metadata are not of their size")
    return value


def main(file: str, weights: str, out: str) -> None:
    decoded = decode(Path(file).read_bytes(), Path(weights).read_bytes())
    image = Image.fromarray(decoded.pixels)
    if decoded.alpha is not None:
        image.putalpha(Image.fromarray(decoded.alpha))
    image.save(out)


if __name__ == "__main__":
    main(*sys.argv[1:])
