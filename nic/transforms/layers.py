"""Layers for tensors whose channels lie last in memory, where matrix products want them."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


class Pointwise(nn.Conv2d):
    """A 1x1 convolution, as the matrix product that it is."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, h, w) -> (B, outputs, h, w), channels last."""
        product = F.linear(x.permute(0, 2, 3, 1), self.weight.flatten(1), self.bias)
        return product.permute(0, 3, 1, 2)


def shuffle(x: Tensor, n: int) -> Tensor:
    """PixelShuffle: (B, n * n * c, h, w) -> (B, c, n h, n w), channels last."""
    B, C, h, w = x.shape
    x = x.permute(0, 2, 3, 1).reshape(B, h, w, C // n**2, n, n)
    return x.permute(0, 1, 4, 2, 5, 3).reshape(B, n * h, n * w, -1).permute(0, 3, 1, 2)


def unshuffle(x: Tensor, n: int) -> Tensor:
    """The inverse of `shuffle`, channels last too."""
    B, C, H, W = x.shape
    x = x.permute(0, 2, 3, 1).reshape(B, H // n, n, W // n, n, C)
    return x.permute(0, 1, 3, 5, 2, 4).reshape(B, H // n, W // n, -1).permute(0, 3, 1, 2)
