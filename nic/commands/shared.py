"""What commands share: messages on standard error, progress, and the model of --weights."""

from __future__ import annotations

import argparse
import contextlib
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from nic import files
from nic.errors import NicError

if TYPE_CHECKING:
    from nic.models import Model


def say(args: argparse.Namespace, text: str) -> None:
    """One line, unless --quiet."""
    if not args.quiet:
        _tell(text)


def say_report(args: argparse.Namespace, report: dict | None) -> None:
    """Every entry of a codec's report, those of nested dicts too."""
    for key, value in (report or {}).items():
        if isinstance(value, dict):
            say_report(args, {f"{key}: {part}": number for part, number in value.items()})
        else:
            say(args, f"{key}: {value:.4f}" if isinstance(value, float) else f"{key}: {value}")


def complain(error: object) -> None:
    """One line, after the name of the file that an error speaks of; --quiet or not."""
    _tell(": ".join([*getattr(error, "__notes__", []), str(error)]))


def _tell(text: str) -> None:
    # Where messages cannot be written, files and exit codes are as they would have been.
    with contextlib.suppress(OSError):
        print("nic:", files.printable(text), file=sys.stderr)


@contextlib.contextmanager
def about(name: str) -> Iterator[None]:
    """Says of which file an error or a warning speaks."""
    try:
        with warnings_about(lambda: name):
            yield
    except NicError as error:
        error.add_note(name)
        raise


@contextlib.contextmanager
def warnings_about(name: Callable[[], str]) -> Iterator[None]:
    """Says of which file a warning speaks; the name is asked for when it comes."""
    show = warnings.showwarning

    def named(message, category, *rest, **more) -> None:
        of_file = issubclass(category, UserWarning)
        show(f"{name()}: {message}" if of_file else message, category, *rest, **more)

    warnings.showwarning = named
    try:
        yield
    finally:
        warnings.showwarning = show


@contextlib.contextmanager
def progress_bar(args: argparse.Namespace, task: str) -> Iterator[Callable[[int, int], None]]:
    """A bar for work of more than half a second; yields what takes (steps done, steps in all)."""
    from tqdm import tqdm

    off = args.quiet or None  # None: off where standard error is no terminal
    with tqdm(desc=task, unit="step", delay=0.5, leave=False, disable=off) as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield progress


def load_model(args: argparse.Namespace, pixels: int) -> Model:
    """The model of `--weights`, or the one shipped, on the device for so many pixels."""
    from nic import models
    from nic.device import choose

    return models.load(args.weights, choose(args.device, pixels))
