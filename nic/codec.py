"""Image <-> .nic: tiles, gains, and the order in which the parts work."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np

from nic import alpha, container, metadata, models, targets, tiles
from nic.config import LATENT_STRIDE, QUALITY_STEPS
from nic.effort import DEFAULT_EFFORT, REFINED, check_effort
from nic.encoder import Encoder, code_tiles
from nic.errors import InputError, ModelMismatch, NicError
from nic.fidelity import visible_psnr
from nic.models import Model
from nic.picture import Picture
from nic.prior import LATENT_BITS, Progress
from nic.samples import grey_levels
from nic.streams import TileCode, decode_tiles
from nic.symbols import lanes_within
from nic.tiles import Region, Tile

LOST = 128
"""Grey level of the pixels of a tile that was lost."""


def encode(
    picture: Picture,
    quality: float | None = None,
    *,
    size: int | None = None,
    bpp: float | None = None,
    psnr: float | None = None,
    effort: int = DEFAULT_EFFORT,
    alpha_quality: float = 100.0,
    exact: bool = False,
    model: Model | None = None,
    lanes: int | str = 1,
    report: dict | None = None,
    progress: Progress | None = None,
) -> bytes:
    """Encode a picture to the bytes of a .nic file.

    quality: 0..100, higher is better, 50 by default; or instead of it `size`, in bytes, or `bpp`,
    bits per pixel: the file is at most that large and at most 1 % smaller; or `psnr`, in dB, which
    the file has within 0.05. effort: 0..9, see `effort.py`. alpha_quality: 0..100 for transparency,
    lossless at 100; exact: keep the colours of wholly transparent pixels, which are otherwise
    replaced by what costs least; lanes: range-coder substreams, a power of two up to 128, which a
    GPU decodes at once, or "auto": as many as add less than 1 % to the file. Errors: InputError,
    also for a target that this picture cannot meet; LimitExceeded.

    A `report` dict receives seconds by stage and the estimated and real numbers of bits; of a
    search, those of the file that was coded last. `progress` is called with (steps done, steps in
    all) as the latents are refined, and again as they are coded, of every file that is tried.
    """
    if sum(target is not None for target in (quality, size, bpp, psnr)) > 1:
        raise InputError("only one of quality, size, bpp and psnr can be asked for")
    model, effort = model or models.load(), check_effort(effort)
    if bpp is not None:
        size = bpp * picture.width * picture.height / 8
    step = quality_step(50.0 if quality is None else quality)
    options = _lanes(lanes), alpha_quality, exact
    files = Files(picture, model, effort, *options, report, progress)
    # Where a file takes long, the search begins from what a quick one comes to.
    quick = Files(picture, model, 0, *options) if effort in REFINED else None

    def found() -> bytes:
        if psnr is not None:
            return targets.for_psnr(files, quick, _positive("psnr", psnr))
        if size is not None:
            return targets.for_size(files, quick, int(_positive("size", size)))
        return files.file(step)

    data = found()
    if lanes == "auto" and (enough := lanes_within(0.01 * len(data) / files.encoder.tiles)) > 1:
        files.encoder.lanes = enough
        data = found()
    return data


def encode_batch(
    pictures: Iterable[Picture],
    quality: float = 50.0,
    *,
    effort: int = DEFAULT_EFFORT,
    alpha_quality: float = 100.0,
    exact: bool = False,
    model: Model | None = None,
    lanes: int = 1,
) -> Iterator[bytes]:
    """Encode pictures to .nic files, several at a time in lockstep; options as in `encode`.

    Yields, in their order, the same bytes as `encode` returns.
    """
    model, step = model or models.load(), quality_step(quality)
    check_effort(effort)
    group: list[Files] = []
    for picture in pictures:
        group.append(Files(picture, model, effort, _lanes(lanes), alpha_quality, exact))
        if sum(files.encoder.tiles for files in group) >= model.lockstep:
            yield from _encode_files(group, step)
            group = []
    yield from _encode_files(group, step)


def _encode_files(group: Sequence[Files], step: int) -> Iterator[bytes]:
    codes = code_tiles([files.encoder for files in group], step)
    for files, own in zip(group, codes):
        yield files.joined(step, own)


class Files:
    """A picture's files at one effort and all quality steps."""

    def __init__(
        self,
        picture: Picture,
        model: Model,
        effort: int,
        lanes: int,
        alpha_quality: float,
        exact: bool,
        report: dict | None = None,
        progress: Progress | None = None,
    ):
        self.picture, self.model, self.report = picture, model, report
        self.metadata = metadata.pack(picture)
        opacity = _opacity(picture, alpha_quality)
        self.alpha = None if opacity is None else list(_code_alpha(opacity))
        shown = None if exact or opacity is None else opacity > 0
        self.encoder = Encoder(picture.pixels, shown, model, effort, lanes, progress)

    def file(self, step: int, dead_zone: float = 0.0) -> bytes:
        """The file at a quality step; dead_zone: as in `Encoder.code`."""
        report = self.report
        with _timed(report, "analysis"):
            self.encoder.latents(step)
        with _timed(report, "latents"):
            codes = self.encoder.code(step, dead_zone, report is not None)
        if report is not None:
            report["hyper_bits"] = sum(8 * len(code.hyper) for code in codes)
            report["latent_bits"] = sum(8 * len(code.latents) for code in codes)
            report["estimated_bits"] = sum(code.estimated_bits for code in codes)
        return self.joined(step, codes)

    def psnr(self, data: bytes) -> float:
        """PSNR in dB of what can be seen of one of the files."""
        return visible_psnr(self.picture, decode(data, any_ratio=True, model=self.model))

    def joined(self, step: int, codes: Sequence[TileCode]) -> bytes:
        """The file that holds a quality step's coded tiles."""
        streams = [{"H": code.hyper, "L": code.latents} for code in codes]
        if self.alpha is not None:
            for part, stream in zip(streams, self.alpha):
                part["A"] = stream
        chunks, crc = tiles.pack([(s, c.latents_crc) for s, c in zip(streams, codes)])
        return container.write(
            fingerprint=self.model.fingerprint,
            quality_step=step,
            gray=self.picture.gray,
            lanes=self.encoder.lanes,
            width=self.picture.width,
            height=self.picture.height,
            latents_crc=crc,
            chunks=[*self.metadata, *chunks],
        )


