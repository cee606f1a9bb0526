"""Makes the golden files, the pictures they decode to, their manifest, and the example of
format_spec.md: `python tests/vectors/make.py`.

Only a new weight file or a new version of the format is a reason to run it.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np

from nic import codec, container, images, models
from nic.picture import Picture
from nic.streams import latents_crc

if __name__ == "__main__":
    import small
else:
    from vectors import small

FOLDER = Path(__file__).parent
SPEC = FOLDER.parents[1] / "format_spec.md"

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


VECTORS = {
    "rgb-48x33-q50": (Picture(picture(48, 33)), 50, 1),
    "rgb-48x33-q0": (Picture(picture(48, 33)), 0, 1),
    "rgb-48x33-q100": (Picture(picture(48, 33)), 100, 1),
    "gray-40x40-q60": (Picture(picture(40, 40, gray=True)), 60, 1),
    "lanes-100x70-q80": (Picture(picture(100, 70)), 80, 4),
    "tall-5x130-q40": (Picture(picture(5, 130)), 40, 2),
    "one-pixel-q50": (Picture(picture(1, 1)), 50, 1),
    "alpha-20x12-q60": (transparent(20, 12), 60, 1),
    "gray-alpha-33x17-q30": (transparent(33, 17, gray=True), 30, 1),
    "metadata-24x16-q50": (documented(24, 16), 50, 1),
    "escapes-19x17-q100": (checkerboard(19, 17), 100, 128),
    "tiles-1040x24-q30": (Picture(picture(1040, 24)), 30, 1),
    "tiles-gray-alpha-20x2060-q10": (transparent(20, 2060, gray=True), 10, 2),
    "tiles-partly-opaque-1030x9-q20": (partly_opaque(1030, 9), 20, 1),
}
"""Name: picture, quality, lanes."""

PAPERS = {f"{name}-48x33-q60": name for name in small.NAMES}
"""Name: one of the papers' models, as `small.py` makes it, which codes `picture(48, 33)`."""


def example() -> str:
    """The spec's example: a file in hexadecimal, a line for each field."""
    data = codec.encode(Picture(picture(5, 3)), 30, effort=EFFORT)
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
    model, manifest = models.load(), {}
    for name, (source, quality, lanes) in VECTORS.items():
        data = codec.encode(source, quality, lanes=lanes, effort=EFFORT)
        manifest[name] = write(FOLDER / name, data, model)
    save_manifest(FOLDER, manifest)
    manifest = {}
    for name, kind in PAPERS.items():
        with tempfile.TemporaryDirectory() as folder:
            model = models.read(small.write(kind, Path(folder)))
        data = codec.encode(Picture(picture(48, 33)), 60, model=model, lanes=2, effort=EFFORT)
        entry = write(FOLDER / "papers" / name, data, model)
        manifest[name] = entry | {"model": model.fingerprint.hex()}
    save_manifest(FOLDER / "papers", manifest)


def write(path: Path, data: bytes, model: models.Model) -> dict:
    """Writes a golden file and its picture, without metadata; returns its line of the manifest."""
    path.with_suffix(".nic").write_bytes(data)
    decoded = codec.decode(data, model=model)
    png = images.to_bytes(Picture(decoded.pixels, decoded.alpha), "PNG")
    path.with_suffix(".png").write_bytes(png)
    v_hat = codec.decode_latents(*container.read(data), model)
    return {"bytes": len(data), "latents_crc": f"{latents_crc(v_hat):08x}"}


def save_manifest(folder: Path, manifest: dict) -> None:
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")


if __name__ == "__main__":
    main()
