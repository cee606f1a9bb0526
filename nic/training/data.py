"""Training images: decoded once into one memory-mapped file, cropped at random from then on."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from nic import images
from nic.errors import InputError
from nic.files import write_atomic


class CropDataset:
    """Random crops of a folder's images.

    All pixels stand in one uint8 file beside an index, so that several processes share one copy in
    the page cache and no step waits for a JPEG decoder. A GPU takes them all into its memory.
    """

    def __init__(self, folder: Path, cache: Path, crop: int, device: torch.device | str = "cpu"):
        self.crop = crop
        sizes = _cached_sizes(folder, cache)
        pixels = np.memmap(cache / "pixels.u8", np.uint8, mode="r")
        with warnings.catch_warnings(action="ignore"):  # of memory that cannot be written
            self.pixels = torch.from_numpy(pixels).to(device)
        usable = [(w, h, at) for w, h, at in sizes if min(w, h) >= crop]
        if not usable:
            raise InputError(f"{folder}: no image of at least {crop}x{crop} pixels")
        self.images = usable
        # Square root: large images have more to show, but not in proportion to their pixels.
        weights = np.sqrt([w * h for w, h, _ in usable])
        self.probabilities = weights / weights.sum()

    def draw(self, size: int, rng: np.random.Generator) -> Tensor:
        """(size, 3) int64, on the host: where in the file each crop's first pixel is, and how far
        apart its rows and its columns are; crops are flipped and transposed at random."""
        chosen = rng.choice(len(self.images), size, p=self.probabilities)
        return torch.tensor([self._place(*self.images[i], rng) for i in chosen])

    def _place(
        self, width: int, height: int, offset: int, rng: np.random.Generator
    ) -> tuple[int, int, int]:
        top = int(rng.integers(height - self.crop + 1))
        left = int(rng.integers(width - self.crop + 1))
        down, right = 3 * width, 3
        if rng.random() < 0.5:
            left, right = left + self.crop - 1, -right
        start = offset + 3 * (top * width + left)
        return (start, right, down) if rng.random() < 0.25 else (start, down, right)

    def crops(self, places: Tensor) -> Tensor:
        """`draw`n places, on the pixels' device -> (size, 3, crop, crop) float32 in -0.5..0.5,
        channels last."""
        start, down, right = places.T[:, :, None, None, None]
        along = torch.arange(self.crop, device=places.device)
        channel = torch.arange(3, device=places.device)
        at = start + down * along[:, None, None] + right * along[:, None] + channel
        return self.pixels[at].permute(0, 3, 1, 2).float() / 255 - 0.5

    def batch(self, size: int, rng: np.random.Generator) -> Tensor:
        """`size` random crops."""
        return self.crops(self.draw(size, rng).to(self.pixels.device))


def _cached_sizes(folder: Path, cache: Path) -> list[tuple[int, int, int]]:
    """(width, height, offset) of each image in the cache, which is made anew unless it is of these
    very files."""
    paths = images.find(folder)
    files = [[str(p.resolve()), p.stat().st_size, p.stat().st_mtime_ns] for p in paths]
    index, cached = cache / "index.json", cache / "pixels.u8"
    if sizes := _sizes_of_whole(index, cached, files):
        return sizes
    index.unlink(missing_ok=True)
    cache.mkdir(parents=True, exist_ok=True)
    sizes, offset = [], 0
    with open(cached, "wb") as out:
        for path in tqdm(paths, desc="decoding training images", disable=None):
            pixels = images.load_pixels(path)
            if pixels.ndim == 2:
                pixels = np.repeat(pixels[:, :, None], 3, axis=2)
            out.write(pixels.tobytes())
            sizes.append((pixels.shape[1], pixels.shape[0], offset))
            offset += pixels.size
    # Last, so that an interrupted cache is never taken for a whole one.
    write_atomic(index, json.dumps({"files": files, "sizes": sizes}).encode())
    return sizes


def _sizes_of_whole(index: Path, cached: Path, files: list) -> list[tuple[int, int, int]] | None:
    """What the index says, if it is of these files and all their pixels are there."""
    try:
        stored = json.loads(index.read_text())
        whole = sum(3 * w * h for w, h, _ in stored["sizes"]) == cached.stat().st_size
        return stored["sizes"] if whole and stored["files"] == files else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
