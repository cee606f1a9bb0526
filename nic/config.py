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

GDN_FLOOR = 2**-10
"""Least value of a GDN's sum, whatever its weights: nothing is divided by zero."""

Y_SCALE = 16 / BASE_STEP
"""Scales the output of the papers' g_a: each of its four convolutions starts as half an orthonormal
transform, so that pixels and features are of one size, and y is in the units of nic-1's."""

MAX_CHANNELS = 4096
"""Largest width that a configuration may name."""

QUALITY_STEPS = 256
"""Integer quality steps a header can name; quality 0..100 maps linearly onto 0..255."""


@dataclass(frozen=True)
class ModelConfig:
    """Architecture of one model; stored whole in its weight file.

    Channel counts follow the papers' letters where they have one: N (width of the transforms) and
    M (channels of the latent y). ValueError where a field makes no sense.
    """

    name: str
    transforms: str = "block"
    """`block`: a block transform and residual networks; `gdn`: those of Balle et al. 2018."""
    N: int = 256
    M: int = 320
    fine_blocks: int = 4
    """Of `block` transforms: residual blocks at 1/8 of the image's resolution, on each side."""
    coarse_blocks: int = 2
    """Of `block` transforms: residual blocks at 1/16."""
    detail_blocks: int = 0
    """Of `block` transforms: residual blocks at 1/4, where a network sees within 8x8 pixels."""
    detail_channels: int = 128
    """Width of the networks at 1/4."""
    z_channels: int = 96
    hyper_channels: int = 128
    psi_channels: int = 192
    """Channels of psi = h_s(z_hat)."""
    phi_channels: int = 192
    """Channels of phi, the features of the masked convolution; 0: no context."""
    entropy_channels: tuple[int, ...] = (384, 384)
    """Hidden widths of the entropy-parameter network."""
    means: bool = True
    """Whether means are predicted; if not, they are zero, and `gdn`'s h_a sees magnitudes only."""
    anchors: int = 8
    """Qualities at which gains are learned; those between are interpolated in the log domain."""
    lmbda_min: float = 0.0003
    lmbda_max: float = 0.36
    """Weight of the MSE (0..255 squared) against bpp at s = 0 and s = 1, which training covers."""
    s_max: float = 1.03
    """s at quality 100: a little beyond what was trained, where gains are extrapolated."""

    def __post_init__(self):
        widths = self.N, self.M, self.z_channels, self.hyper_channels, self.psi_channels
        widths += (self.detail_channels, *self.entropy_channels)
        blocks = self.fine_blocks, self.coarse_blocks, self.detail_blocks
        least = [*((n, 1) for n in widths), *((n, 0) for n in (*blocks, self.phi_channels))]
        sound = (
            isinstance(self.name, str)
            and self.transforms in ("block", "gdn")
            and all(isinstance(n, int) and low <= n <= MAX_CHANNELS for n, low in least)
            and isinstance(self.anchors, int)
            and 2 <= self.anchors <= QUALITY_STEPS
            and 1 <= len(self.entropy_channels) <= 8
            and all(1e-6 <= x <= 1000 for x in (self.lmbda_min, self.lmbda_max))
            and 0 < self.s_max <= 2
            and (self.means or not self.phi_channels)  # a context's use is to predict means
        )
        if not sound:
            raise ValueError("a configuration that makes no sense")

    def s(self, step: int) -> float:
        """What the networks know of the quality: 0 at step 0, s_max at the last."""
        return self.s_max * step / (QUALITY_STEPS - 1)

    def lmbda(self, step: int) -> float:
        """Weight of the MSE against bpp at a quality step."""
        return self.lmbda_min * (self.lmbda_max / self.lmbda_min) ** self.s(step)


_PAPERS = {
    "transforms": "gdn",
    "N": 128,
    "M": 192,
    "fine_blocks": 0,
    "coarse_blocks": 0,
    "z_channels": 128,
    # The papers give the rates above these wider transforms.
    "lmbda_min": 0.0016,
    "lmbda_max": 0.05,
}

CONFIGS = {
    config.name: config
    for config in [
        ModelConfig("nic-1", fine_blocks=6, detail_blocks=3),
        # Balle et al. 2018, "Variational image compression with a scale hyperprior".
        ModelConfig(
            "bmshj2018-hyperprior",
            **_PAPERS,
            hyper_channels=128,
            psi_channels=192,
            phi_channels=0,
            entropy_channels=(192,),
            means=False,
        ),
        # Minnen et al. 2018, "Joint autoregressive and hierarchical priors for learned image
        # compression": without the autoregressive part, and with it.
        ModelConfig(
            "mbt2018-mean",
            **_PAPERS,
            hyper_channels=192,
            psi_channels=384,
            phi_channels=0,
            entropy_channels=(384,),
        ),
        ModelConfig(
            "mbt2018",
            **_PAPERS,
            hyper_channels=192,
            psi_channels=384,
            phi_channels=384,
            entropy_channels=(640, 512),
        ),
    ]
}
"""Models by name."""
