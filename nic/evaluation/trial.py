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
    """A file, its decoded pixels, uint8 (H, W) or (H, W, 3), its PSNR in dB and wall seconds."""

    codec: str
    quality: float
    data: bytes
    pixels: np.ndarray
    psnr: float
    encode_s: float
    decode_s: float

    @property
    def bpp(self) -> float:
        return 8 * len(self.data) / (self.pixels.shape[0] * self.pixels.shape[1])


def attempt(codec: Codec, image: Image.Image, quality: float) -> Trial:
    """Encode an L or RGB image and decode it again."""
    start = time.perf_counter()
    data = codec.encode(image, quality)
    encoded = time.perf_counter()
    pixels = codec.decode(data)
    decoded = time.perf_counter()
    fidelity = psnr(*same_channels(np.asarray(image), pixels))
    return Trial(codec.name, quality, data, pixels, fidelity, encoded - start, decoded - encoded)
