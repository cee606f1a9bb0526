"""Where a run's numbers go: CSV files always, Weights & Biases when asked."""

from __future__ import annotations

import csv
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

from nic.extras import require
from nic.training.config import TrainConfig
from nic.training.loss import MEASURES


class RunLog:
    """log.csv: averages of every `EVERY` steps; eval.csv: real files."""

    EVERY = 50

    def __init__(self, folder: Path, config: TrainConfig):
        self.folder = folder
        self.progress: dict[str, float] = {}
        self.measured: list[Tensor] = []
        self.wandb = _start_wandb(folder, config) if config.wandb else None

    def step(self, progress: dict[str, float], measured: Tensor) -> None:
        """Add one optimiser step's measurements, MEASURES and the gradient's norm, which a GPU may
        still be at."""
        self.measured.append(measured)
        self.progress = progress
        if len(self.measured) == self.EVERY:
            self.flush()

    def flush(self) -> None:
        """Write the steps since the last row as one."""
        if not self.measured:
            return
        means = torch.stack(self.measured).mean(0).tolist()
        row = self.progress | dict(zip((*MEASURES, "grad_norm"), means))
        row["lr"] = row.pop("lr")  # last, as always in log.csv
        self._write("log.csv", row)
        self.measured = []

    def evaluation(self, step: int, points: list[dict[str, float]]) -> None:
        """Add rate-distortion points measured on real files."""
        for point in points:
            self._write("eval.csv", {"step": step, **point})

    def _write(self, name: str, row: dict[str, float]) -> None:
        path = self.folder / name
        new = not path.exists()
        with open(path, "a", newline="") as file:
            writer = csv.DictWriter(file, list(row))
            if new:
                writer.writeheader()
            writer.writerow({k: f"{v:.6g}" for k, v in row.items()})
        if self.wandb:
            prefix = Path(name).stem
            self.wandb.log({f"{prefix}/{k}": v for k, v in row.items()})


def _start_wandb(folder: Path, config: TrainConfig):
    require("wandb", "wandb")
    import wandb

    mode = "offline" if config.wandb_offline else "online"
    return wandb.init(project=config.wandb, dir=folder, mode=mode, config=asdict(config))
