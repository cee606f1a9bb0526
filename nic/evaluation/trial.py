"""One file made by one codec: what it decodes to, how good that is, and what it took."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
from PIL import Image

from nic.evaluation.rivals import Codec
from nic.fidelity import psnr, same_channels


@dataclass(frozen=True)
class Trial:
    """A file, its decoded pixels, uint8 (H, W) or (H, W, 3), its PSNR in dB and what it took.

    Seconds are given as wall time and as CPU time of this process; the latter holds on a busy
    machine, the former includes waiting.
    """

    codec: str
    quality: float
    data: bytes
    pixels: np.ndarray
    psnr: float
    encode_s: float
    encode_cpu_s: float
    decode_s: float
    decode_cpu_s: float

    @property
    def bpp(self) -> float:
        return 8 * len(self.data) / (self.pixels.shape[0] * self.pixels.shape[1])


def attempt(codec: Codec, image: Image.Image, quality: float) -> Trial:
    """Encode an L or RGB image and decode it again."""
    data, *encoding = _timed(codec.encode, image, quality)
    pixels, *decoding = _timed(codec.decode, data)
    fidelity = psnr(*same_channels(np.asarray(image), pixels))
    return Trial(codec.name, quality, data, pixels, fidelity, *encoding, *decoding)


def _timed(function, *args):
    """Result, wall seconds, CPU seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = function(*args)
    return result, time.perf_counter() - wall, time.process_time() - cpu
