"""A .nic file -> its picture: tiles, their latents, pixels, transparency."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from operator import index
from typing import NamedTuple

import numpy as np

from nic import alpha, container, metadata, models, postfilter_chunk, regions, tiles
from nic.config import LATENT_STRIDE
from nic.errors import InputError, ModelMismatch, NicError, part_of_file
from nic.models import Model
from nic.picture import Picture
from nic.postfilter import PostFilter
from nic.prior import LATENT_BITS
from nic.regions import Region
from nic.stored import Stored
from nic.streams import decode_tiles
from nic.threads import workers
from nic.tiles import Tile
from nic.timing import timed
from nic.wavefront import Progress

LOST = 128
"""Grey level of the pixels of a tile that was lost."""


def decode(
    data: bytes | Stored,
    *,
    crop: tuple[int, int, int, int] | None = None,
    keep_going: bool = False,
    any_ratio: bool = False,
    model: Model | None = None,
    report: dict | None = None,
    progress: Progress | None = None,
) -> Picture:
    """Decode a .nic file; further options as in `codec.encode`.

    crop: x, y, width and height of the part wanted, in stored pixels: of tiles that it does not
    need none is decoded, and of a `Stored` file none is read. keep_going: of several tiles, fill
    damaged ones with gray and say so in a UserWarning, instead of raising an error that names one;
    do without damaged metadata and post-filters.
    any_ratio: decode even so many pixels from so few bytes that the file looks made to keep its
    reader busy, see `container.MAX_RATIO`. Errors: FormatError,
    ChecksumError, UnsupportedVersion, ModelMismatch, LimitExceeded; InputError for a crop that is
    not within the image.
    """
    model = model or models.load()
    job = _job(data, crop, keep_going, any_ratio, model)
    with timed(report, "latents"):
        latents = _gathered(job, decode_tiles(job.tiles, model, progress), model)
    with timed(report, "synthesis"):
        return _picture(job, latents, model)


def decode_batch(
    files: Iterable[bytes | Stored],
    *,
    crop: tuple[int, int, int, int] | None = None,
    keep_going: bool = False,
    any_ratio: bool = False,
    model: Model | None = None,
) -> Iterator[Picture | NicError]:
    """Decode .nic files, several at a time in lockstep; options as in `decode`.

    Yields, in their order, each file's picture or the error that `decode` would have raised. Takes
    as many files at once as fill `Model.lockstep`, and holds no more pictures than that.
    """
    model = model or models.load()
    group: list[Job | NicError] = []
    pending = 0
    for data in files:
        try:
            job = _job(data, crop, keep_going, any_ratio, model)
            pending += len(job.tiles)
        except NicError as error:
            job = error
        group.append(job)
        # Errors wait for the files before them, but for no more of them than there may be tiles.
        if not pending or max(pending, len(group)) >= model.lockstep:
            yield from _decode_jobs(group, model)
            group, pending = [], 0
    yield from _decode_jobs(group, model)


def _decode_jobs(group: Sequence[Job | NicError], model: Model) -> Iterator[Picture | NicError]:
    jobs = [job for job in group if isinstance(job, Job)]
    decoded = {id(tile): v for tile, v in decode_tiles([t for j in jobs for t in j.tiles], model)}
    for job in group:
        if isinstance(job, NicError):
            yield job
            continue
        try:
            own = [(tile, decoded.pop(id(tile))) for tile in job.tiles]
            yield _picture(job, _gathered(job, own, model), model)
        except NicError as error:
            yield error


def decode_latents(header: container.Header, chunks: dict[str, bytes], model: Model) -> np.ndarray:
    """The exact part of decoding: all latents, (h, w, M) int32 in LATENT_BITS, checked."""
    job = _wanted(header, chunks, None, False, model)
    return _gathered(job, decode_tiles(job.tiles, model), model).v_hat


def _area(crop: tuple[int, int, int, int] | None, header: container.Header) -> Region:
    """The pixels wanted; InputError unless there are any, and all within the image."""
    crop = (0, 0, header.width, header.height) if crop is None else crop
    try:
        x, y, width, height = map(index, crop)
    except (TypeError, ValueError) as error:
        raise InputError(f"crop {crop!r} is not four whole numbers") from error
    inside = 0 <= x < x + width <= header.width and 0 <= y < y + height <= header.height
    if not inside:
        raise InputError(
            f"crop {x},{y},{width},{height} is not within the {header.width}x{header.height} image"
        )
    return slice(y, y + height), slice(x, x + width)


class Job(NamedTuple):
    """A part of a file that is to be decoded."""

    header: container.Header
    area: Region
    """The pixels wanted."""
    region: Region
    """The latents that they depend on."""
    tiles: list[Tile]
    """Those that hold them."""
    filters: list[PostFilter]
    """Of all tiles of the file."""
    metadata: dict[str, bytes]
    keep_going: bool


def _job(
    data: bytes | Stored,
    crop: tuple[int, int, int, int] | None,
    keep_going: bool,
    any_ratio: bool,
    model: Model,
) -> Job:
    header, chunks = container.read(data, keep_going)
    if not any_ratio:
        container.check_ratio(header)
    return _wanted(header, chunks, crop, keep_going, model)


def _wanted(
    header: container.Header,
    chunks: dict[str, bytes | Stored],
    crop: tuple[int, int, int, int] | None,
    keep_going: bool,
    model: Model,
) -> Job:
    if header.fingerprint != model.fingerprint:
        raise ModelMismatch(expected=header.fingerprint.hex(), found=model.fingerprint.hex())
    area, grid = _area(crop, header), regions.latent_grid(header.height, header.width)
    kept, filters = metadata.unpack(chunks), _filters(header, chunks)
    region = regions.widened(regions.covering(area, LATENT_STRIDE), model.networks.reach, *grid)
    wanted = tiles.unpack(header, chunks, region)
    keep_going = keep_going and header.tiles > 1
    if not keep_going:
        tiles.verify(wanted)
    return Job(header, area, region, wanted, filters, kept, keep_going)


def _filters(header: container.Header, chunks: dict[str, bytes | Stored]) -> list[PostFilter]:
    if "f" in chunks:
        return postfilter_chunk.unpack(chunks["f"], header.tiles, header.gray)
    return [()] * header.tiles


class Decoded(NamedTuple):
    """What the tiles of a part of an image hold."""

    v_hat: np.ndarray
    """(h, w, M) int32 in LATENT_BITS, of the job's region; 0 in tiles that were lost."""
    opacity: np.ndarray | None
    """uint8, of the job's area, if there is transparency; opaque in tiles that were lost."""
    whole: list[Region]
    """Of the tiles that were decoded, the latents."""


