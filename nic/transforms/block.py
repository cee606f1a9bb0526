"""nic-1's transforms: a block transform, a residual network on 8x8 blocks beside it, and one on 4x4
blocks that refines what these see and give."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nic.config import BASE_STEP, LATENT_STRIDE, LEAKY_SLOPE, Z_START_SCALE, ModelConfig
from nic.transforms.anchors import Anchors


class ResidualBottleneck(nn.Module):
    """x + 1x1(ReLU(3x3(ReLU(1x1(x))))), half as wide inside."""

    def __init__(self, channels: int):
        super().__init__()
        inner = channels // 2
        self.layers = nn.Sequential(
            nn.Conv2d(channels, inner, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(inner, inner, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(inner, channels, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


def _blocks(count: int, channels: int) -> nn.Sequential:
    return nn.Sequential(*[ResidualBottleneck(channels) for _ in range(count)])


def _zeroed(layer: nn.Conv2d) -> nn.Conv2d:
    """A layer that starts silent, so that a network starts as the linear path beside it."""
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


class Analysis(nn.Module):
    """g_a: a 16x16 block transform plus a residual network on 8x8 blocks of pixels, to whose
    features one on 4x4 blocks adds."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        N, M = config.N, config.M
        self.linear = nn.Conv2d(3, M, LATENT_STRIDE, stride=LATENT_STRIDE)
        self.head = nn.Conv2d(3 * 64, N, 1)
        if config.detail_blocks:
            K = config.detail_channels
            self.detail_head = nn.Conv2d(3 * 16, K, 1)
            self.detail_gain = Anchors(config.anchors, K)
            self.detail = _blocks(config.detail_blocks, K)
            self.detail_down = _zeroed(nn.Conv2d(4 * K, N, 1))
        self.fine_gain = Anchors(config.anchors, N)
        self.fine = _blocks(config.fine_blocks, N)
        self.down = nn.Conv2d(N, N, 3, stride=2, padding=1)
        self.coarse_gain = Anchors(config.anchors, N)
        self.coarse = _blocks(config.coarse_blocks, N)
        self.tail = _zeroed(nn.Conv2d(N, M, 1))

    def forward(self, x: Tensor, s: Tensor) -> Tensor:
        """Image and quality -> y."""
        h = self.head(F.pixel_unshuffle(x, 8))
        if self.config.detail_blocks:
            d = self.detail_head(F.pixel_unshuffle(x, 4)) * self.detail_gain(s).exp()
            h = h + self.detail_down(F.pixel_unshuffle(self.detail(d), 2))
        h = self.fine(h * self.fine_gain(s).exp())
        h = self.coarse(self.down(h) * self.coarse_gain(s).exp())
        return self.linear(x) + self.tail(h)


class Synthesis(nn.Module):
    """g_s: the mirror image of `Analysis`, from y_hat and its whitened form u_hat. The network on
    4x4 blocks also sees the pixels as they are before it."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        N, M = config.N, config.M
        self.linear = nn.Conv2d(M, 3 * LATENT_STRIDE**2, 1)
        self.head = nn.Conv2d(M, N, 1)
        self.coarse_gain = Anchors(config.anchors, N)
        self.coarse = _blocks(config.coarse_blocks, N)
        self.up = nn.Conv2d(N, 4 * N, 1)
        self.fine_gain = Anchors(config.anchors, N)
        self.fine = _blocks(config.fine_blocks, N)
        self.tail = _zeroed(nn.Conv2d(N, 3 * 64, 1))
        if config.detail_blocks:
            K = config.detail_channels
            self.detail_head = nn.Conv2d(3 * 16, K, 1)
            self.detail_up = nn.Conv2d(N, 4 * K, 1)
            self.detail_gain = Anchors(config.anchors, K)
            self.detail = _blocks(config.detail_blocks, K)
            self.detail_tail = _zeroed(nn.Conv2d(K, 3 * 16, 1))

    def forward(self, y_hat: Tensor, u_hat: Tensor, s: Tensor) -> Tensor:
        """Decoded latents and quality -> image, not yet clamped."""
        h = self.coarse(self.head(u_hat) * self.coarse_gain(s).exp())
        h = self.fine(F.pixel_shuffle(self.up(h), 2) * self.fine_gain(s).exp())
        linear = F.pixel_shuffle(self.linear(y_hat), LATENT_STRIDE)
        x = linear.float() * BASE_STEP + F.pixel_shuffle(self.tail(h), 8).float()
        if self.config.detail_blocks:
            d = self.detail_head(F.pixel_unshuffle(x, 4)) + F.pixel_shuffle(self.detail_up(h), 2)
            d = self.detail(d * self.detail_gain(s).exp())
            x = x + F.pixel_shuffle(self.detail_tail(d), 4).float()
        return x * BASE_STEP


class HyperAnalysis(nn.Module):
    """h_a: whitened latents -> z, on magnitudes as well as values."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        C = config.hyper_channels
        self.gain = Anchors(config.anchors, config.M)
        self.head = nn.Conv2d(2 * config.M, C, 1)
        self.block = ResidualBottleneck(C)
        self.down1 = nn.Conv2d(C, C, 5, stride=2, padding=2)
        self.down2 = nn.Conv2d(C, config.z_channels, 5, stride=2, padding=2)

    def forward(self, u: Tensor, s: Tensor) -> Tensor:
        u = u * self.gain(s).exp()
        h = self.block(self.head(torch.cat([u, u.abs()], dim=1)))
        h = self.down1(F.leaky_relu(h, LEAKY_SLOPE))
        return self.down2(F.leaky_relu(h, LEAKY_SLOPE)) * Z_START_SCALE
