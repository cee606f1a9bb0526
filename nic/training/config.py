"""What decides a training run, as one dataclass: fields are flags of `nic train` and keys of its
config file."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from nic.config import CONFIGS
from nic.errors import InputError


def _option(default: Any, help: str) -> Any:
    return field(default=default, metadata={"help": help})


TYPES = {
    "str": (str, "a text"),
    "bool": (bool, "true or false"),
    "int": (int, "a whole number"),
    "float": ((int, float), "a number"),
}
"""By the type of a setting: Python's types of its values, and what to call them."""

LIMITS = [
    ("minutes", 0, 1e6),
    ("steps", 0, 1e9),
    ("processes", 1, 256),
    ("batch", 1, 4096),
    ("crop", 64, 4096),
    ("lr", 0, 1),
    ("transform_lr", 0, 1),
    ("warmup", 0, 1e9),
    ("clip", 1e-9, 1e9),
    ("ema", 0, 0.999999),
    ("seed", 0, 2**64 - 1),
    ("checkpoint_minutes", 0, 1e6),
    ("eval_minutes", 0, 1e6),
    ("eval_images", 1, 1e6),
]
"""Least and greatest value of each setting that is a number."""


@dataclass(frozen=True)
class TrainConfig:
    """Settings of one run; the help texts say what each is."""

    data: str = field(
        metadata={
            "help": "folder of training images; all their pixels must fit into a GPU's memory"
        }
    )
    out: str = _option(
        "",
        "folder of checkpoints, log and pixel cache; a run found there is resumed"
        " (default: runs/ and the model's name)",
    )
    model: str = _option("nic-1", f"architecture: {', '.join(CONFIGS)}")
    weights: str = _option(
        "",
        "weight file to train on from (default: from scratch); of a model of fewer blocks: from all"
        " of it; of another model with the same transforms: from these, with a new prior",
    )
    minutes: float = _option(60.0, "budget: the learning rate reaches zero when it is spent")
    steps: int = _option(0, "budget in optimiser steps instead of minutes, when above 0")
    processes: int = _option(
        1, "processes whose gradients are averaged; on a CPU each takes one thread"
    )
    batch: int = _option(6, "crops a step in each process")
    crop: int = _option(256, "side of a crop in pixels, a multiple of 64")
    lr: float = _option(1e-3, "highest learning rate")
    transform_lr: float = _option(1.0, "that of g_a and g_s, as a multiple of lr")
    warmup: int = _option(200, "steps of linear warm-up; linear decay to zero follows")
    clip: float = _option(1.0, "largest norm of the gradient")
    ema: float = _option(0.999, "decay of the averaged weights, which are what is exported")
    seed: int = _option(0, "seed of weights, crops and noise")
    checkpoint_minutes: float = _option(5.0, "minutes between checkpoints")
    eval_data: str = _option(
        "", "folder of images to code as real files while training; none: no such evaluation"
    )
    eval_minutes: float = _option(15.0, "minutes between evaluations on real files")
    eval_images: int = _option(4, "images of eval_data to code each time")
    device: str = _option("auto", "auto, cpu or cuda")
    wandb: str = _option("", "Weights & Biases project to log to, besides log.csv")
    wandb_offline: bool = _option(False, "keep Weights & Biases files on disk")

    @property
    def folder(self) -> Path:
        """Where the run is kept."""
        return Path(self.out or f"runs/{self.model}")

    def __post_init__(self):
        for option in fields(self):
            value, (types, kind) = getattr(self, option.name), TYPES[option.type]
            # To Python, true is a whole number.
            if not isinstance(value, types) or isinstance(value, bool) != (types is bool):
                raise InputError(f"{option.name} {value!r} is not {kind}")
        for name, low, high in LIMITS:
            value = getattr(self, name)
            if not low <= value <= high:
                raise InputError(f"{name} {value} is not within {low}..{high}")
        if self.device not in ("auto", "cpu", "cuda"):
            raise InputError(f"no device {self.device!r}; there are auto, cpu and cuda")
        if self.model not in CONFIGS:
            raise InputError(f"no model {self.model!r}; there are {', '.join(CONFIGS)}")
        if self.crop % 64:
            raise InputError(f"crop {self.crop} is not a multiple of 64")
        if self.minutes <= 0 and self.steps <= 0:
            raise InputError("the budget is empty: give minutes or steps")
