"""Codecs to measure: nic itself and what Pillow can write, all with one face.

The qualities of a rival span about 0.1 to 2.5 bits per pixel on photographs, as far as it reaches.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, features

from nic.effort import DEFAULT_EFFORT, EFFORTS, REFINED
from nic.errors import InputError

try:
    import pillow_jxl  # which teaches Pillow JPEG XL, in every process that measures
except ImportError:
    pillow_jxl = None


@dataclass(frozen=True)
class Codec:
    """One way to turn an 8-bit L or RGB image into bytes and back."""

    name: str
    settings: str
    """The options it runs with, for the reader of the results."""
    qualities: tuple[float, ...]
    encode: Callable[[Image.Image, float], bytes]
    decode: Callable[[bytes], np.ndarray]
    """bytes -> uint8 (H, W) or (H, W, 3)."""
    version: Callable[[], str | None]
    """What makes the bytes: library version or nic's fingerprint; None where not installed."""


def find(name: str, model: Path | None = None, device: str = "cpu") -> Codec:
    """Codec by name, nic with a weight file, on a device; InputError for a name nobody knows."""
    if name in NIC_EFFORTS:
        return nic_codec(model, NIC_EFFORTS[name], device)
    if name not in RIVALS:
        raise InputError(f"unknown codec {name!r}; known are {', '.join(RIVALS)}")
    return RIVALS[name]


def installed(
    names: Iterable[str], model: Path | None, say: Callable[[str], None], device: str = "cpu"
) -> list[Codec]:
    """Codecs by name, without those whose library is absent, which `say` tells of."""
    codecs = [find(name, model, device) for name in dict.fromkeys(names)]
    for codec in codecs:
        if codec.version() is None:
            say(f"{codec.name} is left out: this Pillow cannot write it")
    return [codec for codec in codecs if codec.version() is not None]


def nic_name(effort: int) -> str:
    """What nic is called at an effort: plainly `nic` at the default one."""
    return "nic" if effort == DEFAULT_EFFORT else f"nic-e{effort}"


NIC_EFFORTS = {nic_name(effort): effort for effort in EFFORTS}
"""Efforts by the names of nic."""


def nic_codec(
    model: Path | None = None, effort: int = DEFAULT_EFFORT, device: str = "cpu"
) -> Codec:
    """nic with a weight file, by default the shipped one, on a device; loaded once per process."""
    from nic import codec, models
    from nic.picture import Picture

    load = partial(models.load, model, device)

    def encode(image: Image.Image, quality: float) -> bytes:
        return codec.encode(Picture(np.asarray(image)), quality, effort=effort, model=load())

    return Codec(
        name=nic_name(effort),
        settings=f"effort {effort}, one model for all qualities",
        # Refinement takes a minute a point: fewer of them.
        qualities=(10, 30, 50, 70, 90) if effort in REFINED else tuple(range(0, 101, 10)),
        encode=encode,
        decode=lambda data: codec.decode(data, model=load()).pixels,
        version=lambda: load().fingerprint.hex(),
    )


def _pillow_codec(
    name: str,
    format: str,
    qualities: tuple[float, ...],
    version: Callable[[], str | None],
    **options: object,
) -> Codec:
    """A codec behind Image.save; `options` are what is passed on to it."""

    def encode(image: Image.Image, quality: float) -> bytes:
        buffer = BytesIO()
        # Gray has no chroma to subsample; asking for it makes libavif store three planes.
        fitting = {k: v for k, v in options.items() if k != "subsampling" or image.mode == "RGB"}
        image.save(buffer, format, quality=quality, **fitting)
        return buffer.getvalue()

    def decode(data: bytes) -> np.ndarray:
        with Image.open(BytesIO(data)) as image:
            return np.asarray(image)

    settings = ", ".join(f"{key}={value}" for key, value in options.items())
    return Codec(name, f"Pillow {format}, {settings}", qualities, encode, decode, version)


def _jpeg_version() -> str | None:
    return features.version("libjpeg_turbo") or features.version("jpg")


def _jxl_version() -> str | None:
    return importlib.metadata.version("pillow-jxl-plugin") if pillow_jxl else None


_webp_version = partial(features.version, "webp")
_avif_version = partial(features.version, "avif")

_JPEG_QUALITIES = (5, 10, 15, 20, 30, 40, 50, 60, 70, 80, 90, 95)
_WEBP_QUALITIES = (1, 10, 25, 40, 55, 70, 80, 88, 93, 97)
_AVIF_QUALITIES = (6, 12, 20, 28, 36, 44, 52, 60, 70, 80, 90)
_JXL_QUALITIES = (5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 94)

# Tuned for PSNR and at full chroma resolution: AVIF at its strongest on this metric.
_AVIF_BEST = {"subsampling": "4:4:4", "speed": 6, "advanced": {"tune": "psnr"}, "max_threads": 1}
# What a user gets without asking: 4:2:0, tuned for the eye.
_AVIF_DEFAULT = {"speed": 6, "max_threads": 1}

_RIVALS = [
    _pillow_codec(
        "jpeg", "JPEG", _JPEG_QUALITIES, _jpeg_version, subsampling="4:2:0", optimize=True
    ),
    _pillow_codec(
        "jpeg444", "JPEG", _JPEG_QUALITIES, _jpeg_version, subsampling="4:4:4", optimize=True
    ),
    _pillow_codec("webp", "WEBP", _WEBP_QUALITIES, _webp_version, method=6),
    _pillow_codec("avif", "AVIF", _AVIF_QUALITIES, _avif_version, **_AVIF_BEST),
    _pillow_codec("avif-default", "AVIF", _AVIF_QUALITIES, _avif_version, **_AVIF_DEFAULT),
    _pillow_codec("jxl", "JXL", _JXL_QUALITIES, _jxl_version, effort=7, num_threads=1),
]

RIVALS = {codec.name: codec for codec in _RIVALS}
"""Codecs other than nic by name."""
