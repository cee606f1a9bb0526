"""What a model is: its architecture by name, and the numbers of one trained instance.

A weight file is one safetensors file: configuration, float weights of the transforms (float16) and
the integers of the exact prior.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import safetensors.numpy

from nic.architecture import prior_layers
from nic.config import ModelConfig
from nic.device import check_device, memory_errors, resolve
from nic.errors import InputError
from nic.files import write_atomic
from nic.inference import Networks, check_tensors, make_networks
from nic.integer import Layer
from nic.prior import GAIN_BITS, IntegerPrior
from nic.tables import FrequencyTables

if TYPE_CHECKING:
    import torch

    from kernels.device_prior import DevicePrior

WEIGHTS = Path(__file__).parent / "weights"
"""Folder of the weight files that come with the package, named after their models."""

SHIPPED = WEIGHTS / "nic-1.safetensors"
"""The weight file that is used unless another is named."""


@dataclass(frozen=True)
class Model:
    """One trained model: configuration, float transforms and exact prior."""

    config: ModelConfig
    fingerprint: bytes
    """First 8 bytes of the weight file's SHA-256; stands in every file's header."""
    tensors: dict[str, np.ndarray]
    """Weights of g_a, g_s and h_a by their names in `nic.transforms`, and `std`."""
    prior: IntegerPrior
    device: str = "cpu"
    """Where it codes: "cpu", in NumPy, or "cuda"."""

    @cached_property
    def place(self) -> torch.device:
        """The device, for networks and coder alike: of several GPUs, the one current at first."""
        return resolve(self.device)

    @cached_property
    def networks(self) -> Networks:
        """The float networks, for inference."""
        if self.device == "cpu":
            return make_networks(self.config, self.tensors)
        from nic.inference.on_device import DeviceNetworks

        with memory_errors():
            return DeviceNetworks(self.config, self.tensors, self.place)

    @cached_property
    def coder(self) -> IntegerPrior | DevicePrior:
        """What codes grids of latents: the prior itself, or the same on the device."""
        if self.device == "cpu":
            return self.prior
        from kernels.device_prior import DevicePrior

        with memory_errors():
            return DevicePrior(self.prior, self.place)

    @property
    def lockstep(self) -> int:
        """Tiles coded at once. On a CPU four take a third less time than one after the other, and
        more gain little; a GPU has room for all that memory holds."""
        return 4 if self.device == "cpu" else 64

    def gain(self, step: int) -> np.ndarray:
        """(M,) float32: from whitened latents to quantiser steps, at a quality step."""
        return (self.prior.gains[step] * 2.0**-GAIN_BITS).astype(np.float32)


def load(path: str | Path | None = None, device: str = "cpu") -> Model:
    """A weight file's model, by default the shipped one's; read once.

    device: "cpu" or "cuda", on which files decode to the same latents. Errors: InputError, also
    where the device cannot be used.
    """
    return _load(Path(path) if path else SHIPPED, device)


@cache
def _load(path: Path, device: str) -> Model:
    if device != "cpu":
        check_device(device)
        return replace(_load(path, "cpu"), device=device)
    return read(path)


def read(path: Path) -> Model:
    """Read a weight file; InputError where it cannot be read or is not a sound one of nic."""
    try:
        data = path.read_bytes()
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: {getattr(error, 'strerror', None) or error}") from error
    try:
        tensors = _load_tensors(data)
        # A safetensors file: length of a JSON header, header, tensors.
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        fields = json.loads(header["__metadata__"]["config"])
        fields["entropy_channels"] = tuple(fields["entropy_channels"])
        config = ModelConfig(**fields)
        prior = prior_from_tensors(tensors)
        floats = {k: v for k, v in tensors.items() if not k.startswith("prior.")}
        _check_layers(config, prior)
        if unknown := tensors.keys() - floats.keys() - prior_to_tensors(prior).keys():
            raise ValueError(f"unknown tensor {min(unknown)}")
        check_tensors(config, floats)
    except safetensors.SafetensorError as error:
        raise InputError(f"{path}: not a weight file") from error
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{path}: not a sound weight file of nic ({error})") from error
    return Model(config, fingerprint(data), floats, prior)


def _load_tensors(data: bytes) -> dict[str, np.ndarray]:
    # safetensors panics where memory is short, and copies what it loads: this raises a MemoryError.
    np.empty(len(data), np.uint8)
    return safetensors.numpy.load(data)


def fingerprint(data: bytes) -> bytes:
    """What a file's header names its model by: 8 bytes of the SHA-256 of the weight file."""
    return hashlib.sha256(data).digest()[:8]


