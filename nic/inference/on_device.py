"""g_a, g_s and h_a in PyTorch on a device, for NumPy arrays as in `nic.inference.networks`."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from nic.config import LATENT_STRIDE, ModelConfig
from nic.device import memory_errors
from nic.inference import make_networks
from nic.inference.networks import Networks
from nic.postfilter import PostFilter, filtered
from nic.regions import scaled, windows
from nic.transforms import KINDS, load, to_array, to_grid


class DeviceNetworks(Networks):
    """The modules of `nic.transforms` with a weight file's tensors, in float32 without TF32."""

    def __init__(self, config: ModelConfig, tensors: dict[str, np.ndarray], device: torch.device):
        super().__init__(config, tensors)
        twin = make_networks(config, tensors)
        self.window, self.reach, self.device = twin.window, twin.reach, device
        kind = KINDS[config.transforms]
        self.g_a = load(kind.Analysis(config), "g_a", tensors).to(device)
        self.g_s = load(kind.Synthesis(config), "g_s", tensors).to(device)
        self.h_a = load(kind.HyperAnalysis(config), "h_a", tensors).to(device)
        self.scales = torch.from_numpy(self.std).to(self.device).view(1, -1, 1, 1)

    def analyse_window(self, x: np.ndarray, s: float) -> np.ndarray:
        with _exact():
            return to_array(self.g_a(self._grid(x), self._quality(s)) / self.scales)

    def synthesise_window(self, u_hat: np.ndarray, s: float) -> np.ndarray:
        with _exact():
            return to_array(self._synthesised(u_hat, s))

    def render(
        self, u_hat: np.ndarray, s: float, gray: bool, post_filter: PostFilter
    ) -> np.ndarray:
        """As in `Networks`; rounded on the device, from which bytes come four times as fast."""
        h, w, _ = u_hat.shape
        shape = h * LATENT_STRIDE, w * LATENT_STRIDE
        pixels = np.empty(shape if gray else (*shape, 3), np.uint8)
        for core, window, inner in windows(h, w, self.window, self.reach):
            with _exact():
                x_hat = self._synthesised(u_hat[window], s)[0].permute(1, 2, 0)
                x_hat = filtered(x_hat.mean(2) if gray else x_hat, post_filter)
                x_hat = x_hat[scaled(inner, LATENT_STRIDE)]
                levels = x_hat.add(0.5).mul(255).round().clamp(0, 255).byte()
                pixels[scaled(core, LATENT_STRIDE)] = levels.contiguous().cpu().numpy()
        return pixels

    def _synthesised(self, u_hat: np.ndarray, s: float) -> Tensor:
        u_hat = self._grid(u_hat)
        return self.g_s(u_hat * self.scales, u_hat, self._quality(s))

    def hyper_analyse(self, u: np.ndarray, s: float) -> np.ndarray:
        with _exact():
            return to_array(self.h_a(self._grid(u), self._quality(s)))

    def _quality(self, s: float) -> Tensor:
        return torch.tensor([s], dtype=torch.float32, device=self.device)

    def _grid(self, array: np.ndarray) -> Tensor:
        return to_grid(array).to(self.device)


_precision = threading.Lock()


@contextmanager
def _exact() -> Iterator[None]:
    """Inference whose products keep all 24 bits: cuDNN's convolutions would by default take ten.

    The precision is the process's: threads take turns, so that each finds it as the caller set it.
    """
    kinds = torch.backends.cudnn.conv, torch.backends.cuda.matmul
    with memory_errors(), _precision, torch.inference_mode():
        before = [kind.fp32_precision for kind in kinds]
        for kind in kinds:
            kind.fp32_precision = "ieee"
        try:
            yield
        finally:
            for kind, precision in zip(kinds, before):
                kind.fp32_precision = precision
