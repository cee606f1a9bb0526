"""The papers' transforms: strided 5x5 convolutions and GDN (Balle et al. 2018)."""

from __future__ import annotations

import numpy as np

from nic.config import GDN_FLOOR, Y_SCALE, Z_START_SCALE
from nic.grids import shuffle
from nic.inference.networks import Networks, leaky_relu
from nic.threads import workers


class GdnNetworks(Networks):
    """`nic.transforms.gdn` in NumPy."""

    window = 32  # the first of g_a's features take 41 MB
    reach = 2  # 30 pixels: 2 (1 + 2 + 4 + 8) in g_a, 2 + 4 + 8 + 16 in g_s; 2 of the post-filter

    def analyse_window(self, x: np.ndarray, s: float) -> np.ndarray:
        for k in range(3):
            x = self.conv(f"g_a.conv.{k}", x, stride=2)
            x /= self._norm(f"g_a.gdn.{k}", x)
        return self.conv("g_a.conv.3", x, stride=2) * (np.float32(Y_SCALE) / self.std)

    def synthesise_window(self, u_hat: np.ndarray, s: float) -> np.ndarray:
        x = u_hat * (self.std / np.float32(Y_SCALE))
        for k in range(3):
            x = shuffle(self.conv(f"g_s.conv.{k}", x), 2)
            x *= self._norm(f"g_s.gdn.{k}", x)
        return shuffle(self.conv("g_s.conv.3", x), 2)

    def hyper_analyse(self, u: np.ndarray, s: float) -> np.ndarray:
        h = u * self.gain("h_a.gain", s)
        h = self.conv("h_a.conv.0", h if self.config.means else np.abs(h))
        h = self.conv("h_a.conv.1", leaky_relu(h), stride=2)
        return self.conv("h_a.conv.2", leaky_relu(h), stride=2) * np.float32(Z_START_SCALE)

    def _norm(self, name: str, x: np.ndarray) -> np.ndarray:
        """sqrt(beta + gamma x^2), of which the tensors hold the square roots."""
        gamma, beta = self.tensors[f"{name}.gamma"], self.tensors[f"{name}.beta"]
        norm = workers.product(np.square(x), np.square(gamma).T)
        norm += np.square(beta) + np.float32(GDN_FLOOR)
        return np.sqrt(norm, out=norm)
