"""What fuzzing starts from: nic-1's golden files, their streams, and a weight file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from vectors.make import FOLDER, NIC_1, VECTORS

from nic import container
from nic.config import ModelConfig

SMALL = ModelConfig(
    "small", N=2, M=2, fine_blocks=1, coarse_blocks=1, z_channels=1, hyper_channels=2,
    psi_channels=2, phi_channels=2, entropy_channels=(2,), anchors=2,
)  # fmt: skip


def write_seeds(target: str, folder: Path) -> None:
    """Fill a target's folder of seeds."""
    folder.mkdir(parents=True, exist_ok=True)
    if target == "weights":
        write_small_model(folder / "small.safetensors")
        return
    for name, data in golden_files():
        if target == "symbols":
            header, chunks = container.read(data)
            choice = container.LANES.index(header.lanes)
            data = bytes([choice, 0]) + chunks["L"]
        (folder / name).write_bytes(data)


def golden_files() -> Iterator[tuple[str, bytes]]:
    """Name and bytes of each."""
    for name, vector in VECTORS.items():
        if vector.weights == NIC_1:
            yield name, (FOLDER / f"{name}.nic").read_bytes()


def write_small_model(path: Path) -> None:
    """A weight file of few and random weights; any that is there is replaced."""
    from nic.training.export import export_model
    from nic.training.model import TrainableModel

    export_model(TrainableModel(SMALL).requires_grad_(False), path, overwrite=True)
