"""8-bit pixels <-> the samples that the networks take and give."""

from __future__ import annotations

import numpy as np

from nic.config import LATENT_STRIDE


def samples(pixels: np.ndarray) -> np.ndarray:
    """Pixels, uint8 (H, W, 3) or (H, W), as g_a wants them: (H, W, 3) float32, -0.5..0.5, the last
    row and column repeated up to whole latents."""
    x = pad(np.atleast_3d(pixels), LATENT_STRIDE)
    x = x.astype(np.float32) / 255 - np.float32(0.5)
    return x if x.shape[2] == 3 else np.repeat(x, 3, axis=2)


def grey_levels(x_hat: np.ndarray) -> np.ndarray:
    """Samples as uint8, of the same shape."""
    return np.clip(np.rint((x_hat + np.float32(0.5)) * 255), 0, 255).astype(np.uint8)


def pad(grid: np.ndarray, multiple: int) -> np.ndarray:
    """(H, W, C) -> rows and columns repeated at the end up to a multiple."""
    h, w, _ = grid.shape
    return np.pad(grid, ((0, -h % multiple), (0, -w % multiple), (0, 0)), mode="edge")
