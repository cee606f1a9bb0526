"""What the measured points say: averages, BD-rates, and the page that shows them.

A row is one point of `runner.measure`. Averages are over the images at one setting of a codec.
"""

from __future__ import annotations

import csv
import json
import platform
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from nic.evaluation import plots
from nic.evaluation.bd_rate import Curve, bd_rate, mean_bd_rate, rate_difference
from nic.evaluation.machine import cpu_name
from nic.evaluation.metrics import decibels
from nic.evaluation.rivals import NIC_EFFORTS

MEASURES = ("bpp", "psnr", "ms_ssim", "encode_s", "decode_s", "encode_cpu_s", "decode_cpu_s")

TYPICAL_BPP = 0.5
"""Rate at which times are quoted."""


def write(rows: list[dict], settings: dict[str, str], folder: Path, name: str) -> str:
    """Write results.json, results.csv, summary.md and the plots; returns the summary's text.

    settings: what each codec ran with; name: what to call the set of images.
    """
    results = evaluate(rows, settings, name)
    (folder / "results.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    averages = {codec: found["points"] for codec, found in results["codecs"].items()}
    with open(folder / "results.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["codec", "quality", *MEASURES])
        writer.writeheader()
        writer.writerows({"codec": c, **p} for c, points in averages.items() for p in points)
    published = published_kodak() if is_kodak(rows) else {}
    for measure, beside in (("psnr", published), ("ms_ssim", {})):
        curves = {codec: curve(points, measure) for codec, points in averages.items()}
        plots.rate_distortion(curves, folder / f"{measure}.png", measure, name, beside)
    text = markdown(results)
    (folder / "summary.md").write_text(text, encoding="utf-8")
    return text


def evaluate(rows: list[dict], settings: dict[str, str], name: str) -> dict:
    """Everything the rows say, as it stands in results.json.

    BD-rates are nic's, in percent, at each effort measured; a higher effort's also against `nic`.
    """
    averages = average(rows)
    versions = {row["codec"]: row["version"] for row in rows}
    published = published_kodak() if is_kodak(rows) else {}
    ours = [codec for codec in averages if codec in NIC_EFFORTS]
    return {
        "name": name,
        "images": len({row["image"] for row in rows}),
        "machine": {"cpu": cpu_name(), "python": platform.python_version()},
        "codecs": {
            codec: {"settings": settings[codec], "version": versions[codec], "points": points}
            for codec, points in averages.items()
        },
        "bd_rate": {
            nic: {
                rival: compare(rows, averages, nic, rival)
                for rival in averages
                if rival not in NIC_EFFORTS or nic != "nic" == rival
            }
            for nic in ours
        },
        "bd_rate_published": {
            nic: {
                name: _finite(bd_rate(anchor, curve(averages[nic], "psnr")))
                for name, anchor in published.items()
            }
            for nic in ours
        },
        "by_quality": {
            rival: by_quality(rows, rival) for rival in averages if rival not in NIC_EFFORTS
        },
        "wasted": {codec: wasted(points) for codec, points in averages.items()},
    }


def average(rows: Iterable[dict]) -> dict[str, list[dict]]:
    """Per codec its points in order of quality, every measure averaged over the images.

    A measure that one image lacks, such as the PSNR of a lossless point, is None.
    """
    groups: dict[str, dict[float, list[dict]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        groups[row["codec"]][row["quality"]].append(row)
    return {
        codec: [
            {"quality": q, **{m: _mean([row[m] for row in group]) for m in MEASURES}}
            for q, group in sorted(by_quality.items())
        ]
        for codec, by_quality in groups.items()
    }


def curve(points: Iterable[dict], measure: str) -> Curve:
    """(bpp, dB) by PSNR or MS-SSIM, of rows or averages; a point without a value, or at infinity,
    has no place."""
    scale = decibels if measure == "ms_ssim" else float
    known = [(p["bpp"], scale(p[measure])) for p in points if p[measure] is not None]
    return [(bpp, db) for bpp, db in known if np.isfinite(db)]


def wasted(points: list[dict]) -> list[float]:
    """Qualities of averages at which a codec spends more than at another that looks better.

    BD-rate passes over them, so the summary has to name them.
    """
    known = [p for p in points if p["psnr"] is not None]
    return [
        p["quality"]
        for p in known
        if any(other["bpp"] <= p["bpp"] and other["psnr"] > p["psnr"] for other in known)
    ]


def compare(
    rows: list[dict], averages: dict[str, list[dict]], nic: str, rival: str
) -> dict[str, dict]:
    """BD-rates of nic, at one effort, against a rival by measure; None where the curves do not
    overlap.

    `mean` is the mean of per-image figures, over `images` of them; `of_averages` compares the
    averaged curves.
    """
    result = {}
    for measure in ("psnr", "ms_ssim"):
        mean, images = mean_bd_rate(
            _curves_by_image(rows, rival, measure), _curves_by_image(rows, nic, measure)
        )
        of_averages = bd_rate(curve(averages[rival], measure), curve(averages[nic], measure))
        result[measure] = {
            "mean": _finite(mean),
            "images": images,
            "of_averages": _finite(of_averages),
        }
    return result


def by_quality(rows: list[dict], rival: str) -> list[dict]:
    """How many percent more or fewer bits nic takes than a rival at the PSNR of each of its
    qualities: the mean over those `images` where the rival reaches it, None where there are none.
    """
    curves = _curves_by_image(rows, rival, "psnr")
    found: dict[float, list[float]] = defaultdict(list)
    for row in rows:
        if row["codec"] == "nic" and row["psnr"] is not None:
            difference = rate_difference(curves[row["image"]], row["bpp"], row["psnr"])
            found[row["quality"]] += [difference] if np.isfinite(difference) else []
    return [
        {"quality": quality, "mean": float(np.mean(d)) if d else None, "images": len(d)}
        for quality, d in sorted(found.items())
    ]


def is_kodak(rows: Iterable[dict]) -> bool:
    """Whether the images are the 24 of Kodak, by their names."""
    images = {row["image"] for row in rows}
    return len(images) == 24 and all(name.startswith("kodim") for name in images)


def published_kodak() -> dict[str, Curve]:
    """Published (bpp, PSNR) averages over Kodak; their sources stand in kodak_published.json."""
    path = Path(__file__).with_name("kodak_published.json")
    curves = json.loads(path.read_text(encoding="utf-8"))
    return {name: list(zip(c["bpp"], c["psnr"])) for name, c in curves.items()}


def markdown(results: dict) -> str:
    """The results of `evaluate` as a page of tables."""
    codecs, cpu = results["codecs"], results["machine"]["cpu"]
    parts = [
        f"## nic on {results['name']} ({results['images']} images)",
        f"Model {codecs['nic']['version']}; real files, 8-bit decoded pixels.",
        "### BD-rate of nic",
        "Percent; negative means that nic needs fewer bits for the same quality.",
        _bd_table(results),
        "### nic by quality",
        _table(
            ["quality", "bpp", "PSNR", "MS-SSIM", "MS-SSIM dB"],
            [_point_line(point) for point in codecs["nic"]["points"]],
        ),
        *_by_quality(results),
        f"### CPU seconds per image near {TYPICAL_BPP} bpp",
        f"On {cpu}.",
        _table(
            ["codec", "bpp", "encode", "decode", "version and settings"],
            [_time_line(name, codec) for name, codec in codecs.items()],
        ),
    ]
    if published := results["bd_rate_published"]["nic"]:
        efforts = results["bd_rate_published"]
        lines = [[n, *(_percent(rates[n]) for rates in efforts.values())] for n in published]
        header = ["published curve", *(f"{nic}: PSNR, of averages" for nic in efforts)]
        parts.insert(5, _table(header, lines))
    for name, qualities in results["wasted"].items():
        if qualities:
            listed = ", ".join(f"{quality:g}" for quality in qualities)
            parts.append(f"Not counted, for costing more than a better {name} file: {listed}.")
    return "\n\n".join(parts) + "\n"


def _curves_by_image(rows: Iterable[dict], codec: str, measure: str) -> dict[str, Curve]:
    points = defaultdict(list)
    for row in rows:
        if row["codec"] == codec:
            points[row["image"]].append(row)
    return {image: curve(found, measure) for image, found in points.items()}


def _mean(values: list[float | None]) -> float | None:
    return None if None in values else float(np.mean(values))


def _finite(value: float) -> float | None:
    """JSON has no nan."""
    return value if np.isfinite(value) else None


def _bd_table(results: dict) -> str:
    """One line per effort and rival; a cell names its number of images where those are not all."""
    lines = []
    for nic, comparisons in results["bd_rate"].items():
        for rival, comparison in comparisons.items():
            line = [nic, rival]
            for figures in comparison.values():
                line += [_partial(figures, results["images"]), _percent(figures["of_averages"])]
            lines.append(line)
    header = [f"{m}, {h}" for m in ("PSNR", "MS-SSIM") for h in ("mean of images", "of averages")]
    return _table(["codec", "against", *header], lines)


def _by_quality(results: dict) -> list[str]:
    """A section of one line per quality, one column per rival; none where there are none."""
    rivals = results["by_quality"]
    lines = [
        [f"{cells[0]['quality']:g}", *(_partial(cell, results["images"]) for cell in cells)]
        for cells in zip(*rivals.values())
    ]
    if not lines:
        return []
    intro = "Bits that nic takes more (+) or fewer (-) at the PSNR of each quality, in percent."
    return ["### Rate of nic by quality", intro, _table(["quality", *rivals], lines)]


def _partial(figures: dict, images: int) -> str:
    """A mean in percent, and of how many images where those are not all."""
    count = figures["images"]
    return _percent(figures["mean"]) + (f" ({count} images)" if 0 < count < images else "")


def _point_line(point: dict) -> list[str]:
    similarity = point["ms_ssim"]
    return [
        f"{point['quality']:g}",
        f"{point['bpp']:.3f}",
        _number(point["psnr"], 2),
        _number(similarity, 4),
        _number(similarity and decibels(similarity), 2),
    ]


def _time_line(name: str, codec: dict) -> list[str]:
    nearest = min(codec["points"], key=lambda p: abs(p["bpp"] - TYPICAL_BPP))
    times = [f"{nearest[key]:.3f}" for key in ("encode_cpu_s", "decode_cpu_s")]
    return [name, f"{nearest['bpp']:.2f}", *times, f"{codec['version']}; {codec['settings']}"]


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:+.1f}"


def _table(header: list[str], lines: list[list[str]]) -> str:
    """A Markdown table, its first column to the left and the figures to the right."""
    rule = [":--"] + ["--:"] * (len(header) - 1)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [header, rule, *lines])
