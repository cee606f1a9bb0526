"""Image <-> .nic: padding, gains, and the order in which the parts work."""

from __future__ import annotations

import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from nic import container, models, quantizer
from nic.config import HYPER_STRIDE, LATENT_STRIDE, QUALITY_STEPS
from nic.errors import ChecksumError, InputError, ModelMismatch
from nic.models import Model
from nic.prior import GAIN_BITS, LATENT_BITS, LatentCode, Progress
from nic.range_coder import PRECISION
from nic.symbols import VALUE_MAX
from nic.tables import SCALES, gaussian_bits, scale_levels


def encode_pixels(
    pixels: np.ndarray,
    quality: float,
    *,
    model: Model | None = None,
    lanes: int = 1,
    report: dict | None = None,
    progress: Progress | None = None,
) -> bytes:
    """Encode an image to the bytes of a .nic file.

    pixels: (H, W, 3) RGB or (H, W) gray, uint8; quality: 0..100, higher is better; lanes:
    range-coder substreams, a power of two up to 128. Errors: InputError, LimitExceeded.

    A `report` dict receives seconds by stage and the estimated and real numbers of bits;
    `progress` is called with (steps done, steps in all) as the latents are coded.
    """
    model = model or models.load()
    step = quality_step(quality)
    height, width = _checked_size(pixels)
    if lanes not in container.LANES:
        raise InputError(f"lanes {lanes} is not one of {container.LANES}")
    with _timed(report, "analysis"):
        v, z = _analyse(pixels, step, model)
    z_hat = np.clip(quantizer.residual(z, 0.0), -VALUE_MAX, VALUE_MAX)
    with _timed(report, "latents"):
        hyper_stream = model.prior.encode_z(z_hat)
        y = model.prior.encode_y(v, z_hat, step, lanes, progress)
    if report is not None:
        report["hyper_bits"], report["latent_bits"] = 8 * len(hyper_stream), 8 * len(y.stream)
        report["estimated_bits"] = _estimated_bits(z_hat, y, model)
    return container.write(
        fingerprint=model.fingerprint,
        quality_step=step,
        gray=pixels.ndim == 2,
        lanes=lanes,
        width=width,
        height=height,
        latents_crc=latents_crc(y.v_hat),
        chunks=[("H", hyper_stream), ("L", y.stream)],
    )


def decode_pixels(
    data: bytes,
    *,
    model: Model | None = None,
    report: dict | None = None,
    progress: Progress | None = None,
) -> np.ndarray:
    """Decode a .nic file to (H, W, 3) or (H, W) uint8; options as in `encode_pixels`.

    Errors: FormatError, ChecksumError, UnsupportedVersion, ModelMismatch, LimitExceeded.
    """
    header, chunks = container.read(data)
    model = model or models.load()
    v_hat = decode_latents(header, chunks, model, report, progress)
    with _timed(report, "synthesis"):
        return _synthesise(v_hat, header, model)


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
    try:
        value = float(quality)
    except (TypeError, ValueError):
        value = -1.0
    if not 0 <= value <= 100:
        raise InputError(f"quality {quality!r} is not a number within 0..100")
    return int(value * (QUALITY_STEPS - 1) / 100 + 0.5)


def _checked_size(pixels: np.ndarray) -> tuple[int, int]:
    shape = pixels.shape
    if pixels.dtype != np.uint8 or len(shape) not in (2, 3) or shape[2:] not in ((), (3,)):
        raise InputError(f"pixels must be uint8 (H, W, 3) or (H, W), not {pixels.dtype} {shape}")
    height, width = shape[:2]
    if not (height and width):
        raise InputError("the image has no pixels")
    container.check_size(width, height)
    return height, width


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