def _check_layers(config: ModelConfig, prior: IntegerPrior) -> None:
    """ValueError unless the prior's layers are of the configuration's shapes."""
    layers = [*prior.hyper, prior.context, *prior.entropy]
    found = [layer.weight.shape for layer in layers]
    if found != [layer.shape for layer in prior_layers(config).values()]:
        raise ValueError("a prior of other layers than the configuration's")


def save(
    path: Path,
    config: ModelConfig,
    floats: dict[str, np.ndarray],
    prior: IntegerPrior,
    overwrite: bool = False,
) -> None:
    """Write a weight file, float tensors, integer prior and configuration in one. OutputError."""
    metadata = {"config": json.dumps(asdict(config))}
    tensors = {k: np.ascontiguousarray(v) for k, v in (floats | prior_to_tensors(prior)).items()}
    write_atomic(path, safetensors.numpy.save(tensors, metadata), overwrite)


def _layer_tensors(name: str, layer: Layer) -> dict[str, np.ndarray]:
    settings = np.array([layer.shift, layer.leaky, layer.limit], np.int32)
    return {
        f"{name}.weight": layer.weight,
        f"{name}.bias": layer.bias,
        f"{name}.settings": settings,
    }


def _integers(tensors: dict[str, np.ndarray], name: str) -> list[int]:
    if tensors[name].dtype != np.int32 or tensors[name].ndim != 1:
        raise ValueError(f"tensor {name} is no list of int32")
    return tensors[name].tolist()


def _tensors_layer(name: str, tensors: dict[str, np.ndarray]) -> Layer:
    shift, leaky, limit = _integers(tensors, f"{name}.settings")
    if leaky not in (0, 1):
        raise ValueError(f"tensor {name}.settings of unknown meaning")
    return Layer(tensors[f"{name}.weight"], tensors[f"{name}.bias"], shift, bool(leaky), limit)


PRIOR_ARRAYS = ("gains", "inverses", "scale_offsets", "quality_bias")
TABLE_ARRAYS = ("cdfs", "starts", "lows")


def prior_to_tensors(prior: IntegerPrior) -> dict[str, np.ndarray]:
    """The prior as named integer arrays."""
    tensors = _layer_tensors("prior.context", prior.context)
    for kind in ("hyper", "entropy"):
        for i, layer in enumerate(getattr(prior, kind)):
            tensors |= _layer_tensors(f"prior.{kind}.{i}", layer)
    tensors |= {f"prior.{name}": getattr(prior, name) for name in PRIOR_ARRAYS}
    for name in ("residual_tables", "z_tables"):
        tables = getattr(prior, name)
        tensors |= {f"prior.{name}.{key}": getattr(tables, key) for key in TABLE_ARRAYS}
    return tensors | {"prior.skip_below": np.array([prior.skip_below], np.int32)}


def prior_from_tensors(tensors: dict[str, np.ndarray]) -> IntegerPrior:
    """Inverse of `prior_to_tensors`; KeyError or ValueError where one is missing or unsound."""

    def layers(kind: str) -> list[Layer]:
        count = sum(k.startswith(f"prior.{kind}.") and k.endswith(".weight") for k in tensors)
        return [_tensors_layer(f"prior.{kind}.{i}", tensors) for i in range(count)]

    def tables(name: str) -> FrequencyTables:
        return FrequencyTables(*(tensors[f"prior.{name}.{key}"] for key in TABLE_ARRAYS))

    [skip_below] = _integers(tensors, "prior.skip_below")
    return IntegerPrior(
        hyper=layers("hyper"),
        context=_tensors_layer("prior.context", tensors),
        entropy=layers("entropy"),
        residual_tables=tables("residual_tables"),
        z_tables=tables("z_tables"),
        skip_below=skip_below,
        **{name: tensors[f"prior.{name}"] for name in PRIOR_ARRAYS},
    )
