"""`nic bench`: seconds to encode and decode one photograph on this machine, beside WebP and AVIF.

Medians over several runs in one process, after a first one that loads libraries and model. Ratios
are taken within one call, so that the machine's state cancels out.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np

from nic.commands import arguments
from nic.evaluation.machine import cpu_name
from nic.extras import require

PHOTO = Path(__file__).with_name("photo.png")
"""The bundled photograph, 768x512; see photo.txt."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `nic bench`."""
    parser.add_argument(
        "image", nargs="?", type=Path, default=PHOTO, help="image (default: a 768x512 photograph)"
    )
    parser.add_argument(
        "--bpp", type=arguments.positive, default=0.5, help="rate to time at (default: 0.5)"
    )
    parser.add_argument(
        "--runs", type=arguments.count, default=5, help="runs of each codec (default: 5)"
    )
    parser.add_argument(
        "--threads",
        type=arguments.count,
        help="threads of nic's matrix products (default: one a processor, eight at most)",
    )
    arguments.add_weights(parser)
    parser.add_argument(
        "--memory",
        type=arguments.positive,
        metavar="MP",
        help="instead, measure the peak memory of coding an image of MP million pixels",
    )


def main(args: argparse.Namespace) -> int:
    """Run `nic bench`; returns the exit code."""
    if args.memory:
        return _print_memory(args.memory)
    require("eval", "rich")
    from PIL import Image
    from rich.console import Console
    from threadpoolctl import threadpool_limits

    from nic import images, models
    from nic.evaluation import rivals
    from nic.threads import MOST

    pixels = images.load_pixels(args.image)
    image = Image.fromarray(pixels)
    codecs = [rivals.find(name, args.weights) for name in ("nic", "webp", "avif")]
    codecs = [codec for codec in codecs if codec.version() is not None]
    threads = min(args.threads or os.cpu_count(), MOST)
    with threadpool_limits(threads, "blas"):
        found = {codec.name: time_codec(codec, image, args.bpp, args.runs) for codec in codecs}
        quality = found["nic"]["quality"]
        stages = time_stages(pixels, quality, models.load(args.weights), args.runs)
    console = Console(markup=False)
    console.print(f"{args.image.name}, {image.width}x{image.height}, median of {args.runs} runs")
    console.print(f"{cpu_name()}, nic on {threads} thread(s), others on one")
    console.print(_table(found))
    for direction, seconds in stages.items():
        parts = ", ".join(f"{stage} {value:.3f} s" for stage, value in seconds.items())
        console.print(f"nic {direction}: {parts}")
    return 0


def _print_memory(megapixels: float) -> int:
    from nic.evaluation.memory import measure

    print(f"{megapixels:g} million pixels, quality 50, one process each")
    for peak in measure(megapixels, PHOTO):
        print(f"nic {peak.task}: {peak.gigabytes:.2f} GB at most, {peak.seconds:.0f} s")
    return 0


def quality_for(codec, image, bpp: float) -> int:
    """The codec's quality in whole numbers whose file comes closest to `bpp`, by bisection."""
    rates = {}

    def rate(quality: int) -> float:
        rates[quality] = 8 * len(codec.encode(image, quality)) / (image.width * image.height)
        return rates[quality]

    bisect_left(range(101), bpp, key=rate)  # for the qualities that it tries on its way
    return min(rates, key=lambda quality: abs(rates[quality] - bpp))


def time_codec(codec, image, bpp: float, runs: int) -> dict[str, float]:
    """Quality found for `bpp`, the rate it gives, and median seconds of both directions."""
    quality = quality_for(codec, image, bpp)
    data = codec.encode(image, quality)
    codec.decode(data)
    return {
        "quality": quality,
        "bpp": 8 * len(data) / (image.width * image.height),
        "encode_s": _median_seconds(lambda: codec.encode(image, quality), runs),
        "decode_s": _median_seconds(lambda: codec.decode(data), runs),
    }


def time_stages(pixels: np.ndarray, quality: float, model, runs: int) -> dict[str, dict]:
    """Median seconds of nic's stages, by direction."""
    from nic import codec
    from nic.picture import Picture

    seconds = {"encode": defaultdict(list), "decode": defaultdict(list)}
    for _ in range(runs):
        reports = {"encode": {}, "decode": {}}
        data = codec.encode(Picture(pixels), quality, model=model, report=reports["encode"])
        codec.decode(data, model=model, report=reports["decode"])
        for direction, report in reports.items():
            for stage, value in report["seconds"].items():
                seconds[direction][stage].append(value)
    return {
        direction: {stage: statistics.median(values) for stage, values in stages.items()}
        for direction, stages in seconds.items()
    }


def _median_seconds(function: Callable[[], object], runs: int) -> float:
    taken = []
    for _ in range(runs):
        start = time.perf_counter()
        function()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def _table(found: dict[str, dict[str, float]]):
    """Times of every codec, and how many times as long nic takes."""
    from rich.table import Table

    table = Table("codec", "quality", "bpp", "encode s", "decode s", "nic / it, encode", "decode")
    nic = found["nic"]
    for name, times in found.items():
        ratios = [f"{nic[key] / times[key]:.1f}" for key in ("encode_s", "decode_s")]
        table.add_row(
            name,
            f"{times['quality']:g}",
            f"{times['bpp']:.3f}",
            f"{times['encode_s']:.4f}",
            f"{times['decode_s']:.4f}",
            *(ratios if name != "nic" else ["", ""]),
        )
    return table