def decode(
    data: bytes,
    *,
    crop: tuple[int, int, int, int] | None = None,
    keep_going: bool = False,
    any_ratio: bool = False,
    model: Model | None = None,
    report: dict | None = None,
    progress: Progress | None = None,
) -> Picture:
    """Decode a .nic file; further options as in `encode`.

    crop: x, y, width and height of the part wanted, in stored pixels: other tiles are left alone.
    keep_going: of several tiles, fill damaged ones with gray and say so in a UserWarning, instead
    of raising an error that names one. any_ratio: decode even so many pixels from so few bytes that
    the file looks made to keep its reader busy, see `container.MAX_RATIO`. Errors: FormatError,
    ChecksumError, UnsupportedVersion, ModelMismatch, LimitExceeded; InputError for a crop that is
    not within the image.
    """
    model = model or models.load()
    job = _job(data, crop, keep_going, any_ratio, model)
    with _timed(report, "latents"):
        latents = _gathered(job, decode_tiles(job.tiles, model, progress), model)
    with _timed(report, "synthesis"):
        return _picture(job, latents, model)


def decode_batch(
    files: Iterable[bytes],
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
    for data in files:
        try:
            group.append(_job(data, crop, keep_going, any_ratio, model))
        except NicError as error:
            group.append(error)
        if sum(len(job.tiles) for job in group if isinstance(job, Job)) >= model.lockstep:
            yield from _decode_jobs(group, model)
            group = []
    yield from _decode_jobs(group, model)


def _decode_jobs(group: Sequence[Job | NicError], model: Model) -> Iterator[Picture | NicError]:
    jobs = [job for job in group if isinstance(job, Job)]
    decoded = {id(tile): v for tile, v in decode_tiles([t for j in jobs for t in j.tiles], model)}
    for job in group:
        if isinstance(job, NicError):
            yield job
            continue
        try:
            latents = _gathered(job, [(tile, decoded.pop(id(tile))) for tile in job.tiles], model)
            yield _picture(job, latents, model)
        except NicError as error:
            yield error


def decode_latents(header: container.Header, chunks: dict[str, bytes], model: Model) -> np.ndarray:
    """The exact part of decoding: all latents, (h, w, M) int32 in LATENT_BITS, checked."""
    job = _wanted(header, chunks, None, False, model)
    return _gathered(job, decode_tiles(job.tiles, model), model).v_hat


def quality_step(quality: float) -> int:
    """Quality 0..100 -> the nearest of the header's 256 steps."""
    return int(_percent("quality", quality) * (QUALITY_STEPS - 1) / 100 + 0.5)


def _lanes(lanes: int | str) -> int:
    """To begin with; of `auto`, what is left aside."""
    if lanes != "auto" and lanes not in container.LANES:
        raise InputError(f"lanes {lanes!r} is not one of {container.LANES} or auto")
    return 1 if lanes == "auto" else lanes


def _positive(name: str, value: float) -> float:
    if not 0 < value < math.inf:
        raise InputError(f"{name} {value!r} is not a positive number")
    return value


def _percent(name: str, value: float) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = -1.0
    if not 0 <= number <= 100:
        raise InputError(f"{name} {value!r} is not a number within 0..100")
    return number


def _opacity(picture: Picture, quality: float) -> np.ndarray | None:
    """The alpha channel to code; None where all is opaque."""
    quality = _percent("alpha quality", quality)
    if picture.alpha is None or picture.alpha.min() == alpha.OPAQUE:
        return None
    return alpha.coarsen(picture.alpha, quality)


def _code_alpha(opacity: np.ndarray) -> Iterator[bytes]:
    """A stream for each tile; of several tiles, an opaque one has none."""
    regions = tiles.regions(*tiles.grid(*opacity.shape))
    for region in regions:
        part = opacity[tiles.scaled(region, LATENT_STRIDE)]
        opaque = len(regions) > 1 and part.min() == alpha.OPAQUE
        yield b"" if opaque else alpha.encode(part)


def _area(crop: tuple[int, int, int, int] | None, header: container.Header) -> Region:
    """The pixels wanted; InputError unless there are any, and all within the image."""
    x, y, width, height = crop or (0, 0, header.width, header.height)
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
    metadata: dict[str, bytes]
    keep_going: bool


def _job(
    data: bytes,
    crop: tuple[int, int, int, int] | None,
    keep_going: bool,
    any_ratio: bool,
    model: Model,
) -> Job:
    header, chunks = container.read(data)
    if not any_ratio:
        container.check_ratio(header)
    return _wanted(header, chunks, crop, keep_going, model)


def _wanted(
    header: container.Header,
    chunks: dict[str, bytes],
    crop: tuple[int, int, int, int] | None,
    keep_going: bool,
    model: Model,
) -> Job:
    if header.fingerprint != model.fingerprint:
        raise ModelMismatch(expected=header.fingerprint.hex(), found=model.fingerprint.hex())
    area, grid = _area(crop, header), tiles.grid(header.height, header.width)
    region = tiles.widened(_latents_of(area), model.networks.reach, *grid)
    wanted = [
        tile
        for tile in tiles.unpack(header, chunks)
        if not tiles.is_empty(tiles.overlap(tile.region, region))
    ]
    keep_going = keep_going and header.tiles > 1
    if not keep_going:
        tiles.verify(wanted)
    return Job(header, area, region, wanted, metadata.unpack(chunks), keep_going)


class Latents(NamedTuple):
    """Decoded latents of a part of an image."""

    region: Region
    v_hat: np.ndarray
    """(h, w, M) int32 in LATENT_BITS; 0 in tiles that were lost."""
    tiles: list[Tile]
    """Those that were decoded."""


def _gathered(
    job: Job, decoded: Iterable[tuple[Tile, np.ndarray | NicError]], model: Model
) -> Latents:
    """Tiles put together; the error of one is raised, or if the job goes on, warned of."""
    v_hat = np.zeros((*tiles.size(job.region), model.config.M), np.int32)
    latents = Latents(job.region, v_hat, [])
    for tile, part in decoded:
        if isinstance(part, NicError):
            if not job.keep_going:
                raise part
            warnings.warn(f"{part}: filled with gray", stacklevel=3)
            continue
        common = tiles.overlap(tile.region, job.region)
        v_hat[tiles.within(common, job.region)] = part[tiles.within(common, tile.region)]
        latents.tiles.append(tile)
    return latents


def _picture(job: Job, latents: Latents, model: Model) -> Picture:
    pixels = _synthesise(latents, job.area, job.header, model)
    opacity = _decode_alpha(latents, job.area, job.header) if job.header.alpha else None
    return Picture(pixels, opacity, **job.metadata)


def _decode_alpha(latents: Latents, area: Region, header: container.Header) -> np.ndarray:
    """The alpha channel of an area of pixels; opaque where a tile was lost."""
    opacity = np.full(tiles.size(area), alpha.OPAQUE, np.uint8)
    whole = tiles.whole(header.height, header.width)
    for tile in latents.tiles:
        place = tiles.overlap(tiles.scaled(tile.region, LATENT_STRIDE), whole)
        common = tiles.overlap(place, area)
        if not tiles.is_empty(common) and (tile.streams["A"] or header.tiles == 1):
            part = alpha.decode(tile.streams["A"], *tiles.size(place))
            opacity[tiles.within(common, area)] = part[tiles.within(common, place)]
    return opacity


def _synthesise(
    latents: Latents, area: Region, header: container.Header, model: Model
) -> np.ndarray:
    """Decoded latents -> the pixels of an area."""
    s, networks = model.config.s(header.quality_step), model.networks
    gain = model.gain(header.quality_step) * 2.0**LATENT_BITS
    grid = tiles.grid(header.height, header.width)
    decoded = [tile.region for tile in latents.tiles]
    pixels = np.empty(tiles.size(area) + (() if header.gray else (3,)), np.uint8)
    for core in tiles.regions(*grid):
        common = tiles.overlap(tiles.scaled(core, LATENT_STRIDE), area)
        if tiles.is_empty(common):
            continue
        if core not in decoded:
            pixels[tiles.within(common, area)] = LOST
            continue
        window = tiles.widened(_latents_of(common), networks.reach, *grid)
        u_hat = (latents.v_hat[tiles.within(window, latents.region)] / gain).astype(np.float32)
        x_hat = networks.synthesise(u_hat, s)
        x_hat = x_hat[tiles.within(common, tiles.scaled(window, LATENT_STRIDE))]
        pixels[tiles.within(common, area)] = grey_levels(x_hat, header.gray)
    return pixels


def _latents_of(area: Region) -> Region:
    """The latents that an area of pixels lies on."""
    return tuple(slice(r.start // LATENT_STRIDE, -(-r.stop // LATENT_STRIDE)) for r in area)


@contextmanager
def _timed(report: dict | None, stage: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    if report is not None:
        report.setdefault("seconds", {})[stage] = time.perf_counter() - start
