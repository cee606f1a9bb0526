"""nic-1's transforms: a block transform, a residual network on 8x8 blocks beside it, and one on 4x4
blocks that refines what these see and give."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from nic.config import BASE_STEP, LATENT_STRIDE, Z_START_SCALE
from nic.grids import unshuffle
from nic.inference.networks import Networks, leaky_relu
from nic.threads import workers


class BlockNetworks(Networks):
    """`nic.transforms.block` in NumPy."""

    window = 128

    @property
    def reach(self) -> int:
        # A block reaches one position of its grid, of 16, 8 or 4 pixels, and so does the layer from
        # 8 to 16, which g_s lacks: there it is the post-filter that sees a little further.
        config = self.config
        pixels = 8 * (config.fine_blocks + 1) + 4 * config.detail_blocks
        return config.coarse_blocks + -(-pixels // LATENT_STRIDE)

    def analyse_window(self, x: np.ndarray, s: float) -> np.ndarray:
        h = self.pointwise("g_a.head", unshuffle(x, 8))
        if self.config.detail_blocks:
            d = self.pointwise("g_a.detail_head", unshuffle(x, 4))
            d *= self.gain("g_a.detail_gain", s)
            d = self._blocks("g_a.detail", self.config.detail_blocks, d)
            h = self.pointwise("g_a.detail_down", unshuffle(d, 2), onto=h)
        h *= self.gain("g_a.fine_gain", s)
        h = self._blocks("g_a.fine", self.config.fine_blocks, h)
        h = self.conv("g_a.down", h, stride=2)
        h *= self.gain("g_a.coarse_gain", s)
        h = self._blocks("g_a.coarse", self.config.coarse_blocks, h)
        y = workers.product(unshuffle(x, LATENT_STRIDE), self._block_matrix)
        y += self.tensors["g_a.linear.bias"]
        return self.pointwise("g_a.tail", h, onto=y) / self.std

    def synthesise_window(self, u_hat: np.ndarray, s: float) -> np.ndarray:
        h = self.pointwise("g_s.head", u_hat)
        h *= self.gain("g_s.coarse_gain", s)
        h = self._blocks("g_s.coarse", self.config.coarse_blocks, h)
        h = self.pointwise("g_s.up", h, shuffle=2)
        h *= self.gain("g_s.fine_gain", s)
        h = self._blocks("g_s.fine", self.config.fine_blocks, h)
        x = self.pointwise("g_s.linear", u_hat * self.std, shuffle=LATENT_STRIDE)
        x *= BASE_STEP
        x = self.pointwise("g_s.tail", h, shuffle=8, onto=x)
        if self.config.detail_blocks:
            d = self.pointwise("g_s.detail_head", unshuffle(x, 4))
            d = self.pointwise("g_s.detail_up", h, shuffle=2, onto=d)
            d *= self.gain("g_s.detail_gain", s)
            d = self._blocks("g_s.detail", self.config.detail_blocks, d)
            x = self.pointwise("g_s.detail_tail", d, shuffle=4, onto=x)
        x *= BASE_STEP
        return x

    def hyper_analyse(self, u: np.ndarray, s: float) -> np.ndarray:
        u = u * self.gain("h_a.gain", s)
        h = self.pointwise("h_a.head", np.concatenate([u, np.abs(u)], axis=2))
        h = self.conv("h_a.down1", leaky_relu(self._block("h_a.block", h)), stride=2)
        return self.conv("h_a.down2", leaky_relu(h), stride=2) * np.float32(Z_START_SCALE)

    @cached_property
    def _block_matrix(self) -> np.ndarray:
        """The 16x16 block transform, for `unshuffle`d blocks: (3 * 256, M)."""
        weight = self.tensors["g_a.linear.weight"]
        return weight.reshape(len(weight), -1).T

    def _blocks(self, name: str, count: int, x: np.ndarray) -> np.ndarray:
        for k in range(count):
            x = self._block(f"{name}.{k}", x)
        return x

    def _block(self, name: str, x: np.ndarray) -> np.ndarray:
        """In place."""
        h = self.pointwise(f"{name}.layers.0", x, rectified=True)
        h = self.conv(f"{name}.layers.2", h, rectified=True)
        return self.pointwise(f"{name}.layers.4", h, onto=x)
