"""`nic train`: flags and config file -> a run."""

from __future__ import annotations

import argparse
import tomllib
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from nic.errors import InputError
from nic.extras import require
from nic.training.config import TrainConfig


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """One flag for each field, and --config for a TOML file of the same keys."""
    parser.add_argument(
        "--config", metavar="FILE", help="TOML file of these options; flags override it"
    )
    for option in fields(TrainConfig):
        flag, text = "--" + option.name.replace("_", "-"), option.metadata["help"]
        if option.type == "bool":
            parser.add_argument(flag, action="store_true", default=None, help=text)
            continue
        kind = {"str": str, "int": int, "float": float}[option.type]
        default = "" if option.default in (MISSING, "") else f" (default: {option.default})"
        parser.add_argument(flag, type=kind, metavar=option.name.upper(), help=text + default)


def parse(args: argparse.Namespace) -> TrainConfig:
    """Flags over config file over defaults. Errors: InputError."""
    settings: dict[str, Any] = {}
    if args.config:
        try:
            settings = tomllib.loads(Path(args.config).read_text())
        except (OSError, ValueError) as error:
            raise InputError(f"{args.config}: {error}") from error
    names = [option.name for option in fields(TrainConfig)]
    unknown = sorted(set(settings) - set(names))
    if unknown:
        raise InputError(f"{args.config}: no option {unknown[0]!r}")
    settings |= {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    if "data" not in settings:
        raise InputError("give the folder of training images: --data FOLDER")
    return TrainConfig(**settings)


def main(args: argparse.Namespace) -> int:
    """`nic train`."""
    config = parse(args)
    require("train", "torch")
    from nic.training.loop import launch

    launch(config)
    return 0
