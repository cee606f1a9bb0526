"""From a checkpoint to a weight file: averaged weights, fixed-point prior, frequency tables."""

from __future__ import annotations

import copy
import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from nic import models
from nic.config import QUALITY_STEPS, ModelConfig
from nic.errors import InputError
from nic.integer import ACTIVATION_MAX, Layer
from nic.prior import (
    CONTEXT_BITS,
    GAIN_BITS,
    HEAD_LIMIT,
    INVERSE_BITS,
    MEAN_BITS,
    SCALE_BITS,
    IntegerPrior,
)
from nic.tables import SCALE_MIN, TAIL, FrequencyTables, gaussian_tables, scale_levels
from nic.training.checkpoint import read_checkpoint
from nic.training.model import EntropyParameters, TrainableModel
from nic.wavefront import TAPS

PSI_BITS = PHI_BITS = HIDDEN_BITS = 10
"""Fraction bits of int16 activations: values within +-32 in steps of 0.001."""

Z_MAX = 255
"""Largest hyperlatent a table can hold; larger ones are escaped."""


def export(checkpoint: Path, out: Path, overwrite: bool = False) -> None:
    """Write the weight file of a checkpoint's averaged weights. Errors: InputError, OutputError."""
    state = read_checkpoint(checkpoint)
    model = TrainableModel(state["model_config"])
    model.load_state_dict(state["average"])
    export_model(model, out, overwrite)


@torch.no_grad()
def export_model(model: TrainableModel, out: Path, overwrite: bool = False) -> None:
    """Write the weight file of a model as it stands, on whatever device."""
    model = copy.deepcopy(model).cpu()
    kept = ("g_a.", "g_s.", "h_a.", "std")
    floats = {k: v for k, v in model.state_dict().items() if k.startswith(kept)}
    if any(v.abs().max() > np.finfo(np.float16).max for v in floats.values()):
        raise InputError("the model's weights are too large for a weight file")
    arrays = {k: v.numpy().astype(np.float16) for k, v in floats.items()}
    models.save(out, model.config, arrays, integer_prior(model), overwrite)


@torch.no_grad()
def integer_prior(model: TrainableModel) -> IntegerPrior:
    """The prior, in fixed point, of a model on the CPU."""
    gains = _gains(model)
    h_s, parameters = model.h_s, model.entropy_parameters
    hidden = [
        _layer(layer, HIDDEN_BITS, HIDDEN_BITS, leaky=True) for layer in parameters.layers[1:-1]
    ]
    first = _layer(parameters.layers[0], PSI_BITS, HIDDEN_BITS, leaky=True)
    # The first layer's sums have HIDDEN_BITS + shift fraction bits.
    bias = parameters.quality(qualities(model.config))[:, :, 0, 0].double() * 2.0 ** (
        HIDDEN_BITS + first.shift
    )
    residual_tables, skip_below = gaussian_tables()
    return IntegerPrior(
        hyper=[
            _layer(h_s.up1, 0, PSI_BITS, leaky=True),
            _layer(h_s.up2, PSI_BITS, PSI_BITS, leaky=True),
            _layer(h_s.out, PSI_BITS, PSI_BITS, leaky=True),
        ],
        context=_context_layer(model),
        entropy=[first, *hidden, _head_layer(parameters)],
        gains=_integers(gains, GAIN_BITS, 26),
        # Where a gain is below 1/32, latents are zero for good: their context needs no exact scale.
        inverses=_integers((1 / gains).clamp(max=31.99), INVERSE_BITS, 29),
        scale_offsets=_integers(gains.log() / _log_ratio(), SCALE_BITS, 24),
        quality_bias=_integers(bias, 0, 31),
        residual_tables=residual_tables,
        z_tables=_z_tables(model),
        skip_below=skip_below,
    )


def qualities(config: ModelConfig) -> Tensor:
    """(steps,) s of each quality step."""
    return torch.tensor([config.s(step) for step in range(QUALITY_STEPS)])


def _gains(model: TrainableModel) -> Tensor:
    """(steps, M) float64 std * gain."""
    log_gains = model.gain(qualities(model.config))[:, :, 0, 0].double()
    return model.std[:, :, 0, 0].half().double() * log_gains.exp()


