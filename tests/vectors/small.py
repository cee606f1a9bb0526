"""Weight files of the papers' models, narrow and with random weights: a format's features need no
trained model. Integers of a frozen generator alone, so that the files are the same everywhere."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from nic import models
from nic.architecture import prior_layers, transform_tensors
from nic.config import CONFIGS, QUALITY_STEPS, ModelConfig
from nic.integer import Layer
from nic.prior import GAIN_BITS, HEAD_LIMIT, INVERSE_BITS, SCALE_BITS, IntegerPrior
from nic.range_coder import PRECISION
from nic.tables import FrequencyTables

NAMES = [name for name in CONFIGS if name != "nic-1"]

SHIFTS = {
    "hyper.0": 2, "hyper.1": 12, "hyper.2": 12, "context": 11, "entropy.0": 12, "entropy.1": 12,
}  # fmt: skip
"""Weights have 12 fraction bits."""
HEAD_SHIFT = 14


def small(name: str) -> ModelConfig:
    """The named model, its layers a few channels wide."""
    config = CONFIGS[name]
    return replace(
        config, N=6, M=8, z_channels=5, hyper_channels=6, psi_channels=7,
        phi_channels=min(config.phi_channels, 9), entropy_channels=(10, 11)[: 1 + config.means],
        anchors=3,
    )  # fmt: skip


def write(name: str, folder: Path) -> Path:
    """Writes the small model's weight file into a folder; returns its path."""
    config, rng = small(name), np.random.RandomState(len(name))
    floats = {
        key: _tensor(key, shape, rng) for key, shape in sorted(transform_tensors(config).items())
    }
    path = folder / f"{name}.safetensors"
    models.save(path, config, floats, _prior(config, rng))
    return path


def _tensor(name: str, shape: tuple[int, ...], rng: np.random.RandomState) -> np.ndarray:
    low, high, unit = -64, 64, 256
    if name == "std":
        low, high, unit = 16, 128, 32
    elif "gdn" in name:  # square roots of what is summed
        low, high, unit = (32, 64, 32) if name.endswith("beta") else (0, 16, 64)
    return (rng.randint(low, high, shape) / unit).astype(np.float16)


def _prior(config: ModelConfig, rng: np.random.RandomState) -> IntegerPrior:
    shapes = {name: layer.shape for name, layer in prior_layers(config).items()}
    head = max(name for name in shapes if name.startswith("entropy"))
    layers = {
        name: Layer(
            rng.randint(-1600, 1600, shape).astype(np.int16),
            rng.randint(-(2**20), 2**20, shape[0]).astype(np.int64),
            SHIFTS[name],
            leaky=name != "context",
        )
        for name, shape in shapes.items()
        if name != head
    }
    steps = np.arange(QUALITY_STEPS)[:, None] + np.zeros((1, config.M), int)
    gains = (1 << GAIN_BITS - 1) + steps * rng.randint(1024, 2048, config.M)
    hidden = config.entropy_channels[0]
    return IntegerPrior(
        hyper=[layer for name, layer in layers.items() if name.startswith("hyper")],
        context=layers["context"],
        entropy=[*(v for k, v in layers.items() if k.startswith("entropy")), _head(config, rng)],
        gains=gains.astype(np.int32),
        inverses=((1 << GAIN_BITS + INVERSE_BITS) // gains).astype(np.int32),
        scale_offsets=(steps * 24).astype(np.int32),
        quality_bias=rng.randint(-(2**20), 2**20, (QUALITY_STEPS, hidden)).astype(np.int32),
        residual_tables=models.load().prior.residual_tables,  # the same for all models
        z_tables=_z_tables(config.z_channels),
        skip_below=models.load().prior.skip_below,
    )


def _head(config: ModelConfig, rng: np.random.RandomState) -> Layer:
    """Means of u within a few units, or none; scale levels about 12."""
    inputs, M = config.entropy_channels[-1], config.M
    weight = rng.randint(-20000, 20000, (2 * M, inputs, 1, 1))
    bias = np.repeat([0, 12 << SCALE_BITS + HEAD_SHIFT], M)
    if not config.means:
        weight[:M] = 0
    return Layer(weight.astype(np.int16), bias, HEAD_SHIFT, leaky=False, limit=HEAD_LIMIT)


def _z_tables(channels: int) -> FrequencyTables:
    """Of the integers -6 to 6, the small ones likelier; escape 1."""
    frequencies = np.array([4096 >> abs(k) for k in range(-6, 7)])
    frequencies[6] += (1 << PRECISION) - 1 - frequencies.sum()
    cdf = np.cumsum([0, *frequencies, 1])
    return FrequencyTables(
        np.tile(cdf, channels).astype(np.int32),
        (np.arange(channels + 1) * len(cdf)).astype(np.int32),
        np.full(channels, -6, np.int32),
    )
