"""Pictures of results: rate-distortion curves, and the curves of a training run.

`python -m nic.evaluation.plots log.csv curves.png` draws the log of a training run.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Mapping
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nic.evaluation.bd_rate import Curve

LABELS = {"psnr": "PSNR (dB)", "ms_ssim": "MS-SSIM, -10 log10(1 - v) (dB)"}

# Colours that stay apart for colour-blind readers too (Okabe and Ito 2008).
COLOURS = {
    "nic": "#d55e00",
    "jpeg": "#666666",
    "jpeg444": "#999999",
    "webp": "#009e73",
    "avif": "#0072b2",
    "avif-default": "#56b4e9",
    "jxl": "#cc79a7",
}

STYLE = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e4e4e4",
    "legend.frameon": False,
    # White throughout, so that the picture reads on a dark page as well.
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
}


def rate_distortion(
    curves: Mapping[str, Curve],
    path: Path,
    measure: str,
    title: str,
    published: Mapping[str, Curve] | None = None,
) -> None:
    """Draw dB over bpp: measured curves in colour, published ones thin and gray beside them.

    measure: `psnr` or `ms_ssim`, a key of LABELS. Curves without points are left out.
    """
    curves = {name: points for name, points in curves.items() if points}
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7.5, 5), layout="constrained")
        axes = figure.subplots()
        for name, points in curves.items():
            bpp, decibels = zip(*points)
            front = name.startswith("nic")
            axes.plot(
                bpp,
                decibels,
                color=COLOURS.get(name) or _of_effort(name),
                marker="o",
                markersize=4 if front else 3,
                linewidth=2.4 if front else 1.4,
                label=name,
                zorder=3 if front else 2,
            )
        for name, style in zip(published or {}, (":", "-.", "--", "-")):
            bpp, decibels = zip(*published[name])
            axes.plot(
                bpp,
                decibels,
                color="#8c8c8c",
                linewidth=1.1,
                linestyle=style,
                label=f"{name} (published)",
            )
        axes.set(xlabel="bits per pixel", ylabel=LABELS[measure])
        axes.set_title(title, parse_math=False)
        _show_useful_range(axes, curves)
        if curves:
            axes.legend(loc="lower right")
        figure.savefig(path, dpi=160)


def _of_effort(name: str) -> tuple[float, ...]:
    """Colour of `nic-e0` to `nic-e9`: the higher the effort, the darker."""
    return matplotlib.colormaps["Purples"](0.4 + 0.06 * int(name.removeprefix("nic-e")))


def _show_useful_range(axes: Axes, curves: Mapping[str, Curve]) -> None:
    """Rates up to 2 bpp, where the curves part, and the decibels that occur there."""
    shown = [d for points in curves.values() for bpp, d in points if bpp <= 2]
    if shown:
        axes.set(xlim=(0, 2), ylim=(min(shown) - 0.5, max(shown) + 0.5))


def training(log: Path, path: Path) -> None:
    """Draw mean squared error and rate over the crops seen, from the log.csv of a training run.

    Columns ending in `_low` and `_high` are the lower and the upper half of the qualities.
    """
    with open(log, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    crops = [float(row["crops"]) / 1000 for row in rows]
    panels = {"mse": "mean squared error (0..255 squared)", "bpp": "bits per pixel"}
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(10, 4), layout="constrained")
        for axes, (prefix, label) in zip(figure.subplots(1, 2), panels.items()):
            for half, colour in (("low", "#0072b2"), ("high", "#d55e00")):
                values = [float(row[f"{prefix}_{half}"]) for row in rows]
                axes.plot(crops, values, color=colour, label=f"{half} qualities")
            axes.set(xlabel="thousands of crops seen", ylabel=label, yscale="log")
            axes.yaxis.set_major_formatter("{x:g}")
            axes.yaxis.set_minor_formatter("{x:g}")
            axes.grid(which="minor")
            axes.legend()
        figure.savefig(path, dpi=160)


def _main() -> None:
    parser = argparse.ArgumentParser(description="Draw the curves of a training run.")
    parser.add_argument("log", type=Path, help="log.csv of a training run")
    parser.add_argument("picture", type=Path, help="PNG or SVG to write")
    args = parser.parse_args()
    training(args.log, args.picture)


if __name__ == "__main__":
    _main()