def _log_ratio() -> float:
    levels = scale_levels()
    return math.log(levels[1] / levels[0])


def _integers(values: Tensor, bits: int, limit_bits: int) -> np.ndarray:
    """Fixed point with `bits` fraction bits, as int32."""
    integers = np.floor(values.double().numpy() * 2.0**bits + 0.5)
    if np.abs(integers).max() >= 2.0**limit_bits:
        raise InputError(f"a gain or bias of the model exceeds {limit_bits} bits in fixed point")
    return integers.astype(np.int32)


def _layer(layer: nn.Conv2d, bits_in: int, bits_out: int, leaky: bool) -> Layer:
    return _fixed_point(layer.weight.data, layer.bias.data, bits_in, bits_out, leaky)


def _fixed_point(
    weight: Tensor,
    bias: Tensor,
    bits_in: int,
    bits_out: int,
    leaky: bool,
    limit: int = ACTIVATION_MAX,
) -> Layer:
    """The finest int16 weights whose largest fits."""
    weight, bias = weight.double().numpy(), bias.double().numpy()
    weight_bits = math.floor(math.log2(ACTIVATION_MAX / np.abs(weight).max()))
    shift = bits_in + weight_bits - bits_out
    if shift < 0:
        raise InputError("a layer's weights are too large for fixed point")
    return Layer(
        np.floor(weight * 2.0**weight_bits + 0.5).astype(np.int16),
        np.floor(bias * 2.0 ** (bits_in + weight_bits) + 0.5).astype(np.int64),
        shift,
        leaky,
        limit,
    )


def _context_layer(model: TrainableModel) -> Layer:
    """The causal kernels as (phi, M, 1, 12), taps in the order of wavefront.TAPS."""
    if model.context is None:
        shape = 0, model.config.M, 1, len(TAPS)
        return Layer(np.zeros(shape, np.int16), np.zeros(0, np.int64), shift=0, leaky=False)
    weight, bias = model.context.taps()[:, :, None], model.context.above.bias
    return _fixed_point(weight, bias, CONTEXT_BITS, PHI_BITS, leaky=False)


def _head_layer(parameters: EntropyParameters) -> Layer:
    """The last layer, which gives means of u and, in place of log-scales, scale indices."""
    layer = parameters.layers[-1]
    weight, bias = layer.weight.data.double(), layer.bias.data.double()
    if not parameters.means:
        weight, bias = (torch.cat([torch.zeros_like(t), t]) for t in (weight, bias))
    factors, offsets = head_units(len(weight) // 2)
    weight, bias = weight * factors[:, None, None, None], bias * factors + offsets
    return _fixed_point(weight, bias, HIDDEN_BITS, SCALE_BITS, leaky=False, limit=HEAD_LIMIT)


def head_units(M: int) -> tuple[Tensor, Tensor]:
    """(2 M,) float64 factors and offsets: from means and log-scales to what the head gives.

    Outputs have SCALE_BITS; the means' rows are scaled up to give MEAN_BITS.
    """
    means = torch.full((M,), 2.0 ** (MEAN_BITS - SCALE_BITS)), torch.zeros(M)
    levels = (
        torch.full((M,), 1 / _log_ratio()),
        torch.full((M,), -math.log(SCALE_MIN) / _log_ratio()),
    )
    factors, offsets = (torch.cat(pair).double() for pair in zip(means, levels))
    return factors, offsets


def _z_tables(model: TrainableModel) -> FrequencyTables:
    """Frequencies of each channel's integers, cut where the tails hold less than TAIL."""
    density = model.z_density
    channels = len(density.matrices[0])
    edges = torch.arange(-Z_MAX, Z_MAX + 2, dtype=torch.float64) - 0.5
    cumulative = torch.sigmoid(density.double().logits(edges.expand(channels, 1, -1)))[:, 0].numpy()
    density.float()
    tables = []
    for c in cumulative:
        inside = np.flatnonzero((c[1:] > TAIL) & (c[:-1] < 1 - TAIL))
        low, high = inside[0], inside[-1]
        tables.append((int(low) - Z_MAX, np.diff(c[low : high + 2])))
    return FrequencyTables.from_probabilities(tables)
