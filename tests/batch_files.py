"""Small images for the tests of `nic batch`, and what stands in its folders."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from nic.batch import manifest
from nic.batch.manifest import Row


def save(path: Path, seed: int = 0, size: int = 24) -> None:
    """A small image that differs by seed, and is smaller as .nic than as PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    y, x = np.mgrid[:size, :size]
    noise = np.random.default_rng(seed).normal(0, 6, (size, size, 3))
    smooth = np.stack([x * 4 + seed, y * 4, x + y + 40], axis=-1)
    Image.fromarray(np.clip(smooth + noise, 0, 255).astype(np.uint8)).save(path, "PNG")


def rows(folder: Path) -> dict[str, Row]:
    """The manifest of a folder of outputs."""
    return manifest.read(str(folder / manifest.NAME))


def tree(folder: Path) -> set[str]:
    """Files in a folder but for the manifest."""
    paths = {str(p.relative_to(folder)) for p in folder.rglob("*") if not p.is_dir()}
    return paths - {manifest.NAME}
