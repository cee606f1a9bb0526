"""The papers' transforms (Balle et al. 2018; Minnen et al. 2018): strided 5x5 convolutions and GDN.

Where the papers transpose a strided 5x5 convolution, a 3x3 convolution to four times the channels
and PixelShuffle(2) do the same and a little more: together its kernels reach 6x6 pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nic.config import GDN_FLOOR, LEAKY_SLOPE, Y_SCALE, Z_START_SCALE, ModelConfig
from nic.transforms.anchors import Anchors


class GDN(nn.Module):
    """Generalised divisive normalisation (Balle et al. 2016): x / sqrt(beta + gamma x^2).

    Here the inverse multiplies instead. `beta` and `gamma` hold the square roots of what these
    letters stand for in the paper: nothing becomes negative, and no gradient is cut off.
    """

    def __init__(self, channels: int, inverse: bool = False):
        super().__init__()
        self.inverse = inverse
        self.beta = nn.Parameter(torch.ones(channels))
        # 0.1 on the diagonal and 0.0001 beside it, when squared.
        self.gamma = nn.Parameter(0.01 + 0.3 * torch.eye(channels))

    def forward(self, x: Tensor) -> Tensor:
        gamma, beta = self.gamma.square(), self.beta.square() + GDN_FLOOR
        norm = F.conv2d(x.square(), gamma[:, :, None, None], beta)
        return x * (norm.sqrt() if self.inverse else norm.rsqrt())


class Analysis(nn.Module):
    """g_a: four 5x5 convolutions of stride 2 with GDN in between."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        widths = [3, config.N, config.N, config.N, config.M]
        self.conv = nn.ModuleList(
            nn.Conv2d(a, b, 5, stride=2, padding=2) for a, b in zip(widths, widths[1:])
        )
        self.gdn = nn.ModuleList(GDN(config.N) for _ in range(3))

    def forward(self, x: Tensor, s: Tensor) -> Tensor:
        """Image -> y. The quality enters at the quantiser alone, here and in g_s."""
        for conv, gdn in zip(self.conv, self.gdn):
            x = gdn(conv(x))
        return self.conv[-1](x).float() * Y_SCALE


class Synthesis(nn.Module):
    """g_s: the mirror image of `Analysis`."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        widths = [config.M, config.N, config.N, config.N, 3]
        self.conv = nn.ModuleList(
            nn.Conv2d(a, 4 * b, 3, padding=1) for a, b in zip(widths, widths[1:])
        )
        self.gdn = nn.ModuleList(GDN(config.N, inverse=True) for _ in range(3))

    def forward(self, y_hat: Tensor, u_hat: Tensor, s: Tensor) -> Tensor:
        """Decoded latents -> image, not yet clamped."""
        x = y_hat / Y_SCALE
        for conv, gdn in zip(self.conv, self.gdn):
            x = gdn(F.pixel_shuffle(conv(x), 2))
        return F.pixel_shuffle(self.conv[-1](x), 2).float()


class HyperAnalysis(nn.Module):
    """h_a: whitened latents, or their magnitudes where only scales are predicted -> z."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        Z = config.z_channels
        self.magnitudes = not config.means
        self.gain = Anchors(config.anchors, config.M)
        self.conv = nn.ModuleList(
            [
                nn.Conv2d(config.M, Z, 3, padding=1),
                nn.Conv2d(Z, Z, 5, stride=2, padding=2),
                nn.Conv2d(Z, Z, 5, stride=2, padding=2),
            ]
        )

    def forward(self, u: Tensor, s: Tensor) -> Tensor:
        h = u * self.gain(s).exp()
        h = self.conv[0](h.abs() if self.magnitudes else h)
        for conv in self.conv[1:]:
            h = conv(F.leaky_relu(h, LEAKY_SLOPE))
        return h * Z_START_SCALE
