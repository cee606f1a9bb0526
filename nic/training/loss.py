"""What training minimises."""

from __future__ import annotations

import torch
from torch import Tensor

from nic.config import ModelConfig
from nic.training.model import Output

REFERENCE_LMBDA = 0.013
BALANCE = 0.4
"""Each crop's loss is weighted with (lmbda / REFERENCE_LMBDA) ** -BALANCE, so that the large losses
of high rates do not drown the low ones."""

MEASURES = ("loss", "bpp", "psnr", "bpp_z", "bpp_low", "mse_low", "bpp_high", "mse_high")
"""What is logged of a batch: `low` and `high` are the lower and upper half of its qualities."""


class RateDistortion:
    """bpp + lmbda(s) * MSE, MSE in grey levels squared (0..255), lmbda log-linear in s."""

    def __init__(self, config: ModelConfig):
        self.low, self.ratio = config.lmbda_min, config.lmbda_max / config.lmbda_min

    def lmbda(self, s: Tensor) -> Tensor:
        return self.low * self.ratio**s

    def __call__(self, output: Output, x: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        """Loss of a batch and its MEASURES, means over the crops."""
        pixels = x.shape[2] * x.shape[3]
        bpp_z = output.bits_z / pixels
        bpp = output.bits_y / pixels + bpp_z
        mse = (output.x_hat - x).square().mean((1, 2, 3)) * 255**2
        lmbda = self.lmbda(s)
        loss = ((bpp + lmbda * mse) * (lmbda / REFERENCE_LMBDA) ** -BALANCE).mean()
        half = max(1, len(s) // 2)
        with torch.no_grad():
            psnr = 10 * torch.log10(255**2 / mse.clamp(min=1e-3))
            measured = [bpp, psnr, bpp_z, bpp[:half], mse[:half], bpp[-half:], mse[-half:]]
            return loss, torch.stack([loss.detach(), *(values.mean() for values in measured)])
