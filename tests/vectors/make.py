"""Makes the golden files, the pictures they decode to, their manifest, and the example of
format_spec.md: `PYTHONPATH=tests python tests/vectors/make.py`.

Only a new version of the format is a reason to run it: the weights behind them, one file for each
named model, are frozen. They have few channels: nic-1's were trained for 1,500 steps,
nic-1-detail's are the same with random networks on 4x4 blocks, those of the papers' models are
random integers.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import crafted
import numpy as np

from nic import codec, container, images, models, postfilter_chunk
from nic.picture import Picture
from nic.postfilter import WEIGHT_COUNTS, Component, PostFilter
from nic.streams import latents_crc

FOLDER = Path(__file__).parent
SPEC = FOLDER.parents[1] / "format_spec.md"
WEIGHTS = FOLDER / "weights"
NIC_1 = WEIGHTS / "nic-1.safetensors"

EFFORT = 0
"""What the networks give is coded as it is, however much better at it the encoder may become."""


def picture(width: int, height: int, gray: bool = False) -> np.ndarray:
    """A picture with ramps, an edge, a disc and texture, in integer arithmetic alone."""
    y, x = np.mgrid[:height, :width]
    planes = [3 * x + y, 2 * y + 40, 255 - 2 * x]
    if gray:
        planes = planes[:1]
    pixels = np.stack(planes, axis=-1) % 256
    pixels[(x - width // 2) ** 2 + (y - height // 2) ** 2 < (min(width, height) // 3) ** 2] += 90
    pixels += ((x * 7919 + y * 104729) % 13)[:, :, None] - 6
    pixels = np.clip(pixels, 0, 255).astype(np.uint8)
    return pixels[:, :, 0] if gray else pixels


def transparent(width: int, height: int, gray: bool = False) -> Picture:
    """The same with a slope from transparent to opaque, and a hole."""
    y, x = np.mgrid[:height, :width]
    alpha = np.clip(20 * (x - y + 3), 0, 255)
    alpha[height // 2 :, width // 2 :] = 0
    return Picture(picture(width, height, gray), alpha.astype(np.uint8))


def documented(width: int, height: int) -> Picture:
    """The same with metadata of all kinds, which need not make sense."""
    exif = b"Exif\0\0" + bytes(range(256))
    return Picture(picture(width, height), None, b"profile" * 9, exif, b"<x:xmpmeta/>")


def partly_opaque(width: int, height: int) -> Picture:
    """The same, opaque right of the first tile."""
    y, x = np.mgrid[:height, :width]
    alpha = np.where(x < container.TILE_SIDE, (x + 5 * y) % 256, 255)
    return Picture(picture(width, height), alpha.astype(np.uint8))


def checkerboard(width: int, height: int) -> Picture:
    """Saturated pixels, whose latents lie outside of their tables."""
    y, x = np.mgrid[:height, :width]
    light = ((x + y) % 2 * 255).astype(np.uint8)
    return Picture(np.stack([light, 255 - light, light], axis=-1))


class Vector(NamedTuple):
    """What a golden file is of."""

    picture: Picture
    quality: float
    lanes: int = 1
    weights: Path = NIC_1
    filters: Sequence[PostFilter] = ()


def component(number: int, code: int) -> Component:
    """How a component might be filtered, no two terms alike."""
    weights = [(37 * k + 11) % 41 - 20 for k in range(WEIGHT_COUNTS[number])]
    return Component(code, np.array(weights, np.int8))


COLOUR = [component(0, 110), component(1, 90), component(2, 75)]


VECTORS = {
    "rgb-48x33-q50": Vector(Picture(picture(48, 33)), 50),
    "rgb-48x33-q0": Vector(Picture(picture(48, 33)), 0),
    "rgb-48x33-q100": Vector(Picture(picture(48, 33)), 100),
    "gray-40x40-q60": Vector(Picture(picture(40, 40, gray=True)), 60),
    "lanes-100x70-q80": Vector(Picture(picture(100, 70)), 80, lanes=4),
    "tall-5x130-q40": Vector(Picture(picture(5, 130)), 40, lanes=2),
    "one-pixel-q50": Vector(Picture(picture(1, 1)), 50),
    "alpha-20x12-q60": Vector(transparent(20, 12), 60),
    "gray-alpha-33x17-q30": Vector(transparent(33, 17, gray=True), 30),
    "metadata-24x16-q50": Vector(documented(24, 16), 50),
    "escapes-19x17-q100": Vector(checkerboard(19, 17), 100, lanes=128),
    "filtered-48x33-q60": Vector(Picture(picture(48, 33)), 60, filters=[COLOUR]),
    "gray-filtered-3x40-q40": Vector(
        Picture(picture(3, 40, gray=True)), 40, filters=[[component(0, 120)]]
    ),
    "tiles-filtered-1040x24-q30": Vector(
        Picture(picture(1040, 24)), 30, filters=[[None, component(1, 100), None], COLOUR]
    ),
    "tiles-1040x24-q30": Vector(Picture(picture(1040, 24)), 30),
    "tiles-gray-alpha-20x2060-q10": Vector(transparent(20, 2060, gray=True), 10, lanes=2),
    "tiles-partly-opaque-1030x9-q20": Vector(partly_opaque(1030, 9), 20),
    **{
        f"{path.stem}-48x33-q60": Vector(Picture(picture(48, 33)), 60, lanes=2, weights=path)
        for path in sorted(WEIGHTS.iterdir())
    },
}


def example() -> str:
    """The spec's example: a file in hexadecimal, a line for each field."""
    data = codec.encode(Picture(picture(5, 3)), 30, model=models.load(NIC_1), effort=EFFORT)
    header, chunks = container.read(data)
    names = ["magic", "version 1.0", "fingerprint", "quality_step", "flags", "width", "height"]
    names += ["latents_crc", "chunk H, bytes", "chunk L, bytes, the last", "header_crc"]
    sizes = [4, 1, 8, 1, 1, 1, 1, 4, 2, 2, 4]
    names += ["data of H", "data of L", "data CRC"]
    sizes += [*map(len, chunks.values()), 4]
    assert sum(sizes) == len(data) and header.size == sum(sizes[:11])
    lines, at = [], 0
    for name, size in zip(names, sizes):
        for row in range(at, at + size, 16):
            part = data[row : min(row + 16, at + size)].hex(" ").upper()
            lines.append(f"    {part:<48}{name}".rstrip())
            name = ""
        at += size
    return "\n".join(lines)


