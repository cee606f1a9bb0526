"""Latents <-> the streams of an image's tiles, several tiles at a time."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from nic import regions
from nic.config import HYPER_STRIDE
from nic.errors import ChecksumError, FormatError, NicError, part_of_file
from nic.models import Model
from nic.postfilter import PostFilter
from nic.prior import LatentCode
from nic.range_coder import PRECISION
from nic.regions import Region
from nic.tables import SCALES, gaussian_bits, scale_levels
from nic.threads import workers
from nic.tiles import Tile
from nic.wavefront import Progress, step_count


class TileCode(NamedTuple):
    """One coded tile."""

    hyper: bytes
    latents: bytes
    latents_crc: int
    post_filter: PostFilter
    estimated_bits: float
    """By the densities; 0 where not asked for."""


def tile_code(
    z_hat: np.ndarray, y: LatentCode, post_filter: PostFilter, model: Model, estimate: bool
) -> TileCode:
    """A tile from its hyperlatents, coded latents and post-filter."""
    bits = estimated_bits(z_hat, y, model) if estimate else 0.0
    hyper = model.prior.encode_z(z_hat)
    return TileCode(hyper, y.stream, latents_crc(y.v_hat), post_filter, bits)


def decode_tiles(
    wanted: Sequence[Tile], model: Model, progress: Progress | None = None
) -> Iterator[tuple[Tile, np.ndarray | NicError]]:
    """Tiles, of one file or several, and their v_hat, (h, w, M) int32 in LATENT_BITS, checked.

    A damaged tile has the ChecksumError or FormatError that names it in place of v_hat.
    """
    sound = []
    for tile in wanted:
        if tile.damaged:
            yield tile, ChecksumError(f"{tile.name} is damaged")
        else:
            sound.append(tile)
    for at, share in in_groups([tile.region for tile in sound], model.lockstep, progress):
        yield from _decode_group(sound[at], model, share)


def _decode_group(
    group: Sequence[Tile], model: Model, progress: Progress | None = None
) -> Iterator[tuple[Tile, np.ndarray | NicError]]:
    try:
        v_hats = _decode_lockstep(group, model, progress)
    except (ChecksumError, FormatError) as error:
        if len(group) == 1:
            yield group[0], error
        else:  # one by one, to find out which it is
            for tile in group:
                yield from _decode_group([tile], model)
    else:
        yield from zip(group, v_hats)


@workers
def _decode_lockstep(
    group: Sequence[Tile], model: Model, progress: Progress | None
) -> list[np.ndarray]:
    sizes = [regions.size(tile.region) for tile in group]
    latents = [tile.streams["L"] for tile in group]
    steps = [tile.header.quality_step for tile in group]
    lanes = [tile.header.lanes for tile in group]
    with part_of_file(group[0].name):
        z_hats = model.coder.decode_zs([tile.streams["H"] for tile in group], sizes)
        v_hats = model.coder.decode_grids(latents, z_hats, steps, sizes, lanes, progress)
    for tile, v_hat in zip(group, v_hats):
        if latents_crc(v_hat) != tile.latents_crc:
            raise ChecksumError(f"{tile.name}: decoded latents do not match their checksum")
    return v_hats


def in_groups(
    places: Sequence[Region], size: int, progress: Progress | None
) -> Iterator[tuple[slice, Progress | None]]:
    """Which tiles advance in lockstep, `size` at a time, and the `progress` of their part of all
    steps."""
    groups = [slice(at, at + size) for at in range(0, len(places), size)]
    steps = [max(step_count(*regions.size(place)) for place in places[at]) for at in groups]
    for n, at in enumerate(groups):

        def share(done: int, _: int, before: int = sum(steps[:n])) -> None:
            progress(before + done, sum(steps))

        yield at, share if progress else None


def hyper(region: Region) -> Region:
    """The hyperlatents of a tile's latents."""
    return regions.covering(region, HYPER_STRIDE)


def latents_crc(v_hat: np.ndarray) -> int:
    """CRC-32 of the latents as little-endian int32 in the order row, column, channel."""
    return zlib.crc32(np.ascontiguousarray(v_hat, "<i4"))


def estimated_bits(z_hat: np.ndarray, y: LatentCode, model: Model) -> float:
    """Bits by the densities: of y by the Gaussian itself, of z by its tables' frequencies."""
    # Few pairs of level and magnitude occur, so that each one's erfc is taken once.
    pairs, counts = np.unique(
        np.abs(y.residuals).astype(np.int64) * SCALES + y.levels, return_counts=True
    )
    scales = scale_levels()
    bits_y = sum(
        count * gaussian_bits(pair // SCALES, scales[pair % SCALES])
        for pair, count in zip(pairs.tolist(), counts.tolist())
    )
    tables = model.prior.z_tables
    symbols = np.clip(z_hat.reshape(-1, z_hat.shape[2]) - tables.lows, 0, tables.sizes).astype(int)
    at = tables.starts[:-1] + symbols
    bits_z = np.log2(2**PRECISION / (tables.cdfs[at + 1] - tables.cdfs[at])).sum()
    return bits_y + float(bits_z)
