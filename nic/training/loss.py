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


class RateDistortion:
    """bpp + lmbda(s) * MSE, MSE in grey levels squared (0..255), lmbda log-linear in s."""

    def __init__(self, config: ModelConfig):
        self.low, self.ratio = config.lmbda_min, config.lmbda_max / config.lmbda_min

    def lmbda(self, s: Tensor) -> Tensor:
        return self.low * self.ratio**s

    def __call__(self, output: Output, x: Tensor, s: Tensor) -> tuple[Tensor, dict[str, float]]:
        """Loss of a batch and its measurements, means over the crops: of which `bpp_low`, `mse_low`
        are over the lower, `bpp_high`, `mse_high` over the upper half of the batch's qualities."""
        pixels = x.shape[2] * x.shape[3]
        bpp_z = output.bits_z / pixels
        bpp = output.bits_y / pixels + bpp_z
        mse = (output.x_hat - x).square().mean((1, 2, 3)) * 255**2
        lmbda = self.lmbda(s)
        loss = ((bpp + lmbda * mse) * (lmbda / REFERENCE_LMBDA) ** -BALANCE).mean()
        half = max(1, len(s) // 2)
        with torch.no_grad():
            measured = {
                "loss": loss,
                "bpp": bpp.mean(),
                "psnr": (10 * torch.log10(255**2 / mse.clamp(min=1e-3))).mean(),
                "bpp_z": bpp_z.mean(),
                "bpp_low": bpp[:half].mean(),
                "mse_low": mse[:half].mean(),
                "bpp_high": bpp[-half:].mean(),
                "mse_high": mse[-half:].mean(),
            }
        return loss, {k: v.item() for k, v in measured.items()}
