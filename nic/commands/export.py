"""`nic export`: a training checkpoint -> a weight file."""

from __future__ import annotations

import argparse
from pathlib import Path

from nic import files
from nic.commands import arguments
from nic.errors import InputError
from nic.extras import require


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `nic export`."""
    parser.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="from `nic train`")
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="WEIGHTS",
        help="weight file (default: CHECKPOINT with the extension .safetensors)",
    )
    arguments.add_force(parser)


def main(args: argparse.Namespace) -> None:
    """Run `nic export`."""
    if not args.checkpoint.is_file():
        raise InputError(f"{args.checkpoint}: no such file")
    output = args.output or args.checkpoint.with_suffix(".safetensors")
    files.check_output(output, args.checkpoint, args.force)
    require("train", "torch")
    from nic.training.export import export

    export(args.checkpoint, output, args.force)
