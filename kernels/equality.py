"""Whether CPU and GPU give and read the same files: latents to the bit, pixels to a grey level."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from nic import codec, images
from nic.errors import NicError
from nic.models import Model
from nic.picture import Picture

QUALITIES = (20, 50, 80)


class Equality(NamedTuple):
    """What became of the files of a folder."""

    files: int
    """Each made on either and decoded on both."""
    failed: list[str]
    """Those whose latents differ, and how."""
    grey_levels: int
    """The largest difference of a pixel."""


def compare(paths: Sequence[Path], host: Model, device: Model) -> Equality:
    """Code images at three qualities on either side, and decode each file on both."""
    files, failed, largest = 0, [], 0
    for path in paths:
        picture = Picture(images.load_pixels(path))
        for quality in QUALITIES:
            for name, maker in (("CPU", host), ("GPU", device)):
                data = codec.encode(picture, quality, model=maker, lanes="auto")
                files += 1
                try:
                    largest = max(largest, _difference(data, host, device))
                except NicError as error:
                    failed.append(f"{path.name} at {quality}, made on the {name}: {error}")
    return Equality(files, failed, largest)


def _difference(data: bytes, host: Model, device: Model) -> int:
    """The largest difference of a pixel; NicError where latents are not those of the encoder, which
    decoding finds by their checksum."""
    pixels = [codec.decode(data, model=model).pixels.astype(int) for model in (host, device)]
    return int(np.abs(pixels[0] - pixels[1]).max())
