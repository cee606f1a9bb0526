"""What depends on the quality."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Anchors(nn.Module):
    """Vectors learned at evenly spaced qualities, linearly interpolated in between.

    Gains are the exponential of such a vector (Cui et al. 2021, sec. 3.2), so that interpolation is
    in the log domain.
    """

    def __init__(self, anchors: int, channels: int, first: float = 0.0, last: float = 0.0):
        super().__init__()
        line = torch.linspace(first, last, anchors)
        self.values = nn.Parameter(line[:, None].repeat(1, channels))

    def forward(self, s: Tensor) -> Tensor:
        """(B,) in 0..1 -> (B, channels, 1, 1)."""
        position = s[:, None] * (len(self.values) - 1)
        below = position.floor().clamp(0, len(self.values) - 2)
        fraction = position - below
        # A product: the gradient of indexing would sort the indices.
        anchors = torch.arange(len(self.values), device=s.device)
        shares = (anchors == below) * (1 - fraction) + (anchors == below + 1) * fraction
        with torch.autocast(s.device.type, enabled=False):
            return (shares @ self.values)[:, :, None, None]
