"""Rate and distortion of a model in training, by real files: exported, encoded, decoded."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from nic import codec, models
from nic.fidelity import psnr
from nic.picture import Picture
from nic.training.export import export_model
from nic.training.model import TrainableModel

QUALITIES = (10.0, 35.0, 60.0, 85.0)


def real_files(
    model: TrainableModel, scratch: Path, pictures: list[np.ndarray]
) -> list[dict[str, float]]:
    """Mean bpp, estimated bpp and PSNR (dB) over pictures of uint8 pixels, by quality."""
    export_model(model, scratch, overwrite=True)
    exported = models.read(scratch)
    points = []
    for quality in QUALITIES:
        rows = [_code(pixels, quality, exported) for pixels in pictures]
        bpp, estimated, fidelity = np.mean(rows, axis=0)
        points.append(
            {"quality": quality, "bpp": bpp, "estimated_bpp": estimated, "psnr": fidelity}
        )
    return points


def _code(pixels: np.ndarray, quality: float, model: models.Model) -> tuple[float, float, float]:
    report: dict = {}
    data = codec.encode(Picture(pixels), quality, model=model, report=report)
    area = pixels.shape[0] * pixels.shape[1]
    decoded = codec.decode(data, model=model).pixels
    return 8 * len(data) / area, report["estimated_bits"] / area, psnr(pixels, decoded)
