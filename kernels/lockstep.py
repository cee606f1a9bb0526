"""Which positions of which grids are decoded together.

The positions of all grids with equal t = j + 3 i form step t (see `nic.prior`). They are listed
once, by (t, grid, i), so that a kernel finds a step's work in one slice and knows nothing of grids.

u_hat of all grids stands in one array of rows of M channels: each grid has two rows of zeros above
it and two columns of zeros on either side, where windows reach over its border.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from nic.wavefront import step_count

CORNER, WIDTH, LATENT, QUALITY = range(4)
"""Rows of `Lockstep.cells`."""


@dataclass(frozen=True)
class Lockstep:
    """The steps of several grids of latents."""

    sizes: Sequence[tuple[int, int]]
    """(h, w) of each grid."""
    cells: Tensor
    """(4, positions) int32: row of u_hat of the window's top left corner; rows of u_hat from one
    row of the grid to the next; row of sums and v_hat; quality step."""
    starts: np.ndarray
    """(steps * grids + 1,) int32: where each step's positions of each grid begin in `cells`."""
    padded: int
    """Rows of u_hat."""
    owners: Tensor
    """(positions,) int64: the grid of each column of `cells`."""

    @staticmethod
    def of(
        sizes: Sequence[tuple[int, int]], qualities: Sequence[int], device: torch.device
    ) -> Lockstep:
        """For grids of (h, w) latents at their images' quality steps."""
        t, grid, corner, width, latent, quality = [], [], [], [], [], []
        padded = positions = 0
        for g, ((h, w), q) in enumerate(zip(sizes, qualities, strict=True)):
            i, j = np.mgrid[:h, :w].reshape(2, -1)
            t.append(j + 3 * i)
            grid.append(np.full(h * w, g))
            corner.append(padded + i * (w + 4) + j)
            width.append(np.full(h * w, w + 4))
            latent.append(positions + np.arange(h * w))
            quality.append(np.full(h * w, q))
            padded += (h + 2) * (w + 4)
            positions += h * w
        key = np.concatenate(t) * len(sizes) + np.concatenate(grid)
        order = np.argsort(key, kind="stable")
        steps = max(step_count(h, w) for h, w in sizes)
        starts = np.searchsorted(key[order], np.arange(steps * len(sizes) + 1)).astype(np.int32)
        columns = [np.concatenate(c)[order] for c in (corner, width, latent, quality)]
        cells = torch.from_numpy(np.stack(columns).astype(np.int32)).to(device)
        owners = torch.from_numpy(np.concatenate(grid)[order]).to(device)
        return Lockstep(sizes, cells, starts, padded, owners)

    def set_qualities(self, qualities: Sequence[int]) -> None:
        """Give the grids other quality steps, in place."""
        steps = torch.tensor(qualities, dtype=torch.int32, device=self.cells.device)
        self.cells[QUALITY].copy_(steps[self.owners])

    def grids(self, v_hat: Tensor) -> list[np.ndarray]:
        """Rows of v_hat, (positions, M), as each grid's (h, w, M) on the host."""
        parts = v_hat.cpu().split([h * w for h, w in self.sizes])
        return [part.reshape(h, w, -1).numpy() for part, (h, w) in zip(parts, self.sizes)]

    @property
    def count(self) -> int:
        """Number of steps."""
        return (len(self.starts) - 1) // len(self.sizes)

    def steps(self) -> Iterator[tuple[int, Tensor]]:
        """(step, its cells (4, n)) of all steps that have positions."""
        bounds = self.starts[:: len(self.sizes)].tolist()
        for step, (a, b) in enumerate(zip(bounds, bounds[1:])):
            if a < b:
                yield step, self.cells[:, a:b]

    def split(self, step: int) -> list[slice]:
        """Of each grid in turn, its positions among the cells of one step."""
        bounds = self.starts[step * len(self.sizes) :][: len(self.sizes) + 1]
        return [slice(a, b) for a, b in zip(bounds - bounds[0], bounds[1:] - bounds[0])]
