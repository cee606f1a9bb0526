"""Metrics against values worked out by hand, rivals, and the whole of `nic eval` on tiny images."""

from __future__ import annotations

import argparse
import csv
import json
import math
import os
import re
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("scipy", reason="needs the extra `eval`: scipy")
pytest.importorskip("matplotlib", reason="needs the extra `eval`: matplotlib")
pytest.importorskip("rich", reason="needs the extra `eval`: rich")

from vectors.make import NIC_1

from nic import extras, fidelity, images
from nic.errors import InputError
from nic.evaluation import bench, demo, memory, metrics, plots, rivals, runner, summary
from nic.evaluation.bd_rate import bd_rate, mean_bd_rate, rate_difference
from nic.extras import require

CURVE = [(0.1, 26.0), (0.25, 29.0), (0.5, 32.0), (1.0, 35.5), (2.0, 39.0)]


def smooth_image(height: int, width: int, seed: int = 0) -> np.ndarray:
    """(H, W, 3) uint8 with structure at several scales."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8))
    image = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), dtype=float)
    return np.clip(image + rng.normal(0, 6, image.shape), 0, 255).astype(np.uint8)


class TestPsnr:
    def test_known_difference(self):
        a = np.full((4, 5, 3), 100, np.uint8)
        assert fidelity.psnr(a, a + np.uint8(1)) == pytest.approx(20 * math.log10(255))
        assert fidelity.psnr(a, a - np.uint8(10)) == pytest.approx(20 * math.log10(25.5))

    def test_all_channels_share_one_mean(self):
        a = np.zeros((2, 2, 3), np.uint8)
        b = a.copy()
        b[0, 0, 1] = 12  # mean squared error 144 / 12
        assert fidelity.psnr(a, b) == pytest.approx(10 * math.log10(255**2 / 12))

    def test_unsigned_difference_does_not_wrap(self):
        assert fidelity.psnr(np.zeros((1, 1), np.uint8), np.full((1, 1), 255, np.uint8)) == 0

    def test_identical(self):
        a = smooth_image(8, 8)
        assert fidelity.psnr(a, a) == math.inf


def ssim_by_definition(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """Mean SSIM and mean contrast-structure of one channel, window by window."""
    grid = np.arange(11) - 5
    window = np.exp(-(grid[:, None] ** 2 + grid[None, :] ** 2) / (2 * 1.5**2))
    window /= window.sum()
    ssim, contrast = [], []
    for i, j in product(range(a.shape[0] - 10), range(a.shape[1] - 10)):
        p, q = a[i : i + 11, j : j + 11], b[i : i + 11, j : j + 11]
        mean_p, mean_q = (window * p).sum(), (window * q).sum()
        var_p = (window * (p - mean_p) ** 2).sum()
        var_q = (window * (q - mean_q) ** 2).sum()
        covariance = (window * (p - mean_p) * (q - mean_q)).sum()
        c1, c2 = 6.5025, 58.5225
        cs = (2 * covariance + c2) / (var_p + var_q + c2)
        contrast.append(cs)
        ssim.append(cs * (2 * mean_p * mean_q + c1) / (mean_p**2 + mean_q**2 + c1))
    return float(np.mean(ssim)), float(np.mean(contrast))


class TestMsSsim:
    def test_flat_images(self):
        """Without structure only the luminance term of the coarsest scale is left."""
        a, b = np.full((200, 180, 3), 100, np.uint8), np.full((200, 180, 3), 120, np.uint8)
        luminance = (2 * 100 * 120 + 6.5025) / (100**2 + 120**2 + 6.5025)
        assert metrics.ms_ssim(a, b) == pytest.approx(luminance**0.1333, abs=1e-12)

    def test_by_definition_on_two_scales(self):
        a = smooth_image(34, 26)[:, :, 0]
        b = np.clip(a + np.random.default_rng(1).normal(0, 20, a.shape), 0, 255).astype(np.uint8)
        x, y = a.astype(float), b.astype(float)
        _, fine = ssim_by_definition(x, y)
        coarse, _ = ssim_by_definition(*(v.reshape(17, 2, 13, 2).mean(axis=(1, 3)) for v in (x, y)))
        share = 1.0001 / (0.0448 + 0.2856)
        expected = fine ** (0.0448 * share) * coarse ** (0.2856 * share)
        assert metrics.ms_ssim(a, b) == pytest.approx(expected, abs=1e-12)

    def test_channels_are_averaged(self):
        a, b = smooth_image(180, 190), smooth_image(180, 190, seed=1) // 8 * 8
        b = (a // 2 + b // 2).astype(np.uint8)
        single = [metrics.ms_ssim(a[:, :, c], b[:, :, c]) for c in range(3)]
        assert metrics.ms_ssim(a, b) == pytest.approx(np.mean(single))

    def test_identical_odd_sizes_and_opposites(self):
        a = smooth_image(177, 211)
        assert metrics.ms_ssim(a, a) == pytest.approx(1)
        assert metrics.ms_ssim(a, 255 - a) == 0

    def test_small_images(self):
        a = smooth_image(11, 40)
        assert 0 < metrics.ms_ssim(a, a // 2) < 1
        assert math.isnan(metrics.ms_ssim(a[:10], a[:10]))

    def test_decibels(self):
        assert metrics.decibels(0.99) == pytest.approx(20)
        assert metrics.decibels(1.0) == math.inf


class TestBdRate:
    def test_itself_is_zero(self):
        assert bd_rate(CURVE, CURVE) == 0

    @pytest.mark.parametrize("factor", [0.8, 1.25])
    def test_constant_ratio_of_rates(self, factor):
        test = [(bpp * factor, quality) for bpp, quality in CURVE]
        assert bd_rate(CURVE, test) == pytest.approx(100 * (factor - 1))

    def test_only_the_common_range_counts(self):
        """Log-rate linear in quality: the ratio of rates is 1 at 30 dB and 2 at 34 dB."""
        anchor = [(2 ** (q / 4), float(q)) for q in (20, 26, 30, 34)]
        test = [(2 ** (q / 4 + (q - 30) / 4), float(q)) for q in (30, 32, 34, 40)]
        assert bd_rate(anchor, test) == pytest.approx(100 * (math.sqrt(2) - 1))

    def test_order_of_points_does_not_matter(self):
        assert bd_rate(CURVE[::-1], CURVE) == 0

    def test_points_that_cost_more_and_look_no_better_are_dropped(self):
        assert bd_rate(CURVE, [*CURVE, (2.5, 39.0), (3.0, 38.0)]) == 0

    @pytest.mark.parametrize("other", [[], CURVE[:1], [(1.0, 50.0), (2.0, 60.0)]])
    def test_no_overlap(self, other):
        assert math.isnan(bd_rate(CURVE, other))

    def test_lossless_points_are_dropped(self):
        assert bd_rate(CURVE, [*CURVE, (9.0, math.inf)]) == 0
        assert bd_rate([(0.01, math.inf), *CURVE], CURVE) == 0

    def test_mean_over_images(self):
        half = [(bpp / 2, quality) for bpp, quality in CURVE]
        anchors = {"a": CURVE, "b": CURVE, "c": CURVE, "d": CURVE}
        tests = {"a": CURVE, "b": half, "c": [(1.0, 80.0), (2.0, 90.0)]}
        mean, images = mean_bd_rate(anchors, tests)
        assert (mean, images) == (pytest.approx(-25), 2)
        mean, images = mean_bd_rate(anchors, {})
        assert math.isnan(mean) and images == 0

    def test_rate_of_a_point_beside_a_curve(self):
        for bpp, quality in CURVE:
            assert rate_difference(CURVE, 0.9 * bpp, quality) == pytest.approx(-10)
        assert math.isnan(rate_difference(CURVE, 1.0, CURVE[0][1] - 0.1))
        assert math.isnan(rate_difference(CURVE, 1.0, CURVE[-1][1] + 0.1))
        assert math.isnan(rate_difference(CURVE[:1], *CURVE[0]))


class TestRivals:
    @pytest.mark.parametrize("name", rivals.RIVALS)
    def test_round_trip(self, name):
        codec = rivals.find(name)
        if codec.version() is None:
            pytest.skip(f"this Pillow cannot write {name}")
        assert len(codec.qualities) >= 7
        pixels = smooth_image(64, 96)
        image = Image.fromarray(pixels)
        small, large = (codec.encode(image, codec.qualities[i]) for i in (0, -1))
        assert len(small) < len(large)
        low, high = (fidelity.psnr(pixels, codec.decode(data)) for data in (small, large))
        assert low < high and high > 30
        gray = codec.decode(codec.encode(image.convert("L"), 50))
        assert gray.shape[:2] == (64, 96) and gray.dtype == np.uint8

    def test_unknown_name(self):
        with pytest.raises(InputError, match="gif"):
            rivals.find("gif")


def fake_nic(model: Path | None = None, effort: int = 3, device: str = "cpu") -> rivals.Codec:
    """JPEG in nic's place, so that these tests need no weights."""
    jpeg = rivals.RIVALS["jpeg"]
    name = rivals.nic_name(effort)
    return replace(jpeg, name=name, qualities=(10, 50, 90), version=lambda: "f00d")


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """Two small images, and a stand-in for nic."""
    monkeypatch.setattr(rivals, "nic_codec", fake_nic)
    folder = tmp_path / "pictures"
    folder.mkdir()
    Image.fromarray(smooth_image(48, 64, 1)).save(folder / "a.png")
    Image.fromarray(smooth_image(40, 56, 2)[:, :, 0]).save(folder / "gray.png")
    (folder / "notes.txt").write_text("not an image")
    return folder


