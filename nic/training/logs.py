"""Where a run's numbers go: CSV files always, Weights & Biases when asked."""

from __future__ import annotations

import csv
from dataclasses import asdict
from pathlib import Path

import numpy as np

from nic.extras import require
from nic.training.config import TrainConfig


class RunLog:
    """log.csv: averages of every `EVERY` steps; eval.csv: real files."""

    EVERY = 50

    def __init__(self, folder: Path, config: TrainConfig):
        self.folder, self.rows = folder, []
        self.wandb = _start_wandb(folder, config) if config.wandb else None

    def step(self, row: dict[str, float]) -> None:
        """Add one optimiser step's measurements."""
        self.rows.append(row)
        if len(self.rows) == self.EVERY:
            self.flush()

    def flush(self) -> None:
        """Write the steps since the last row as one."""
        if not self.rows:
            return
        row = self.rows[-1]
        means = {key: float(np.mean([r[key] for r in self.rows])) for key in row}
        self._write("log.csv", means | {k: row[k] for k in ("step", "minutes", "crops")})
        self.rows = []

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
