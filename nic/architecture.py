"""Names, shapes and cost of a model's networks, from its configuration alone.

One description serves both the check of weight files and the counting of `nic models`.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import NamedTuple

from nic.config import HYPER_STRIDE, LATENT_STRIDE, ModelConfig
from nic.wavefront import TAPS

Shape = tuple[int, ...]


class LayerShape(NamedTuple):
    """One linear layer."""

    shape: Shape
    """Of its weights: (out, in, rows, columns) of a convolution; (channels, channels) of a GDN."""
    stride: int
    """Pixels of the image, in each direction, for each position at which the layer is applied."""

    @property
    def macs(self) -> float:
        """Multiply-accumulates a pixel."""
        return math.prod(self.shape) / self.stride**2

    def tensors(self, name: str) -> dict[str, Shape]:
        """Names and shapes of weights and biases."""
        weight, bias = ("gamma", "beta") if len(self.shape) == 2 else ("weight", "bias")
        return {f"{name}.{weight}": self.shape, f"{name}.{bias}": self.shape[:1]}


def transform_layers(config: ModelConfig) -> dict[str, LayerShape]:
    """Layers of g_a, g_s and h_a."""
    return (_gdn_layers if config.transforms == "gdn" else _block_layers)(config)


def _block_layers(config: ModelConfig) -> dict[str, LayerShape]:
    N, M, C = config.N, config.M, config.hyper_channels
    layers = {
        "g_a.linear": LayerShape((M, 3, LATENT_STRIDE, LATENT_STRIDE), 16),
        "g_a.head": LayerShape((N, 3 * 64, 1, 1), 8),
        "g_a.down": LayerShape((N, N, 3, 3), 16),
        "g_a.tail": LayerShape((M, N, 1, 1), 16),
        "g_s.linear": LayerShape((3 * LATENT_STRIDE**2, M, 1, 1), 16),
        "g_s.head": LayerShape((N, M, 1, 1), 16),
        "g_s.up": LayerShape((4 * N, N, 1, 1), 16),
        "g_s.tail": LayerShape((3 * 64, N, 1, 1), 8),
        "h_a.head": LayerShape((C, 2 * M, 1, 1), 16),
        "h_a.down1": LayerShape((C, C, 5, 5), 32),
        "h_a.down2": LayerShape((config.z_channels, C, 5, 5), 64),
    }
    blocks = {"h_a.block": (C, 16)}
    if config.detail_blocks:
        K = config.detail_channels
        layers |= {
            "g_a.detail_head": LayerShape((K, 3 * 16, 1, 1), 4),
            "g_a.detail_down": LayerShape((N, 4 * K, 1, 1), 8),
            "g_s.detail_head": LayerShape((K, 3 * 16, 1, 1), 4),
            "g_s.detail_up": LayerShape((4 * K, N, 1, 1), 8),
            "g_s.detail_tail": LayerShape((3 * 16, K, 1, 1), 4),
        }
    for side in ("g_a", "g_s"):
        blocks |= {f"{side}.fine.{k}": (N, 8) for k in range(config.fine_blocks)}
        blocks |= {f"{side}.coarse.{k}": (N, 16) for k in range(config.coarse_blocks)}
        detail = config.detail_channels, 4
        blocks |= {f"{side}.detail.{k}": detail for k in range(config.detail_blocks)}
    for name, (n, stride) in blocks.items():
        layers[f"{name}.layers.0"] = LayerShape((n // 2, n, 1, 1), stride)
        layers[f"{name}.layers.2"] = LayerShape((n // 2, n // 2, 3, 3), stride)
        layers[f"{name}.layers.4"] = LayerShape((n, n // 2, 1, 1), stride)
    return layers


def _gdn_layers(config: ModelConfig) -> dict[str, LayerShape]:
    N, M, Z = config.N, config.M, config.z_channels
    layers = {
        "h_a.conv.0": LayerShape((Z, M, 3, 3), 16),
        "h_a.conv.1": LayerShape((Z, Z, 5, 5), 32),
        "h_a.conv.2": LayerShape((Z, Z, 5, 5), 64),
    }
    for k, (a, b) in enumerate(pairwise([3, N, N, N, M])):
        layers[f"g_a.conv.{k}"] = LayerShape((b, a, 5, 5), 2 ** (k + 1))
    for k, (a, b) in enumerate(pairwise([M, N, N, N, 3])):
        layers[f"g_s.conv.{k}"] = LayerShape((4 * b, a, 3, 3), 2 ** (4 - k))
    for k in range(3):
        layers[f"g_a.gdn.{k}"] = LayerShape((N, N), 2 ** (k + 1))
        layers[f"g_s.gdn.{k}"] = LayerShape((N, N), 2 ** (3 - k))
    return layers


def transform_gains(config: ModelConfig) -> dict[str, int]:
    """Channels of each gain that g_a, g_s and h_a take from the quality."""
    gains = {"h_a.gain": config.M}
    if config.transforms == "block":
        grids = {"fine": config.N, "coarse": config.N}
        if config.detail_blocks:
            grids["detail"] = config.detail_channels
        for side in ("g_a", "g_s"):
            gains |= {f"{side}.{grid}_gain": channels for grid, channels in grids.items()}
    return gains


def transform_tensors(config: ModelConfig) -> dict[str, Shape]:
    """Names and shapes of all float tensors of a weight file."""
    tensors: dict[str, Shape] = {"std": (1, config.M, 1, 1)}
    for name, layer in transform_layers(config).items():
        tensors |= layer.tensors(name)
    gains = transform_gains(config).items()
    return tensors | {f"{name}.values": (config.anchors, channels) for name, channels in gains}


def prior_layers(config: ModelConfig) -> dict[str, LayerShape]:
    """Layers of h_s, of the context and of the entropy parameters, as in a weight file."""
    M, C, psi, phi = config.M, config.hyper_channels, config.psi_channels, config.phi_channels
    coarse, middle = LATENT_STRIDE * HYPER_STRIDE, LATENT_STRIDE * HYPER_STRIDE // 2
    layers = {
        "hyper.0": LayerShape((4 * C, config.z_channels, 3, 3), coarse),
        "hyper.1": LayerShape((4 * C, C, 3, 3), middle),
        "hyper.2": LayerShape((psi, C, 3, 3), LATENT_STRIDE),
        "context": LayerShape((phi, M, 1, len(TAPS)), LATENT_STRIDE),
    }
    widths = [psi + phi, *config.entropy_channels, 2 * M]
    for k, (a, b) in enumerate(pairwise(widths)):
        layers[f"entropy.{k}"] = LayerShape((b, a, 1, 1), LATENT_STRIDE)
    return layers


class Complexity(NamedTuple):
    """Size and cost of a model."""

    parameters: int
    """Weights and biases as they stand in a weight file."""
    encode_macs: float
    """Multiply-accumulates a pixel of g_a, h_a and the prior."""
    decode_macs: float
    """Multiply-accumulates a pixel of the prior and g_s."""


def complexity(config: ModelConfig) -> Complexity:
    """Counted are the products with weights; what goes element by element is not."""
    transforms, prior = transform_layers(config), prior_layers(config)

    def macs(*parts: str) -> float:
        own = sum(layer.macs for name, layer in transforms.items() if name.startswith(parts))
        return own + sum(layer.macs for layer in prior.values())

    layers = [*transforms.values(), *prior.values()]
    parameters = sum(math.prod(layer.shape) + layer.shape[0] for layer in layers)
    return Complexity(parameters, macs("g_a.", "h_a."), macs("g_s."))
