"""Where images are coded: on the CPU, or on an NVIDIA GPU with PyTorch and Triton."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING

from nic.errors import InputError
from nic.extras import require

if TYPE_CHECKING:
    import torch

DEVICES = ("auto", "cpu", "cuda")

WORTHWHILE = 2**24
"""Pixels, at the default effort, from which `auto` takes a GPU: to start one takes seconds, in
which a CPU codes some millions of pixels."""


def choose(device: str, pixels: int) -> str:
    """Where to code so many pixels, at the default effort: `cpu` or `cuda`. InputError where it
    cannot be as asked."""
    if device == "auto":
        return "cuda" if pixels >= WORTHWHILE and _usable() else "cpu"
    if device != "cpu":
        check_device(device)
    return device


def check_device(device: str) -> None:
    """InputError unless it can be used."""
    if device not in DEVICES[1:]:
        raise InputError(f"no device {device!r}; there are {' and '.join(DEVICES[1:])}")
    if device == "cuda":
        if not driver_devices():
            raise InputError("no CUDA device here: this machine has no NVIDIA GPU, or no driver")
        require("gpu", "torch")
        import torch

        if not torch.cuda.is_available():
            raise InputError("PyTorch finds no CUDA device: is it a build for CUDA?")


def resolve(device: str | torch.device) -> torch.device:
    """A device for PyTorch, a GPU by its index: "cuda" alone would be whichever is current at each
    use. RuntimeError where there is none."""
    import torch

    device = torch.device(device)
    if device.type != "cuda":
        return device
    if not torch.cuda.is_available():
        raise RuntimeError("PyTorch finds no CUDA device")
    return torch.device("cuda", torch.cuda.current_device()) if device.index is None else device


@contextmanager
def memory_errors(release: Callable[[], None] = lambda: None) -> Iterator[None]:
    """What does not fit into a GPU's memory is a MemoryError, as on a CPU, after `release`."""
    import torch

    try:
        yield
    except torch.OutOfMemoryError as error:
        release()
        raise MemoryError(str(error)) from error


def _usable() -> bool:
    try:
        check_device("cuda")
    except InputError:
        return False
    return True


@cache
def driver_devices() -> int:
    """GPUs by the driver's own count: asking PyTorch takes a second, also where there are none."""
    try:
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
        count = ctypes.c_int(0)
        if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)):
            return 0
    except (OSError, AttributeError):
        return 0
    return count.value
