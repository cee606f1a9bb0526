"""Which precision PyTorch's matrix products are taken in where exactness is not needed."""

from __future__ import annotations

import torch


def fast_dtype(device: torch.device | str = "cpu") -> torch.dtype:
    """bfloat16 where the device multiplies in it; float32 where it would be emulated, which on a
    CPU takes tens of times longer."""
    if torch.device(device).type == "cuda":
        native = torch.cuda.get_device_capability(device) >= (8, 0)
    else:
        native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.bfloat16 if native else torch.float32
