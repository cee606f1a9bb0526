"""Image <-> .nic: tiles, gains, and the order in which the parts work."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np

from nic import alpha, container, metadata, models, tiles
from nic.config import HYPER_STRIDE, LATENT_STRIDE, QUALITY_STEPS
from nic.errors import InputError, ModelMismatch
from nic.models import Model
from nic.picture import Picture
from nic.prior import GAIN_BITS, LATENT_BITS, Progress
from nic.streams import decode_tiles, encode_tiles, hyper
from nic.tiles import Region, Tile

LOST = 128
"""Grey level of the pixels of a tile that was lost."""


def encode(
    picture: Picture,
    quality: float,
    *,
    alpha_quality: float = 100.0,
    exact: bool = False,
    model: Model | None = None,
    lanes: int = 1,
    report: dict | None = None,
    progress: Progress | None = None,
) -> bytes:
    """Encode a picture to the bytes of a .nic file.

    quality: 0..100, higher is better; alpha_quality: the same for transparency, lossless at 100;
    exact: keep the colours of wholly transparent pixels, which are otherwise replaced by what
    costs least; lanes: range-coder substreams, a power of two up to 128. Errors: InputError,
    LimitExceeded.

    A `report` dict receives seconds by stage and the estimated and real numbers of bits;
    `progress` is called with (steps done, steps in all) as the latents are coded.
    """
    model = model or models.load()
    step = quality_step(quality)
    if lanes not in container.LANES:
        raise InputError(f"lanes {lanes} is not one of {container.LANES}")
    extras = metadata.pack(picture)
    with _timed(report, "analysis"):
        opacity = _opacity(picture, alpha_quality)
        v, z = _analyse(picture.pixels, None if exact else opacity, step, model)
    with _timed(report, "latents"):
        codes = encode_tiles(v, z, step, model, lanes, report is not None, progress)
    streams = [{"H": code.hyper, "L": code.latents} for code in codes]
    if opacity is not None:
        for part, stream in zip(streams, _code_alpha(opacity)):
            part["A"] = stream
    if report is not None:
        report["hyper_bits"] = sum(8 * len(code.hyper) for code in codes)
        report["latent_bits"] = sum(8 * len(code.latents) for code in codes)
        report["estimated_bits"] = sum(code.estimated_bits for code in codes)
    chunks, latents_crc = tiles.pack([(s, c.latents_crc) for s, c in zip(streams, codes)])
    return container.write(
        fingerprint=model.fingerprint,
        quality_step=step,
        gray=picture.gray,
        lanes=lanes,
        width=picture.width,
        height=picture.height,
        latents_crc=latents_crc,
        chunks=[*extras, *chunks],
    )


def decode(
    data: bytes,
    *,
    crop: tuple[int, int, int, int] | None = None,
    keep_going: bool = False,
    model: Model | None = None,
    report: dict | None = None,
    progress: Progress | None = None,
) -> Picture:
    """Decode a .nic file; further options as in `encode`.

    crop: x, y, width and height of the part wanted, in stored pixels: other tiles are left alone.
    keep_going: of several tiles, fill damaged ones with gray and say so in a UserWarning, instead
    of raising an error that names one. Errors: FormatError, ChecksumError, UnsupportedVersion,
    ModelMismatch, LimitExceeded; InputError for a crop that is not within the image.
    """
    header, chunks = container.read(data)
    model = model or models.load()
    _check_model(header, model)
    area = _area(crop, header)
    kept = metadata.unpack(chunks)
    with _timed(report, "latents"):
        latents = _decode_latents(header, chunks, area, model, keep_going, progress)
    with _timed(report, "synthesis"):
        pixels = _synthesise(latents, area, header, model)
        opacity = _decode_alpha(latents, area, header) if header.alpha else None
    return Picture(pixels, opacity, **kept)


def decode_latents(header: container.Header, chunks: dict[str, bytes], model: Model) -> np.ndarray:
    """The exact part of decoding: all latents, (h, w, M) int32 in LATENT_BITS, checked."""
    _check_model(header, model)
    return _decode_latents(header, chunks, _area(None, header), model, False, None).v_hat


def quality_step(quality: float) -> int:
    """Quality 0..100 -> the nearest of the header's 256 steps."""
    return int(_percent("quality", quality) * (QUALITY_STEPS - 1) / 100 + 0.5)


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


