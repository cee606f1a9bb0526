"""The float networks as they are trained: analysis g_a, synthesis g_s and hyper analysis h_a.

`nic.inference` computes the same from a weight file, without PyTorch. Each kind of transforms is a
module with the classes `Analysis`, `Synthesis` and `HyperAnalysis`, made from a `ModelConfig`.

Everything here may differ by rounding from one machine to the next without harm: the encoder's
side decides which integers are sent, and the synthesis only what a pixel's last grey level is. What
the entropy decoder depends on is integer arithmetic and lives in `integer.py` and `prior.py`.

Shapes: images x are (B, 3, H, W) float in -0.5..0.5 with H and W multiples of 16, latents y are
(B, M, H/16, W/16), hyperlatents z are (B, z_channels, H/64, W/64). `s` is the quality as a number
in 0..1, shape (B,).

y is in units of BASE_STEP grey levels of a unit-norm basis function; u = y / std is whitened.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from nic.transforms import block, gdn

KINDS = {"block": block, "gdn": gdn}
"""Modules by `ModelConfig.transforms`."""


def load(module: nn.Module, name: str, tensors: Mapping[str, np.ndarray]) -> nn.Module:
    """The module `name` of a weight file, in float32 and channels last, for inference."""
    own = {k.removeprefix(f"{name}."): v for k, v in tensors.items() if k.startswith(f"{name}.")}
    module.load_state_dict({k: torch.from_numpy(v.astype(np.float32)) for k, v in own.items()})
    return module.to(memory_format=torch.channels_last).requires_grad_(False).eval()


def to_grid(array: np.ndarray) -> Tensor:
    """(h, w, C) -> (1, C, h, w) float32, channels last."""
    array = np.ascontiguousarray(array, np.float32)
    return torch.from_numpy(array)[None].permute(0, 3, 1, 2)


def to_array(grid: Tensor) -> np.ndarray:
    """The inverse of `to_grid`, on the host; it may share memory."""
    return grid.detach()[0].permute(1, 2, 0).float().cpu().numpy()
