"""`nic eval`: real files of nic and of other codecs, over a folder of images.

Every point is a file in full and its decoded 8-bit image. Points are appended to points.jsonl as
they are measured, so an interrupted run goes on where it stopped; the results are then written
beside it as results.json, results.csv, summary.md and two plots.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import zlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nic import images
from nic.commands import arguments
from nic.effort import DEFAULT_EFFORT, EFFORTS
from nic.extras import require
from nic.fidelity import same_channels
from nic.files import printable

if TYPE_CHECKING:
    from nic.evaluation.rivals import Codec


@dataclass(frozen=True)
class Task:
    """One point to measure; all of it but paths and device decides whether a measured one still
    holds."""

    path: Path
    image: str
    """File name, which names the image in the results."""
    crc: int
    """CRC-32 of the image file."""
    codec: str
    quality: float
    version: str
    model: Path | None
    device: str = "cpu"

    @property
    def key(self) -> tuple:
        return self.image, self.crc, self.codec, self.quality, self.version


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `nic eval`."""
    parser.add_argument("folder", type=Path, metavar="DIR", help="folder of images")
    parser.add_argument(
        "--rivals",
        type=_names,
        default=["jpeg", "webp", "avif"],
        metavar="NAMES",
        help="codecs to compare with, from jpeg, jpeg444, webp, avif, avif-default and (with"
        " pillow-jxl-plugin) jxl (default: jpeg,webp,avif)",
    )
    parser.add_argument(
        "--qualities",
        type=_numbers,
        metavar="LIST",
        help="qualities of nic, such as 5,15,30 (default: 0,10,...,100)",
    )
    parser.add_argument(
        "--efforts",
        type=_efforts,
        default=[DEFAULT_EFFORT],
        metavar="LIST",
        help="efforts of nic, such as 0,3,9 (default: 3, which the results call nic; it is always"
        " among them)",
    )
    arguments.add_weights(parser)
    arguments.add_device(parser)
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="OUT",
        help="folder of results; a run found there is resumed (default: runs/eval/<name of DIR>)",
    )
    parser.add_argument(
        "-j",
        "--jobs",
        type=arguments.count,
        default=1,
        help="processes, of one thread each when above 1",
    )


def main(args: argparse.Namespace) -> int:
    """Run `nic eval`; returns the exit code."""
    require("eval", "scipy", "matplotlib", "rich")
    from rich.console import Console
    from rich.markdown import Markdown
    from tqdm import tqdm

    from nic.evaluation import rivals, summary

    console = Console(stderr=True, markup=False)
    names = [*map(rivals.nic_name, [DEFAULT_EFFORT, *args.efforts]), *args.rivals]
    codecs = rivals.installed(names, args.weights, console.print, args.device)
    name = args.folder.resolve().name
    output = args.output or Path("runs/eval") / name
    tasks = plan(images.find(args.folder), codecs, args.qualities, args.weights, args.device)
    measured = measure_missing(
        tasks,
        output / "points.jsonl",
        args.jobs,
        lambda rows, n: tqdm(rows, total=n, unit="point", disable=None),
    )
    settings = {codec.name: codec.settings for codec in codecs}
    text = summary.write(measured, settings, output, printable(name))
    Console().print(Markdown(text))
    console.print(f"Written to {output}")
    return 0


def plan(
    paths: list[Path],
    codecs: list[Codec],
    qualities: list[float] | None,
    model: Path | None,
    device: str = "cpu",
) -> list[Task]:
    """Every point of every codec on every image; `qualities` replace nic's own."""
    from nic.evaluation.rivals import NIC_EFFORTS

    versions = {codec.name: codec.version() for codec in codecs}
    grids = {codec.name: codec.qualities for codec in codecs}
    if qualities:
        grids |= {name: tuple(qualities) for name in grids if name in NIC_EFFORTS}
    crcs = {path: zlib.crc32(path.read_bytes()) for path in paths}
    return [
        Task(path, path.name, crc, name, quality, versions[name], model, device)
        for path, crc in crcs.items()
        for name, grid in grids.items()
        for quality in grid
    ]