def _analyse(
    pixels: np.ndarray, opacity: np.ndarray | None, step: int, model: Model
) -> tuple[np.ndarray, np.ndarray]:
    """Pixels -> v (h, w, M) float32, latents in quantiser steps, and z (hz, wz, channels).

    Given `opacity`, what is hidden is replaced by what costs least.
    """
    h, w = tiles.grid(*pixels.shape[:2])
    s, gain = model.config.s(step), _gain(step, model).astype(np.float32)
    v = np.empty((h, w, model.config.M), np.float32)
    z_size = tiles.size(hyper(tiles.whole(h, w)))
    z = np.empty((*z_size, model.config.z_channels), np.float32)
    for region in tiles.regions(h, w):
        window = tiles.widened(region, model.networks.reach, h, w)
        seen = tiles.scaled(window, LATENT_STRIDE)
        part = pixels[seen] if opacity is None else alpha.fill(pixels[seen], opacity[seen] > 0)
        u = model.networks.analyse(_samples(part), s)[tiles.within(region, window)]
        z[hyper(region)] = model.networks.hyper_analyse(_pad(u, HYPER_STRIDE), s)
        v[region] = u * gain
    return v, z


def _code_alpha(opacity: np.ndarray) -> Iterator[bytes]:
    """A stream for each tile; of several tiles, an opaque one has none."""
    regions = tiles.regions(*tiles.grid(*opacity.shape))
    for region in regions:
        part = opacity[tiles.scaled(region, LATENT_STRIDE)]
        opaque = len(regions) > 1 and part.min() == alpha.OPAQUE
        yield b"" if opaque else alpha.encode(part)


def _check_model(header: container.Header, model: Model) -> None:
    if header.fingerprint != model.fingerprint:
        raise ModelMismatch(expected=header.fingerprint.hex(), found=model.fingerprint.hex())


def _area(crop: tuple[int, int, int, int] | None, header: container.Header) -> Region:
    """The pixels wanted; InputError unless there are any, and all within the image."""
    x, y, width, height = crop or (0, 0, header.width, header.height)
    inside = 0 <= x < x + width <= header.width and 0 <= y < y + height <= header.height
    if not inside:
        raise InputError(
            f"crop {x},{y},{width},{height} is not within the {header.width}x{header.height} image"
        )
    return slice(y, y + height), slice(x, x + width)


class Latents(NamedTuple):
    """Decoded latents of a part of an image."""

    region: Region
    v_hat: np.ndarray
    """(h, w, M) int32 in LATENT_BITS; 0 in tiles that were lost."""
    tiles: list[Tile]
    """Those that were decoded."""


def _decode_latents(
    header: container.Header,
    chunks: dict[str, bytes],
    area: Region,
    model: Model,
    keep_going: bool,
    progress: Progress | None,
) -> Latents:
    """Latents of all that an area of pixels depends on."""
    h, w = tiles.grid(header.height, header.width)
    region = tiles.widened(_latents_of(area), model.networks.reach, h, w)
    wanted = [
        tile
        for tile in tiles.unpack(header, chunks)
        if not tiles.is_empty(tiles.overlap(tile.region, region))
    ]
    keep_going = keep_going and header.tiles > 1
    latents = Latents(region, np.zeros((*tiles.size(region), model.config.M), np.int32), [])
    for tile, v_hat in decode_tiles(wanted, header, model, keep_going, progress):
        common = tiles.overlap(tile.region, region)
        target = tiles.within(common, region)
        latents.v_hat[target] = v_hat[tiles.within(common, tile.region)]
        latents.tiles.append(tile)
    return latents


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
    gain = _gain(header.quality_step, model) * 2.0**LATENT_BITS
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
        pixels[tiles.within(common, area)] = _grey_levels(x_hat, header.gray)
    return pixels


def _samples(pixels: np.ndarray) -> np.ndarray:
    """Pixels as g_a wants them: (H, W, 3) float32, -0.5..0.5, the last row and column repeated up
    to whole latents."""
    x = _pad(np.atleast_3d(pixels), LATENT_STRIDE)
    x = x.astype(np.float32) / 255 - np.float32(0.5)
    return x if x.shape[2] == 3 else np.repeat(x, 3, axis=2)


def _grey_levels(x_hat: np.ndarray, gray: bool) -> np.ndarray:
    """What g_s gives, (H, W, 3), as uint8 (H, W, 3) or, gray, (H, W)."""
    x_hat = (x_hat + np.float32(0.5)) * 255
    return np.clip(np.rint(x_hat.mean(axis=2) if gray else x_hat), 0, 255).astype(np.uint8)


def _gain(step: int, model: Model) -> np.ndarray:
    """(M,) from whitened latents to quantiser steps."""
    return model.prior.gains[step] * 2.0**-GAIN_BITS


def _latents_of(area: Region) -> Region:
    """The latents that an area of pixels lies on."""
    return tuple(slice(r.start // LATENT_STRIDE, -(-r.stop // LATENT_STRIDE)) for r in area)


def _pad(grid: np.ndarray, multiple: int) -> np.ndarray:
    """(H, W, C) -> rows and columns repeated at the end up to a multiple."""
    h, w, _ = grid.shape
    return np.pad(grid, ((0, -h % multiple), (0, -w % multiple), (0, 0)), mode="edge")


@contextmanager
def _timed(report: dict | None, stage: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    if report is not None:
        report.setdefault("seconds", {})[stage] = time.perf_counter() - start
