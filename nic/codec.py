"""Picture -> .nic, at a quality, size or PSNR; `decoder.py` is the way back."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Iterator, Sequence
from numbers import Integral

import numpy as np

from nic import alpha, container, metadata, models, postfilter_chunk, regions, targets, tiles
from nic.config import LATENT_STRIDE, QUALITY_STEPS
from nic.decoder import decode, decode_batch, decode_latents
from nic.effort import DEFAULT_EFFORT, FILTERED, REFINED, check_effort
from nic.encoder import Encoder, code_tiles
from nic.errors import InputError
from nic.fidelity import visible_psnr
from nic.models import Model
from nic.picture import Picture
from nic.streams import TileCode
from nic.symbols import lanes_within
from nic.timing import timed
from nic.wavefront import Progress

__all__ = ["decode", "decode_batch", "decode_latents", "encode", "encode_batch", "quality_step"]


def encode(
    picture: Picture,
    quality: float | None = None,
    *,
    size: float | None = None,
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
        size = min(_positive("bpp", bpp) * picture.width * picture.height / 8, sys.maxsize)
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
    if lanes == "auto" and files.divide(data):
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
    lanes: int | str = 1,
) -> Iterator[bytes]:
    """Encode pictures to .nic files, several at a time in lockstep; options as in `encode`.

    Yields, in their order, the same bytes as `encode` returns.
    """
    model, step = model or models.load(), quality_step(quality)
    check_effort(effort)
    group: list[Files] = []
    for picture in pictures:
        group.append(Files(picture, model, effort, _lanes(lanes), alpha_quality, exact))
        if sum(len(files.encoder.tiles) for files in group) >= model.lockstep:
            yield from _encode_files(group, step, lanes == "auto")
            group = []
    yield from _encode_files(group, step, lanes == "auto")


def _encode_files(group: Sequence[Files], step: int, divide: bool) -> list[bytes]:
    def coded() -> list[bytes]:
        codes = code_tiles([files.encoder for files in group], step)
        return [files.joined(step, own) for files, own in zip(group, codes)]

    data = coded()
    if divide and any([files.divide(whole) for files, whole in zip(group, data)]):
        data = coded()
    return data


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
        self.filters = effort in FILTERED
        self.metadata = metadata.pack(picture)
        opacity = _opacity(picture, alpha_quality)
        self.alpha = None if opacity is None else list(_code_alpha(opacity))
        shown = None if exact or opacity is None else opacity > 0
        self.encoder = Encoder(picture.pixels, shown, model, effort, lanes, progress)
        self._last: tuple[tuple, bytes] | None = None

    def file(self, step: int, dead_zone: float = 0.0, filtered: bool = True) -> bytes:
        """The file at a quality step; dead_zone, filtered: as in `Encoder.code`.

        The last one is kept: a search mostly ends with it.
        """
        key = step, dead_zone, filtered, self.encoder.lanes
        if self._last is None or self._last[0] != key:
            self._last = key, self._coded(step, dead_zone, filtered)
        return self._last[1]

    def _coded(self, step: int, dead_zone: float, filtered: bool) -> bytes:
        report = self.report
        with timed(report, "analysis"):
            self.encoder.latents(step)
        with timed(report, "latents"):
            codes = self.encoder.code(step, dead_zone, filtered, report is not None)
        if report is not None:
            report["hyper_bits"] = sum(8 * len(code.hyper) for code in codes)
            report["latent_bits"] = sum(8 * len(code.latents) for code in codes)
            report["estimated_bits"] = sum(code.estimated_bits for code in codes)
        return self.joined(step, codes)

    def divide(self, data: bytes) -> bool:
        """Take from here on as many lanes as add less than 1 % to such a file; whether several."""
        self.encoder.lanes = lanes_within(0.01 * len(data) / len(self.encoder.tiles))
        return self.encoder.lanes > 1

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
        if filters := postfilter_chunk.pack([code.post_filter for code in codes]):
            chunks.append(("f", filters))
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


def quality_step(quality: float) -> int:
    """Quality 0..100 -> the nearest of the header's 256 steps."""
    return int(_percent("quality", quality) * (QUALITY_STEPS - 1) / 100 + 0.5)


def _lanes(lanes: int | str) -> int:
    """To begin with; of `auto`, what is left aside."""
    if lanes == "auto":
        return 1
    if not isinstance(lanes, Integral) or lanes not in container.LANES:
        raise InputError(f"lanes {lanes!r} is not one of {container.LANES} or auto")
    return int(lanes)


def _positive(name: str, value: float) -> float:
    if not 0 < (number := _number(value)) < math.inf:
        raise InputError(f"{name} {value!r} is not a positive number")
    return number


def _percent(name: str, value: float) -> float:
    if not 0 <= (number := _number(value)) <= 100:
        raise InputError(f"{name} {value!r} is not a number within 0..100")
    return number


def _number(value: float) -> float:
    """NaN where it is none."""
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan


def _opacity(picture: Picture, quality: float) -> np.ndarray | None:
    """The alpha channel to code; None where all is opaque."""
    quality = _percent("alpha quality", quality)
    if picture.alpha is None or picture.alpha.min() == alpha.OPAQUE:
        return None
    return alpha.coarsen(picture.alpha, quality)


def _code_alpha(opacity: np.ndarray) -> Iterator[bytes]:
    """A stream for each tile; of several tiles, an opaque one has none."""
    places = tiles.regions(*opacity.shape)
    for region in places:
        part = opacity[regions.scaled(region, LATENT_STRIDE)]
        opaque = len(places) > 1 and part.min() == alpha.OPAQUE
        yield b"" if opaque else alpha.encode(part)
