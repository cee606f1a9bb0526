"""The page of `nic compare`: pictures, table and curves in one HTML file, from page.html."""

from __future__ import annotations

import base64
import math
import platform
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from nic import images
from nic.evaluation.machine import cpu_name
from nic.evaluation.metrics import ms_ssim
from nic.evaluation.trial import Trial
from nic.fidelity import same_channels
from nic.picture import Picture

if TYPE_CHECKING:
    from nic.evaluation.bd_rate import Curve

TEMPLATE = Path(__file__).with_name("page.html")

COLUMNS = (
    "codec",
    "quality",
    "bytes",
    "against nic",
    "bits per pixel",
    "PSNR, dB",
    "MS-SSIM",
    "encoding, s",
    "decoding, s",
)

WIDTH, HEIGHT = 480, 310
"""Of the plot, in its own units."""

LEFT, TOP, RIGHT, BOTTOM = 34, 8, 472, 270
"""Its axes."""

RATES_SHOWN = 2.5
"""The plot ends at so many times the highest rate in the table."""


def render(
    name: str,
    image: Image.Image,
    trials: Sequence[Trial],
    curves: Mapping[str, Curve],
    by_psnr: bool,
) -> str:
    """The whole page. image: the original, L or RGB; trials: nic's first; curves: (bpp, PSNR)."""
    ours = trials[0]
    size = f"{image.width} × {image.height} pixels"
    goal = f"PSNR, {ours.psnr:.2f} dB" if by_psnr else f"size, {len(ours.data)} bytes"
    pictures = [_picture("original", np.asarray(image))]
    pictures += [_picture(trial.codec, trial.pixels) for trial in trials]
    return Template(TEMPLATE.read_text(encoding="utf-8")).substitute(
        name=escape(name),
        summary=f"{size}. nic at quality {ours.quality:g}, the others as close to its {goal},"
        " as their whole-numbered qualities get.",
        width=image.width,
        height=image.height,
        pictures="\n".join(pictures),
        table=table(np.asarray(image), trials),
        legend="".join(f'<li class="{escape(codec)}">{escape(codec)}</li>' for codec in curves),
        plot=plot(trials, curves),
        machine=f"Seconds are of one run each, by the clock, on {escape(cpu_name())},"
        f" Python {platform.python_version()}.",
    )


def table(original: np.ndarray, trials: Sequence[Trial]) -> str:
    """An HTML table, one row for each trial."""
    head = "".join(f'<th scope="col">{column}</th>' for column in COLUMNS)
    rows = []
    for trial in trials:
        change = 100 * (len(trial.data) / len(trials[0].data) - 1)
        cells = (
            f"{trial.quality:g}",
            f"{len(trial.data)}",
            f"{change:+.1f} %" if trial is not trials[0] else "",
            f"{trial.bpp:.3f}",
            f"{trial.psnr:.2f}",
            _similarity(original, trial.pixels),
            f"{trial.encode_s:.3f}",
            f"{trial.decode_s:.3f}",
        )
        name = escape(trial.codec)
        row = "".join(f"<td>{cell}</td>" for cell in cells)
        rows.append(f'<tr><th scope="row" class="{name}">{name}</th>{row}</tr>')
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def _similarity(original: np.ndarray, pixels: np.ndarray) -> str:
    """MS-SSIM, taken channel by channel: all at once need several times the memory."""
    channels = np.moveaxis(np.stack(same_channels(original, pixels)), -1, 0)
    value = float(np.mean([ms_ssim(a, b) for a, b in channels]))
    return "–" if math.isnan(value) else f"{value:.4f}"


def plot(trials: Sequence[Trial], curves: Mapping[str, Curve]) -> str:
    """The curves as an inline SVG: PSNR over bits per pixel, the trials marked."""
    last = RATES_SHOWN * max(trial.bpp for trial in trials)
    shown = [db for curve in curves.values() for bpp, db in curve if bpp <= last and db < math.inf]
    low, high = math.floor(min(shown, default=0)), math.ceil(max(shown, default=0)) + 1

    def x(bpp: float) -> str:
        return f"{LEFT + (RIGHT - LEFT) * bpp / last:.1f}"

    def y(db: float) -> str:
        db = min(db, 2 * high)  # without any error it is infinite: a place beyond the top
        return f"{BOTTOM - (BOTTOM - TOP) * (db - low) / (high - low):.1f}"

    parts = []
    for bpp in _ticks(0, last):
        parts.append(f'<path class="grid" d="M{x(bpp)} {TOP}V{BOTTOM}"/>')
        parts.append(f'<text x="{x(bpp)}" y="{BOTTOM + 17}" class="middle">{bpp:g}</text>')
    for db in _ticks(low, high):
        parts.append(f'<path class="grid" d="M{LEFT} {y(db)}H{RIGHT}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y(db)}" dy="4" class="end">{db:g}</text>')
    parts.append(f'<text x="{RIGHT}" y="{HEIGHT - 6}" class="end">bits per pixel</text>')
    parts.append(f'<text x="{LEFT + 6}" y="{TOP + 12}">PSNR, dB</text>')
    parts.append('<g clip-path="url(#axes)">')
    for codec, curve in curves.items():
        points = " ".join(f"{x(bpp)},{y(db)}" for bpp, db in curve)
        parts.append(f'<polyline class="{escape(codec)}" points="{points}"/>')
    for trial in reversed(trials):  # nic's on top
        title = f"<title>{escape(trial.codec)}: {trial.bpp:.3f} bpp, {trial.psnr:.2f} dB</title>"
        at = f'cx="{x(trial.bpp)}" cy="{y(trial.psnr)}"'
        parts.append(f'<circle class="{escape(trial.codec)}" {at} r="5">{title}</circle>')
    clip = f'<rect x="{LEFT}" y="{TOP}" width="{RIGHT - LEFT}" height="{BOTTOM - TOP}"/>'
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="PSNR over bits per pixel of'
        f' every codec on this picture"><clipPath id="axes">{clip}</clipPath>'
        f"{''.join(parts)}</g></svg>"
    )


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers within the range, about six of them."""
    power = 10 ** math.floor(math.log10((high - low) / 6))
    step = next(power * m for m in (1, 2, 5, 10) if power * m * 6 >= high - low)
    return [i * step for i in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _picture(codec: str, pixels: np.ndarray) -> str:
    png = images.to_bytes(Picture(pixels), "PNG")
    source = base64.b64encode(png).decode("ascii")
    name = escape(codec)
    return f'<img data-codec="{name}" alt="{name}" src="data:image/png;base64,{source}">'
