"""From a weight file back to a model that can be trained on: the inverse of `export`.

Weights come back as they were rounded for the file; what is lost by that is made good within steps.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from nic.architecture import transform_tensors
from nic.config import ModelConfig
from nic.integer import Layer
from nic.models import Model
from nic.prior import CONTEXT_BITS, GAIN_BITS, SCALE_BITS
from nic.range_coder import PRECISION
from nic.tables import FrequencyTables
from nic.training.density import FactorizedDensity
from nic.training.export import (
    HIDDEN_BITS,
    PHI_BITS,
    PSI_BITS,
    Z_MAX,
    head_units,
    qualities,
)
from nic.training.model import TrainableModel
from nic.transforms.anchors import Anchors


def restore(model: TrainableModel, weights: Model) -> None:
    """Set a model's weights to those of a weight file: all of them where the model's blocks, of
    which it may have more, are all in which both differ; transforms and gains otherwise. What the
    file does not have starts silent, so that the model is the file's."""
    floats = {name: torch.from_numpy(np.array(v)).float() for name, v in weights.tensors.items()}
    for name in model.load_state_dict(floats, strict=False).missing_keys:
        if name.startswith(("g_a.", "g_s.")) and ".layers.4." in name:
            nn.init.zeros_(model.get_parameter(name))
    gains = np.maximum(weights.prior.gains, 1) * 2.0**-GAIN_BITS
    _set_anchors(model.gain, np.log(gains / floats["std"].reshape(1, -1).numpy()), model.config)
    if has_prior_of(model.config, weights.config):
        _restore_prior(model, weights)


def can_start_from(config: ModelConfig, weights: ModelConfig) -> bool:
    """Whether all float tensors of a weight file have their place in a model."""
    return transform_tensors(weights).items() <= transform_tensors(config).items()


def has_prior_of(config: ModelConfig, weights: ModelConfig) -> bool:
    """Whether two models differ in their names and in blocks of their transforms at most."""
    free = ("name", "fine_blocks", "coarse_blocks", "detail_blocks", "detail_channels")
    return replace(weights, **{name: getattr(config, name) for name in free}) == config


def _restore_prior(model: TrainableModel, weights: Model) -> None:
    prior, h_s, parameters = weights.prior, model.h_s, model.entropy_parameters
    for conv, layer, bits in zip((h_s.up1, h_s.up2, h_s.out), prior.hyper, (0, PSI_BITS, PSI_BITS)):
        _set(conv, *_floats(layer, bits, PSI_BITS))
    if model.context is not None:
        weight, bias = _floats(prior.context, CONTEXT_BITS, PHI_BITS)
        above, left = weight[:, :, 0].split((10, 2), dim=2)
        _set(model.context.above, above.unflatten(2, (2, 5)), bias)
        model.context.left.weight.data.copy_(left[:, :, None])
    for conv, layer in zip(parameters.layers[:-1], prior.entropy):
        _set(conv, *_floats(layer, HIDDEN_BITS, HIDDEN_BITS))
    _set_head(parameters.layers[-1], prior.entropy[-1], model.config)
    unit = 2.0 ** -(HIDDEN_BITS + prior.entropy[0].shift)
    _set_anchors(parameters.quality, prior.quality_bias * unit, model.config)
    _fit(model.z_density, prior.z_tables)


def _floats(layer: Layer, bits_in: int, bits_out: int) -> tuple[Tensor, Tensor]:
    """Weight and bias, float64, of a layer of such fraction bits."""
    weight_bits = layer.shift + bits_out - bits_in
    weight, bias = (torch.from_numpy(x.astype(np.float64)) for x in (layer.weight, layer.bias))
    return weight * 2.0**-weight_bits, bias * 2.0 ** -(weight_bits + bits_in)


def _set(conv: nn.Conv2d, weight: Tensor, bias: Tensor) -> None:
    conv.weight.data.copy_(weight)
    conv.bias.data.copy_(bias)


def _set_head(conv: nn.Conv2d, layer: Layer, config: ModelConfig) -> None:
    weight, bias = _floats(layer, HIDDEN_BITS, SCALE_BITS)
    factors, offsets = head_units(config.M)
    weight, bias = weight / factors[:, None, None, None], (bias - offsets) / factors
    _set(conv, *((weight, bias) if config.means else (weight[config.M :], bias[config.M :])))


def _set_anchors(anchors: Anchors, values: np.ndarray, config: ModelConfig) -> None:
    """To what gives `values`, (steps, channels), at the quality steps."""
    mix = Anchors(config.anchors, config.anchors)
    mix.values.data = torch.eye(config.anchors)
    weights = mix(qualities(config))[:, :, 0, 0].detach().double().numpy()
    anchors.values.data.copy_(torch.from_numpy(np.linalg.lstsq(weights, values)[0]))


def _fit(density: FactorizedDensity, tables: FrequencyTables, steps: int = 1000) -> None:
    """Fit the density of each channel to its table's frequencies."""
    target = np.zeros((len(tables.lists), 2 * Z_MAX + 1))
    for row, cdf, low in zip(target, tables.lists, tables.lows):
        row[low + Z_MAX :][: len(cdf) - 2] = np.diff(cdf)[:-1] * 2.0**-PRECISION
    device = density.matrices[0].device
    target = torch.from_numpy(target).float().to(device)
    integers = torch.arange(-Z_MAX, Z_MAX + 1.0, device=device).expand(1, len(target), 1, -1)
    adam = torch.optim.Adam(density.parameters(), lr=0.02)
    for _ in range(steps):
        adam.zero_grad()
        (target * density.bits(integers)[0, :, 0]).sum().backward()
        adam.step()
    density.zero_grad()