def evaluate(*arguments: object) -> int:
    parser = argparse.ArgumentParser()
    runner.add_arguments(parser)
    return runner.main(parser.parse_args([str(argument) for argument in arguments]))


class TestRunner:
    def test_results_of_a_folder(self, folder, tmp_path, capsys):
        out = tmp_path / "out"
        assert evaluate(folder, "--rivals", "jpeg,webp", "-o", out) == 0
        rows = [json.loads(line) for line in (out / "points.jsonl").read_text().splitlines()]
        webp = rivals.find("webp")
        assert len(rows) == 2 * (3 + 12 + len(webp.qualities))
        by_point = {(r["image"], r["codec"], r["quality"]): r for r in rows}
        row = by_point["a.png", "webp", 70]
        with Image.open(folder / "a.png") as image:
            data = webp.encode(image, 70)
            assert row["bytes"] == len(data) and row["bpp"] == 8 * len(data) / (48 * 64)
            assert row["psnr"] == fidelity.psnr(np.asarray(image), webp.decode(data))
        results = json.loads((out / "results.json").read_text())
        # The stand-in is JPEG itself, at a subset of its points.
        assert abs(results["bd_rate"]["nic"]["jpeg"]["psnr"]["mean"]) < 10
        assert results["bd_rate"]["nic"]["jpeg"]["psnr"]["images"] == 2
        assert [c["quality"] for c in results["by_quality"]["jpeg"]] == [10, 50, 90]
        assert all(
            c["images"] == 2 and abs(c["mean"]) < 1e-9 for c in results["by_quality"]["jpeg"]
        )
        with open(out / "results.csv", newline="") as file:
            table = list(csv.DictReader(file))
        q50 = next(r for r in table if (r["codec"], r["quality"]) == ("nic", "50"))
        bpp = [by_point[name, "nic", 50]["bpp"] for name in ("a.png", "gray.png")]
        assert float(q50["bpp"]) == pytest.approx(np.mean(bpp))
        text = (out / "summary.md").read_text()
        assert "f00d" in text and "| jpeg |" in text and "| webp |" in text
        assert "(2 images)" in text.splitlines()[0] and "published" not in text
        assert (out / "psnr.png").stat().st_size > 1000
        assert "BD-rate" in capsys.readouterr().out

    def test_resume_measures_only_what_is_missing(self, folder, tmp_path, monkeypatch):
        points = tmp_path / "points.jsonl"
        tasks = runner.plan(images.find(folder), [rivals.find("jpeg")], None, None)
        full = runner.measure_missing(tasks, points)
        lines = points.read_text().splitlines()
        # As an interruption leaves it: some lines whole, the last one cut.
        points.write_text("\n".join(lines[:5]) + "\n" + lines[5][:30])
        measured = []
        original = runner.measure
        monkeypatch.setattr(runner, "measure", lambda t: measured.append(t) or original(t))
        again = runner.measure_missing(tasks, points)
        assert len(measured) == len(tasks) - 5
        untimed = [{k: v for k, v in r.items() if not k.endswith("_s")} for r in full]
        assert [{k: v for k, v in r.items() if not k.endswith("_s")} for r in again] == untimed
        measured.clear()
        assert runner.measure_missing(tasks, points) == again and not measured

    @pytest.mark.parametrize("found", ['{"image": "a.p', "null\n", "{}\n3\n[1]", "\xff\n\n"])
    def test_what_is_no_row_is_passed_over(self, folder, tmp_path, found):
        points = tmp_path / "points.jsonl"
        points.write_text(found, encoding="latin-1")
        tasks = runner.plan(images.find(folder)[:1], [rivals.find("jpeg")], None, None)[:2]
        rows = runner.measure_missing(tasks, points)
        assert list(runner.read_points(points).values()) == rows and len(rows) == 2

    def test_unreadable_image_is_refused_before_any_is_measured(self, folder, tmp_path):
        (folder / "z.png").write_bytes((folder / "a.png").read_bytes()[:500])
        with pytest.raises(InputError, match="z.png"):
            evaluate(folder, "-o", tmp_path / "out")
        assert not (tmp_path / "out" / "points.jsonl").exists()

    @pytest.mark.parametrize("size", [(64, 48), (9, 8)], ids=["lossless", "tiny"])
    @pytest.mark.filterwarnings("error")
    def test_pictures_without_a_curve(self, folder, tmp_path, size):
        for path in images.find(folder):
            Image.new("RGB", size).save(path)
        assert evaluate(folder, "--rivals", "jpeg", "-o", tmp_path / "out") == 0
        results = json.loads((tmp_path / "out" / "results.json").read_text())
        assert results["bd_rate"]["nic"]["jpeg"]["ms_ssim"]["mean"] is None
        assert (tmp_path / "out" / "ms_ssim.png").exists()

    @pytest.mark.parametrize("name", [b"d$x^$", b"bad\xff"])
    def test_any_name_of_a_folder(self, folder, tmp_path, name):
        renamed = folder.rename(folder.parent / os.fsdecode(name))
        assert evaluate(renamed, "--rivals", "jpeg", "-o", tmp_path / "out") == 0
        assert (tmp_path / "out" / "psnr.png").exists()

    def test_changed_image_or_codec_is_measured_anew(self, folder):
        jpeg = rivals.find("jpeg")
        paths = images.find(folder)
        first = runner.plan(paths, [jpeg], None, None)
        Image.fromarray(smooth_image(48, 64, 9)).save(folder / "a.png")
        keys = {t.key for t in first}
        assert len({t.key for t in runner.plan(paths, [jpeg], None, None)} - keys) == 12
        newer = replace(jpeg, version=lambda: "next")
        assert not {t.key for t in runner.plan(paths, [newer], None, None)} & keys

    def test_processes_measure_the_same(self, folder, tmp_path):
        tasks = runner.plan(images.find(folder), [rivals.find("jpeg")], None, None)[:4]
        rows = [runner.measure_missing(tasks, tmp_path / f"{j}.jsonl", jobs=j) for j in (1, 2)]
        sizes = [[row["bytes"] for row in measured] for measured in rows]
        assert sizes[0] == sizes[1]

    def test_absent_rival_is_left_out_with_a_message(self, folder, tmp_path, monkeypatch, capsys):
        monkeypatch.setitem(
            rivals.RIVALS, "jxl", replace(rivals.RIVALS["jxl"], version=lambda: None)
        )
        assert evaluate(folder, "--rivals", "jpeg,jxl", "-o", tmp_path / "out") == 0
        assert "jxl is left out" in capsys.readouterr().err
        results = json.loads((tmp_path / "out" / "results.json").read_text())
        assert list(results["bd_rate"]["nic"]) == ["jpeg"]

    def test_efforts_stand_beside_each_other(self, folder, tmp_path):
        out = tmp_path / "out"
        assert evaluate(folder, "--rivals", "webp", "--efforts", "0,9", "-o", out) == 0
        found = json.loads((out / "results.json").read_text())["bd_rate"]
        assert {nic: list(rivals) for nic, rivals in found.items()} == {
            "nic": ["webp"],
            "nic-e0": ["nic", "webp"],
            "nic-e9": ["nic", "webp"],
        }
        assert found["nic-e9"]["nic"]["psnr"]["mean"] == 0
        assert "| nic-e9 | webp |" in (out / "summary.md").read_text()

    def test_qualities_are_those_of_nic(self, folder):
        codecs = [rivals.find("nic"), rivals.find("jpeg")]
        tasks = runner.plan(images.find(folder)[:1], codecs, [5.0, 15.0], None)
        assert [t.quality for t in tasks if t.codec == "nic"] == [5, 15]
        assert len(tasks) == 2 + 12

    def test_nic_runs_on_the_device_asked_for(self, folder, tmp_path, monkeypatch):
        devices = []

        def nic(model, effort, device):
            devices.append(device)
            return fake_nic(model, effort)

        monkeypatch.setattr(rivals, "nic_codec", nic)
        assert evaluate(folder, "--rivals", "", "--device", "cuda", "-o", tmp_path / "out") == 0
        assert set(devices) == {"cuda"} and len(devices) == 1 + 1 + 2 * 3  # found, tried, measured

    def test_unusable_folder(self, tmp_path):
        with pytest.raises(InputError, match="no images"):
            images.find(tmp_path)
        with pytest.raises(InputError, match="no such folder"):
            images.find(tmp_path / "absent")


