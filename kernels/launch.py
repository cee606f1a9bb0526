"""What all launchers share: Triton where it can be used, and checks of their arguments.

Triton checks nothing by itself: a tensor of another dtype, layout or device than a kernel was
written for gives wrong integers or a dead process, not an error.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

MIN_TRITON = (3, 6)
"""Version of Triton from which the kernels are known to compile."""

MIN_CAPABILITY = (8, 0)
"""Compute capability from which the kernels are known to compile."""

try:
    import triton
    import triton.language as tl
except ImportError:
    triton, _lack = None, "Triton is not installed (pip install nic[gpu])"
else:
    if tuple(map(int, triton.__version__.split(".")[:2])) < MIN_TRITON:
        triton, _lack = None, f"Triton {triton.__version__} is too old for the kernels"
if triton is None:
    tl = None

constexpr = tl.constexpr if triton else int
"""Marks a module's constant as usable in kernels."""


def jit(**options):
    """`triton.jit`, or nothing where Triton is missing, so that references can be imported."""
    return triton.jit(**options) if triton else lambda function: function


INTERPRETED = triton is not None and triton.knobs.runtime.interpret
"""Whether kernels run in Triton's interpreter, which takes tensors of the CPU."""


@cache
def obstacle(device: torch.device) -> str | None:
    """Why the Triton kernels cannot run on a device; None where they can."""
    if triton is None:
        return _lack
    if INTERPRETED:
        return None
    if device.type != "cuda":
        return f"Triton needs a CUDA device, not {device.type}"
    if torch.version.cuda is None:
        return "this build of PyTorch is not for CUDA"
    if torch.cuda.get_device_capability(device) < MIN_CAPABILITY:
        return f"{torch.cuda.get_device_name(device)} is older than compute capability 8.0"
    return _failure(device)


@jit()
def _trial_kernel(out_ptr):
    tl.store(out_ptr, 1)


def _failure(device: torch.device) -> str | None:
    """What keeps the least of kernels from running: no C compiler, a driver too old, ..."""
    out = torch.zeros(1, dtype=torch.int32, device=device)
    try:
        with torch.cuda.device_of(out):
            _trial_kernel[(1,)](out)
        out.item()
    except Exception as error:  # of as many kinds as there are causes
        cause = (str(error).splitlines() or [""])[0]
        return f"Triton fails here ({type(error).__name__}: {cause})"
    return None


def require(device: torch.device) -> None:
    """RuntimeError where the Triton kernels cannot run on a device."""
    if reason := obstacle(device):
        raise RuntimeError(reason)


def check(
    name: str, tensor: Tensor, dtype: torch.dtype, shape: tuple[int, ...], device: torch.device
) -> None:
    """TypeError or ValueError unless a tensor is contiguous and just as described."""
    if tensor.dtype != dtype:
        raise TypeError(f"{name} must be {dtype}, not {tensor.dtype}")
    if tensor.device != device:
        raise ValueError(f"{name} must be on {device}, not on {tensor.device}")
    if tuple(tensor.shape) != shape:
        raise ValueError(f"{name} must be of shape {shape}, not {tuple(tensor.shape)}")
    if not tensor.is_contiguous():
        raise ValueError(f"{name} must be contiguous")
