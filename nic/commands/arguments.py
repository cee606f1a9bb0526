"""What the arguments of several commands share: types, and whole options."""

from __future__ import annotations

import argparse
from pathlib import Path

from nic.device import DEVICES
from nic.effort import DEFAULT_EFFORT, EFFORTS


def quality(text: str) -> float:
    """A real number 0..100."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 100:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to 100")
    return value


def count(text: str) -> int:
    """A whole number from 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def positive(text: str) -> float:
    """A real number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number")
    return value


def size(text: str) -> int:
    """A number of bytes, such as 800, 50k or 1.5M."""
    factor = {"k": 1000, "M": 1000**2}.get(text[-1:], 1)
    try:
        value = int(float(text[:-1] if factor > 1 else text) * factor)
    except (ValueError, OverflowError):
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of bytes such as 800, 50k or 1.5M")
    return value


def add_effort(parser: argparse.ArgumentParser) -> None:
    """Declare --effort; None where it is not given."""
    parser.add_argument(
        "-e",
        "--effort",
        type=int,
        choices=EFFORTS,
        metavar="E",
        help="0 (fastest) to 9 (best picture for its bytes); 4 and up take seconds to minutes and"
        f" need PyTorch (default: {DEFAULT_EFFORT})",
    )


def add_strip(parser: argparse.ArgumentParser) -> None:
    """Declare --strip."""
    parser.add_argument(
        "--strip",
        action="store_true",
        help="drop ICC profile, EXIF and XMP; the picture is turned upright, its colours to sRGB",
    )


def add_force(parser: argparse.ArgumentParser) -> None:
    """Declare --force."""
    parser.add_argument("-f", "--force", action="store_true", help="overwrite the output")


def add_weights(parser: argparse.ArgumentParser) -> None:
    """Declare --weights."""
    parser.add_argument(
        "--weights", type=Path, metavar="PATH", help="weight file (default: the one shipped)"
    )


def add_device(parser: argparse.ArgumentParser) -> None:
    """Declare --device where none is chosen by how much there is to do."""
    parser.add_argument(
        "--device", choices=DEVICES[1:], default="cpu", help="where to run (default: %(default)s)"
    )


def add_coding(parser: argparse.ArgumentParser) -> None:
    """Declare what encoding and decoding have in common: --force, --weights, --device, --verbose
    and --quiet."""
    add_force(parser)
    add_weights(parser)
    parser.add_argument(
        "--device",
        choices=DEVICES,
        default="auto",
        help="where to run; auto: on an NVIDIA GPU if there is one and the job is large enough",
    )
    volume = parser.add_mutually_exclusive_group()
    volume.add_argument("-v", "--verbose", action="store_true", help="print sizes, bits, seconds")
    volume.add_argument("--quiet", action="store_true", help="print nothing but errors")