def test_missing_library_is_named():
    with pytest.raises(InputError, match=r"no_such_library.*nic\[eval\]"):
        require("eval", "json", "no_such_library")


def test_kodak_is_recognised_and_compared_with_published_curves(tmp_path):
    point = {"ms_ssim": 0.95, "encode_s": 0.1, "decode_s": 0.1}
    point |= {"encode_cpu_s": 0.1, "decode_cpu_s": 0.1, "codec": "nic", "version": "f00d"}
    curve = summary.published_kodak()["mbt2018"]
    rows = [
        {"image": f"kodim{i:02}.png", "quality": q, "bpp": bpp * 0.9, "psnr": psnr, **point}
        for i in range(1, 25)
        for q, (bpp, psnr) in enumerate(curve)
    ]
    results = summary.evaluate(rows, {"nic": ""}, "kodak")
    assert results["bd_rate_published"]["nic"]["mbt2018"] == pytest.approx(-10)
    assert "| mbt2018 | -10.0 |" in summary.markdown(results)
    assert not summary.is_kodak(rows[: 23 * len(curve)])


def test_lossless_point_stands_in_no_curve():
    points = [{"bpp": 1.0, "psnr": 30.0}, {"bpp": 9.0, "psnr": None}]
    assert summary.curve(points, "psnr") == [(1.0, 30.0)]
    alike = [{"bpp": 1.0, "ms_ssim": 0.99}, {"bpp": 9.0, "ms_ssim": 1.0}]
    assert summary.curve(alike, "ms_ssim") == [(1.0, pytest.approx(20))]


