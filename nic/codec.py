"""Image <-> .nic: padding, gains, and the order in which the parts work."""

from __future__ import annotations

import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from nic import alpha, container, metadata, models, quantizer
from nic.config import HYPER_STRIDE, LATENT_STRIDE, QUALITY_STEPS
from nic.errors import ChecksumError, InputError, ModelMismatch
from nic.models import Model
from nic.picture import Picture
from nic.prior import GAIN_BITS, LATENT_BITS, LatentCode, Progress
from nic.range_coder import PRECISION
from nic.symbols import VALUE_MAX
from nic.tables import SCALES, gaussian_bits, scale_levels


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
        pixels, alpha_stream = _code_alpha(picture, alpha_quality, exact)
        v, z = _analyse(pixels, step, model)
    z_hat = np.clip(quantizer.residual(z, 0.0), -VALUE_MAX, VALUE_MAX)
    with _timed(report, "latents"):
        hyper_stream = model.prior.encode_z(z_hat)
        y = model.prior.encode_y(v, z_hat, step, lanes, progress)
    if report is not None:
        report["hyper_bits"], report["latent_bits"] = 8 * len(hyper_stream), 8 * len(y.stream)
        report["estimated_bits"] = _estimated_bits(z_hat, y, model)
    streams = [("H", hyper_stream), ("L", y.stream)]
    if alpha_stream is not None:
        streams.append(("A", alpha_stream))
    return container.write(
        fingerprint=model.fingerprint,
        quality_step=step,
        gray=picture.gray,
        lanes=lanes,
        width=picture.width,
        height=picture.height,
        latents_crc=latents_crc(y.v_hat),
        chunks=[*extras, *streams],
    )


def decode(
    data: bytes,
    *,
    model: Model | None = None,
    report: dict | None = None,
    progress: Progress | None = None,
) -> Picture:
    """Decode a .nic file; options as in `encode`.

    Errors: FormatError, ChecksumError, UnsupportedVersion, ModelMismatch, LimitExceeded.
    """
    header, chunks = container.read(data)
    model = model or models.load()
    v_hat = decode_latents(header, chunks, model, report, progress)
    with _timed(report, "synthesis"):
        pixels = _synthesise(v_hat, header, model)
    opacity = alpha.decode(chunks["A"], *pixels.shape[:2]) if header.alpha else None
    return Picture(pixels, opacity, **metadata.unpack(chunks))


def decode_latents(
    header: container.Header,
    chunks: dict[str, bytes],
    model: Model,
    report: dict | None = None,
    progress: Progress | None = None,
) -> np.ndarray:
    """The exact part of decoding: (h, w, M) int32 latents in LATENT_BITS, checked."""
    if header.fingerprint != model.fingerprint:
        raise ModelMismatch(expected=header.fingerprint.hex(), found=model.fingerprint.hex())
    h, w = -(-header.height // LATENT_STRIDE), -(-header.width // LATENT_STRIDE)
    with _timed(report, "latents"):
        z_hat = model.prior.decode_z(chunks["H"], h, w)
        v_hat = model.prior.decode_y(
            chunks["L"], z_hat, header.quality_step, h, w, header.lanes, progress
        )
    if latents_crc(v_hat) != header.latents_crc:
        raise ChecksumError("decoded latents do not match the file's checksum")
    return v_hat


def latents_crc(v_hat: np.ndarray) -> int:
    """CRC-32 of the latents as little-endian int32 in the order row, column, channel."""
    return zlib.crc32(np.ascontiguousarray(v_hat, "<i4"))


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


def _code_alpha(picture: Picture, quality: float, exact: bool) -> tuple[np.ndarray, bytes | None]:
    """The pixels to code, and the alpha channel's stream, if anything is not opaque."""
    quality, opacity = _percent("alpha quality", quality), picture.alpha
    if opacity is None or opacity.min() == alpha.OPAQUE:
        return picture.pixels, None
    opacity = alpha.coarsen(opacity, quality)
    pixels = picture.pixels if exact else alpha.fill(picture.pixels, opacity > 0)
    return pixels, alpha.encode(opacity)


def _analyse(pixels: np.ndarray, step: int, model: Model) -> tuple[np.ndarray, np.ndarray]:
    """Pixels -> v (h, w, M) float32, latents in quantiser steps, and z (hz, wz, channels)."""
    x = pixels if pixels.ndim == 3 else np.repeat(pixels[:, :, None], 3, axis=2)
    x = _pad(x, LATENT_STRIDE).astype(np.float32) / 255 - np.float32(0.5)
    s = model.config.s(step)
    u = model.networks.analyse(x, s)
    z = model.networks.hyper_analyse(_pad(u, HYPER_STRIDE), s)
    return u * (model.prior.gains[step] * 2.0**-GAIN_BITS).astype(np.float32), z


def _synthesise(v_hat: np.ndarray, header: container.Header, model: Model) -> np.ndarray:
    """Decoded latents -> pixels."""
    step = header.quality_step
    gain = model.prior.gains[step] * 2.0 ** (LATENT_BITS - GAIN_BITS)
    u_hat = (v_hat / gain).astype(np.float32)
    x_hat = model.networks.synthesise(u_hat, model.config.s(step))
    x_hat = (x_hat[: header.height, : header.width] + np.float32(0.5)) * 255
    if header.gray:
        x_hat = x_hat.mean(axis=2)
    return np.clip(np.rint(x_hat), 0, 255).astype(np.uint8)


def _estimated_bits(z_hat: np.ndarray, y: LatentCode, model: Model) -> float:
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
