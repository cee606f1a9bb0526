"""`python -m nic.evaluation.demo`: what nic does, on one photograph, in a minute.

Encodes the bundled photograph at three qualities, decodes the files again, prints sizes, fidelity
and times beside JPEG and WebP files of about the same size, and writes all of it to demo/ together
with one picture that shows the same detail from each. The photograph is in the training set: this
shows how the files look, and results on test images come from `nic eval`.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from nic import images
from nic.commands import arguments
from nic.errors import NicError
from nic.evaluation.bench import PHOTO, quality_for
from nic.evaluation.trial import Trial, attempt
from nic.extras import require
from nic.files import write_atomic
from nic.picture import Picture

QUALITIES = (10, 30, 60)
RIVALS = ("webp", "jpeg")

DETAIL = (200, 90, 440, 270)
"""Left, top, right and bottom of the detail shown, in pixels of the photograph."""

NOTE = "The photograph is in the training set; results on test images come from `nic eval`."


def run(folder: Path, model: Path | None = None) -> list[list[Trial]]:
    """Write the demonstration to a folder; returns per quality the trials of nic and its rivals."""
    from nic.evaluation import rivals

    image = Image.open(PHOTO)
    nic = rivals.find("nic", model)
    others = [rivals.find(name) for name in RIVALS]
    others = [codec for codec in others if codec.version() is not None]
    nic.decode(nic.encode(image, QUALITIES[0]))  # The first use loads the model; do not time it.
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for quality in QUALITIES:
        ours = attempt(nic, image, quality)
        theirs = [attempt(codec, image, quality_for(codec, image, ours.bpp)) for codec in others]
        rows.append([ours, *theirs])
        name = f"photo-q{quality}"
        write_atomic(folder / f"{name}.nic", ours.data, overwrite=True)
        write_atomic(folder / f"{name}.png", _png(ours.pixels), overwrite=True)
    write_atomic(folder / "comparison.png", _png(comparison(image, rows)), overwrite=True)
    return rows


def comparison(image: Image.Image, rows: list[list[Trial]]) -> np.ndarray:
    """The same detail, enlarged twice: per quality the original and every codec, with captions.

    Pixels, uint8 (H, W, 3).
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    original = np.asarray(image)
    figure = Figure(figsize=(4.2 * (1 + len(rows[0])), 3.5 * len(rows)), layout="constrained")
    for line, trials in zip(np.atleast_2d(figure.subplots(len(rows), 1 + len(rows[0]))), rows):
        pictures = [(original, "original\n24 bpp")]
        pictures += [(trial.pixels, _caption(trial)) for trial in trials]
        for axes, (pixels, caption) in zip(line, pictures):
            axes.imshow(Image.fromarray(pixels).crop(DETAIL), interpolation="nearest")
            axes.set_title(caption, fontsize=13)
            axes.axis("off")
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]


def _caption(trial: Trial) -> str:
    return f"{trial.codec}\n{trial.bpp:.2f} bpp, {trial.psnr:.1f} dB"


def _png(pixels: np.ndarray) -> bytes:
    return images.to_bytes(Picture(pixels), "PNG")


def _print(rows: list[list[Trial]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("codec", "quality", "bytes", "bpp", "PSNR dB", "encode s", "decode s")
    for trials in rows:
        for trial in trials:
            table.add_row(
                trial.codec,
                f"{trial.quality:g}",
                f"{len(trial.data)}",
                f"{trial.bpp:.3f}",
                f"{trial.psnr:.2f}",
                f"{trial.encode_s:.3f}",
                f"{trial.decode_s:.3f}",
            )
        table.add_section()
    Console().print(table)


def main() -> int:
    """Run the demonstration; returns the exit code."""
    parser = argparse.ArgumentParser(description="Show what nic does, on one photograph.")
    parser.add_argument("-o", "--output", type=Path, default=Path("demo"), metavar="FOLDER")
    arguments.add_weights(parser)
    args = parser.parse_args()
    try:
        require("eval", "matplotlib", "rich")
        _print(run(args.output, args.weights))
    except NicError as error:
        print(f"nic: {error}", file=sys.stderr)
        return error.exit_code
    print(f"{NOTE}\nWritten to {args.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
