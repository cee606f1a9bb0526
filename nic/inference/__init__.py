"""g_a, g_s and h_a in NumPy, from a weight file's arrays: all that coding on a CPU needs.

The networks are those of `nic.transforms`, where they are trained. Importing PyTorch takes longer
than coding a photograph, and these layers are matrix products, which BLAS does as well. Arrays are
float32, channels last: (H, W, C).
"""

from __future__ import annotations

import numpy as np

from nic.architecture import transform_tensors
from nic.config import ModelConfig
from nic.inference.block import BlockNetworks
from nic.inference.gdn import GdnNetworks
from nic.inference.networks import Networks

KINDS = {"block": BlockNetworks, "gdn": GdnNetworks}
"""Classes by `ModelConfig.transforms`."""


def make_networks(config: ModelConfig, tensors: dict[str, np.ndarray]) -> Networks:
    """The float networks of a model, from tensors that `check_tensors` accepts."""
    return KINDS[config.transforms](config, tensors)


def check_tensors(config: ModelConfig, tensors: dict[str, np.ndarray]) -> None:
    """ValueError unless `tensors` are just the arrays that the configuration's networks need:
    float16, so that none overflows in float32."""
    expected = transform_tensors(config)
    for name in sorted(expected.keys() | tensors.keys()):
        if name not in tensors or name not in expected or tensors[name].shape != expected[name]:
            raise ValueError(f"tensor {name} is missing, unknown or of another shape")
        if tensors[name].dtype != np.float16 or not np.isfinite(tensors[name]).all():
            raise ValueError(f"tensor {name} holds other numbers than finite ones of float16")