def test_wasted_qualities_are_named():
    rates = [(0, 0.9, 25.0), (10, 0.3, 28.0), (20, 0.5, 30.0), (30, 9.0, None)]
    points = [dict(zip(("quality", "bpp", "psnr"), rate)) for rate in rates]
    assert summary.wasted(points) == [0]


def test_training_curves(tmp_path):
    log = tmp_path / "log.csv"
    log.write_text(
        "step,crops,mse_low,mse_high,bpp_low,bpp_high\n50,600,70,10,1.2,3.6\n100,1200,60,9,1.1,3\n"
    )
    plots.training(log, tmp_path / "curves.png")
    with Image.open(tmp_path / "curves.png") as image:
        assert image.width > 1000


def test_bench_prints_times_of_codecs_and_of_stages(tmp_path, monkeypatch, capsys):
    present = extras.find_spec
    monkeypatch.setattr(extras, "find_spec", lambda name: name != "scipy" and present(name) or None)
    Image.fromarray(smooth_image(24, 33)).save(tmp_path / "small.png")
    parser = argparse.ArgumentParser()
    bench.add_arguments(parser)
    arguments = [str(tmp_path / "small.png"), "--runs", "1", "--bpp", "2", "--weights", str(NIC_1)]
    assert bench.main(parser.parse_args(arguments)) == 0
    out = capsys.readouterr().out
    assert "small.png, 33x24, median of 1 runs" in out
    rows = [line.split("│")[1:-1] for line in out.splitlines() if line.startswith("│")]
    assert [row[0].strip() for row in rows][:2] == ["nic", "webp"]
    assert [bool(cell.strip()) for cell in rows[0]] == [True] * 5 + [False] * 2
    assert all(float(cell) >= 0 for row in rows[1:] for cell in row[1:])
    assert re.search(r"^nic encode: analysis \d\.\d+ s, ", out, re.MULTILINE)
    assert re.search(r"^nic decode: .*synthesis \d\.\d+ s$", out, re.MULTILINE)