def _gathered(
    job: Job, decoded: Iterable[tuple[Tile, np.ndarray | NicError]], model: Model
) -> Decoded:
    """Tiles put together; the error of one is raised, or if the job goes on, warned of."""
    v_hat = np.zeros((*regions.size(job.region), model.config.M), np.int32)
    opacity = np.full(regions.size(job.area), alpha.OPAQUE, np.uint8) if job.header.alpha else None
    sound = []
    for tile, part in decoded:
        try:
            if isinstance(part, NicError):
                raise part
            if opacity is not None:
                _decode_alpha(tile, job, opacity)
        except NicError as error:
            if not job.keep_going:
                raise
            warnings.warn(f"{error}: filled with gray", stacklevel=3)
            continue
        common = regions.overlap(tile.region, job.region)
        v_hat[regions.within(common, job.region)] = part[regions.within(common, tile.region)]
        sound.append(tile.region)
    return Decoded(v_hat, opacity, sound)


def _decode_alpha(tile: Tile, job: Job, opacity: np.ndarray) -> None:
    """Write a tile's part of the alpha channel into that of the job's area; FormatError."""
    whole = regions.whole(job.header.height, job.header.width)
    place = regions.overlap(regions.scaled(tile.region, LATENT_STRIDE), whole)
    common = regions.overlap(place, job.area)
    if not regions.is_empty(common) and (tile.streams["A"] or job.header.tiles == 1):
        with part_of_file(tile.name):
            part = alpha.decode(tile.streams["A"], *regions.size(place))
        opacity[regions.within(common, job.area)] = part[regions.within(common, place)]


def _picture(job: Job, decoded: Decoded, model: Model) -> Picture:
    return Picture(_synthesise(job, decoded, model), decoded.opacity, **job.metadata)


@workers
def _synthesise(job: Job, decoded: Decoded, model: Model) -> np.ndarray:
    """Decoded latents -> the pixels of the job's area."""
    area, header = job.area, job.header
    s, networks = model.config.s(header.quality_step), model.networks
    gain = model.gain(header.quality_step) * 2.0**LATENT_BITS
    grid = regions.latent_grid(header.height, header.width)
    pixels = np.empty(regions.size(area) + (() if header.gray else (3,)), np.uint8)
    for core, post_filter in zip(tiles.regions(header.height, header.width), job.filters):
        common = regions.overlap(regions.scaled(core, LATENT_STRIDE), area)
        if regions.is_empty(common):
            continue
        if core not in decoded.whole:
            pixels[regions.within(common, area)] = LOST
            continue
        window = regions.widened(regions.covering(common, LATENT_STRIDE), networks.reach, *grid)
        u_hat = (decoded.v_hat[regions.within(window, job.region)] / gain).astype(np.float32)
        rendered = networks.render(u_hat, s, header.gray, post_filter)
        outer = regions.scaled(window, LATENT_STRIDE)
        pixels[regions.within(common, area)] = rendered[regions.within(common, outer)]
    return pixels