def main() -> None:
    text = SPEC.read_text()
    start = text.index("\n\n    89 4E 49 43 ", text.index("## Example file")) + 2
    SPEC.write_text(text[:start] + example() + text[text.index("\n\n", start) :])
    manifest = {}
    for name, (source, quality, lanes, weights, filters) in VECTORS.items():
        model = models.load(weights)
        data = codec.encode(source, quality, model=model, lanes=lanes, effort=EFFORT)
        if filters:
            header, chunks = container.read(data)
            data = crafted.rewritten(header, chunks | {"f": postfilter_chunk.pack(filters)})
        manifest[name] = write(FOLDER / name, data, model)
    (FOLDER / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")


def write(path: Path, data: bytes, model: models.Model) -> dict:
    """Writes a golden file and its picture, without metadata; returns its entry in the manifest."""
    path.with_suffix(".nic").write_bytes(data)
    decoded = codec.decode(data, model=model)
    png = images.to_bytes(Picture(decoded.pixels, decoded.alpha), "PNG")
    path.with_suffix(".png").write_bytes(png)
    v_hat = codec.decode_latents(*container.read(data), model)
    crc = f"{latents_crc(v_hat):08x}"
    return {"bytes": len(data), "latents_crc": crc, "model": model.fingerprint.hex()}


if __name__ == "__main__":
    main()
