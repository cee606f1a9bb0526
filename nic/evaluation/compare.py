"""`nic compare`: one photograph through nic, JPEG, WebP and AVIF, as one page to look at.

Every rival codes it at the size of nic's file, or at its PSNR. The page needs no other file and
nothing from the network.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from bisect import bisect_left
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from nic import files, images
from nic.commands import arguments
from nic.evaluation.rivals import Codec
from nic.evaluation.trial import Trial, attempt

if TYPE_CHECKING:
    from nic.evaluation.bd_rate import Curve

CURVE_QUALITIES = (10, 30, 50, 70, 90)
"""Qualities of nic at which its curve is drawn, beside the one asked for."""

CURVE_STEP = 3
"""Every so many of a rival's qualities begin its curve; the search for its match adds others."""

LOSSLESS_DB = 100.0
"""PSNR that counts for a picture without any error, so that the search can compare it."""

LARGE_PAGE = 2**26
"""Bytes from which a browser may take long to show a page."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `nic compare`."""
    parser.add_argument("image", metavar="PHOTO", help="image in any format that Pillow reads")
    parser.add_argument(
        "-o", "--output", metavar="OUT", help="page to write (default: PHOTO.html, beside it)"
    )
    parser.add_argument(
        "-q",
        "--quality",
        type=arguments.quality,
        default=50.0,
        metavar="Q",
        help="quality of nic, 0 to 100 (default: %(default)g)",
    )
    parser.add_argument(
        "--psnr", action="store_true", help="match the others to nic's PSNR, not to its size"
    )
    parser.add_argument(
        "--rivals",
        default="jpeg,webp,avif",
        metavar="NAMES",
        help="codecs to compare with, as for `nic eval` (default: %(default)s)",
    )
    arguments.add_weights(parser)
    arguments.add_force(parser)


def main(args: argparse.Namespace) -> int:
    """Run `nic compare`; returns the exit code."""
    from tqdm import tqdm

    from nic.evaluation import page, rivals

    pixels = images.load_pixels(sys.stdin.buffer if args.image == files.STREAM else args.image)
    output = args.output or files.default_output(args.image, ".html")
    files.check_output(output, args.image, args.force)
    names = [name.strip() for name in args.rivals.split(",") if name.strip()]
    codecs = rivals.installed(["nic", *names], args.weights, warnings.warn)
    image = Image.fromarray(pixels)
    with tqdm(codecs, unit="codec", leave=False, disable=None) as bar:
        trials, curves = compare(image, bar, args.quality, args.psnr)
    name = files.printable(Path(args.image).name) if args.image != files.STREAM else "image"
    data = page.render(name, image, trials, curves, args.psnr).encode()
    files.write(output, data, args.force)
    print(f"nic: {output}: {len(data)} bytes", file=sys.stderr)
    if len(data) > LARGE_PAGE:
        warnings.warn("a large page: browsers need a while and much memory for it", stacklevel=2)
    return 0


def compare(
    image: Image.Image, codecs: list[Codec], quality: float, by_psnr: bool
) -> tuple[list[Trial], dict[str, Curve]]:
    """One trial of each codec, the first at a quality and the others as close to it as they get.

    image: L or RGB; codecs: nic first; by_psnr: close in PSNR instead of in bytes. Also returns
    the (bpp, PSNR) points of each codec.
    """
    trials, curves = [], {}
    measure = _finite_psnr if by_psnr else _size
    for codec in codecs:
        if not trials:
            points = [attempt(codec, image, q) for q in CURVE_QUALITIES if q != quality]
            curve = [(trial.bpp, trial.psnr) for trial in points]
            found = attempt(codec, image, quality)
        else:
            found, curve = match(codec, image, measure(trials[0]), measure)
        trials.append(found)
        curves[codec.name] = sorted({*curve, (found.bpp, found.psnr)})
    return trials, curves


def match(
    codec: Codec, image: Image.Image, target: float, measure: Callable[[Trial], float]
) -> tuple[Trial, Curve]:
    """The trial at a whole-numbered quality whose `measure` comes closest to `target`, and of
    several as close the one of the highest PSNR.

    Found by bisection, between points of a coarse curve; also returns all points tried.
    """
    found: dict[float, float] = {}
    points: dict[float, tuple[float, float]] = {}

    def measured(quality: float) -> float:
        trial = attempt(codec, image, quality)
        points[quality] = trial.bpp, trial.psnr
        found[quality] = measure(trial)
        return found[quality]

    for quality in codec.qualities[::CURVE_STEP]:
        measured(quality)
    low = max((q for q, value in found.items() if value < target), default=-1)
    high = min((q for q, value in found.items() if value >= target), default=101)
    bisect_left(range(low + 1, high), target, key=measured)  # for those it tries on its way
    nearest = min(found, key=lambda quality: (abs(found[quality] - target), -points[quality][1]))
    return attempt(codec, image, nearest), list(points.values())


def _size(trial: Trial) -> float:
    return len(trial.data)


def _finite_psnr(trial: Trial) -> float:
    return min(trial.psnr, LOSSLESS_DB)
