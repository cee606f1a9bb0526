"""Architectures by name, and the constants that every model shares."""

from __future__ import annotations

from dataclasses import dataclass

LATENT_STRIDE = 16
"""Pixels per latent position, in each direction, for every model."""

HYPER_STRIDE = 4
"""Latent positions per hyperlatent position, in each direction."""

LEAKY_SLOPE = 1 / 8
"""Slope of LeakyReLU: a power of two, so that the integer layers can shift."""

BASE_STEP = 22 / 255
"""Quantiser step of a unit-norm basis function at gain 1, pixels in 0..1."""

Z_START_SCALE = 3.0
"""Scales h_a's output, so that z carries information from training's first step."""

QUALITY_STEPS = 256
"""Integer quality steps a header can name; quality 0..100 maps linearly onto 0..255."""


@dataclass(frozen=True)
class ModelConfig:
    """Architecture of one model; stored whole in its weight file.

    Channel counts follow the papers' letters where they have one: N (width of the transforms) and
    M (channels of the latent y).
    """

    name: str
    N: int = 256
    M: int = 320
    fine_blocks: int = 4
    """Residual blocks at 1/8 of the image's resolution, in g_a and in g_s."""
    coarse_blocks: int = 2
    """Residual blocks at 1/16."""
    z_channels: int = 96
    hyper_channels: int = 128
    psi_channels: int = 192
    """Channels of psi = h_s(z_hat)."""
    phi_channels: int = 192
    """Channels of phi, the features of the masked convolution."""
    entropy_channels: tuple[int, ...] = (384, 384)
    """Hidden widths of the entropy-parameter network."""
    anchors: int = 8
    """Qualities at which gains are learned; those between are interpolated in the log domain."""
    lmbda_min: float = 0.0003
    lmbda_max: float = 0.36
    """Weight of the MSE (0..255 squared) against bpp at s = 0 and s = 1, which training covers."""
    s_max: float = 1.03
    """s at quality 100: a little beyond what was trained, where gains are extrapolated."""

    def s(self, step: int) -> float:
        """What the networks know of the quality: 0 at step 0, s_max at the last."""
        return self.s_max * step / (QUALITY_STEPS - 1)

    def lmbda(self, step: int) -> float:
        """Weight of the MSE against bpp at a quality step."""
        return self.lmbda_min * (self.lmbda_max / self.lmbda_min) ** self.s(step)


CONFIGS = {config.name: config for config in [ModelConfig("nic-1")]}
"""Models by name."""
