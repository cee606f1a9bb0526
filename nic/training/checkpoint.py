"""Checkpoints of a training run: written whole or not at all, read without trusting them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch

from nic.config import ModelConfig
from nic.errors import InputError
from nic.files import write_atomic

ENTRIES = {"model_config", "model", "average", "optimizers", "step", "crops", "elapsed"}
"""`average` holds the weights that are exported; `elapsed` is in seconds."""


def write_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Replace the checkpoint at `path`."""
    file = io.BytesIO()
    torch.save(state, file)
    write_atomic(path, file.getvalue(), overwrite=True)


def read_checkpoint(path: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """A checkpoint's entries, `model_config` as a ModelConfig; InputError where it is none."""
    try:
        file = open(path, "rb")
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from error
    try:
        with file:
            state = torch.load(file, map_location=device, weights_only=True)
        state["model_config"] = ModelConfig(**state["model_config"])
    except Exception as error:  # on a foreign file the unpickler raises whatever it trips over
        raise InputError(f"{path}: not a checkpoint of nic") from error
    if not ENTRIES <= state.keys():
        raise InputError(f"{path}: not a checkpoint of nic")
    return state