def test_bench_measures_memory_of_whole_processes(model):
    peaks = memory.measure(0.01, bench.PHOTO)
    assert [peak.task for peak in peaks] == ["encode", "decode", "decode --crop"]
    assert all(0.05 < peak.gigabytes < 2 and peak.seconds > 0 for peak in peaks)


def test_bench_finds_the_quality_of_a_rate():
    image = Image.fromarray(smooth_image(64, 64))
    codec = rivals.find("jpeg")
    rates = [8 * len(codec.encode(image, q)) / 64**2 for q in range(101)]
    target = rates[37]
    found = bench.quality_for(codec, image, target)
    assert rates[found] == target


def test_demo_writes_files_and_picture(tmp_path, monkeypatch):
    monkeypatch.setattr(rivals, "nic_codec", fake_nic)
    monkeypatch.setattr(demo, "QUALITIES", (10, 60))
    rows = demo.run(tmp_path / "demo")
    assert [[trial.codec for trial in trials] for trials in rows] == [["nic", "webp", "jpeg"]] * 2
    for trials in rows:
        sizes = [len(trial.data) for trial in trials]
        assert max(sizes) < 1.15 * min(sizes)
    assert (tmp_path / "demo" / "photo-q60.nic").read_bytes() == rows[1][0].data
    with Image.open(tmp_path / "demo" / "photo-q60.png") as image:
        assert np.array_equal(np.asarray(image), rows[1][0].pixels)
    with Image.open(tmp_path / "demo" / "comparison.png") as image:
        assert image.width > 1500


def test_bundled_photo():
    with Image.open(bench.PHOTO) as image:
        assert image.size == (768, 512) and image.mode == "RGB"
    assert bench.PHOTO.stat().st_size < 900_000
    assert "CC0" in bench.PHOTO.with_suffix(".txt").read_text()