def measure_missing(
    tasks: list[Task],
    points: Path,
    jobs: int = 1,
    progress: Callable[[Iterator[dict], int], Iterable[dict]] = lambda rows, count: rows,
) -> list[dict]:
    """Rows of all tasks, in their order; measures those not yet in the file `points`.

    `progress` wraps the iterator of new rows, given how many there will be.
    """
    points.parent.mkdir(parents=True, exist_ok=True)
    rows = read_points(points)
    missing = [task for task in tasks if task.key not in rows]
    for path in dict.fromkeys(task.path for task in missing):
        images.load_pixels(path)  # an unreadable one is found before time is spent on the others
    with open(points, "a", encoding="utf-8") as file:
        # A line cut short by an interruption must not swallow the next one.
        file.write("" if points.read_bytes()[-1:] in (b"", b"\n") else "\n")
        for row in progress(_measure_all(missing, jobs), len(missing)):
            file.write(json.dumps(row) + "\n")
            file.flush()
            rows[_key(row)] = row
    return [rows[task.key] for task in tasks]


def read_points(path: Path) -> dict[tuple, dict]:
    """Measured rows by key; what is no row, such as a line cut short, is passed over."""
    rows = {}
    for line in path.read_bytes().splitlines() if path.exists() else []:
        with suppress(ValueError, KeyError, TypeError):
            row = json.loads(line)
            rows[_key(row)] = row
    return rows


def measure(task: Task) -> dict:
    """Encode, decode and compare one image at one quality."""
    from PIL import Image

    from nic.evaluation import metrics, rivals
    from nic.evaluation.trial import attempt

    codec = rivals.find(task.codec, task.model, task.device)
    pixels = _load(task.path)
    trial = attempt(codec, Image.fromarray(pixels), task.quality)
    return {
        "image": task.image,
        "crc": task.crc,
        "codec": task.codec,
        "quality": task.quality,
        "version": task.version,
        "bytes": len(trial.data),
        "bpp": trial.bpp,
        "psnr": _finite(trial.psnr),
        "ms_ssim": _finite(metrics.ms_ssim(*same_channels(pixels, trial.pixels))),
        "encode_s": trial.encode_s,
        "decode_s": trial.decode_s,
        "encode_cpu_s": trial.encode_cpu_s,
        "decode_cpu_s": trial.decode_cpu_s,
    }


def _measure_all(tasks: list[Task], jobs: int) -> Iterator[dict]:
    """Rows as they come, in any order."""
    used = {(task.codec, task.model, task.device) for task in tasks}
    if jobs == 1:
        _warm_up(used)
        yield from map(measure, tasks)
        return
    threads = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"
    spawn = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(jobs, spawn, initializer=_warm_up, initargs=(used,))
    try:
        for future in as_completed([pool.submit(measure, task) for task in tasks]):
            yield future.result()
    except BaseException:
        # At high efforts, what is under way would take minutes to come to its end.
        for worker in multiprocessing.active_children():
            worker.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)
        if threads is None:
            del os.environ["OMP_NUM_THREADS"]
        else:
            os.environ["OMP_NUM_THREADS"] = threads


def _warm_up(codecs: Iterable[tuple[str, Path | None, str]]) -> None:
    """Load models and libraries, so that no measured time contains it."""
    from PIL import Image

    from nic.evaluation import rivals

    for codec in (rivals.find(*names) for names in codecs):
        codec.decode(codec.encode(Image.new("RGB", (64, 64)), 50))


@lru_cache(maxsize=1)
def _load(path: Path) -> np.ndarray:
    """Pixels of one image; points of one image mostly follow each other."""
    return images.load_pixels(path)


def _finite(value: float) -> float | None:
    """JSON has no inf or nan: None for what cannot stand on a curve."""
    return value if np.isfinite(value) else None


def _key(row: dict) -> tuple:
    return row["image"], row["crc"], row["codec"], row["quality"], row["version"]


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _numbers(text: str) -> list[float]:
    try:
        numbers = [float(number) for number in text.split(",")]
    except ValueError:
        numbers = [-1.0]
    if not all(0 <= number <= 100 for number in numbers):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of numbers from 0 to 100")
    return numbers


def _efforts(text: str) -> list[int]:
    names = text.split(",")
    if not all(name.isdecimal() and int(name) in EFFORTS for name in names):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of efforts from 0 to 9")
    return [int(name) for name in names]
