"""The page of `nic compare`: what it holds, and that it works in a browser."""

from __future__ import annotations

import base64
import io
import json
import math
import os
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

import cli
from nic import fidelity
from nic.evaluation import compare, metrics, page, rivals
from nic.evaluation.trial import attempt

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working folder, with a photo.png of structure at several scales; JPEG stands in for nic,
    so that no weights are needed."""
    jpeg = rivals.RIVALS["jpeg"]

    def encode(image: Image.Image, quality: float) -> bytes:
        return jpeg.encode(image, int(quality))

    ours = replace(jpeg, name="nic", encode=encode)
    monkeypatch.setattr(rivals, "nic_codec", lambda *_: ours)
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    pixels = np.asarray(coarse.resize((240, 180), Image.Resampling.BICUBIC), float)
    noisy = np.clip(pixels + rng.normal(0, 6, pixels.shape), 0, 255).astype(np.uint8)
    Image.fromarray(noisy).save("photo.png")
    return tmp_path


class Page(HTMLParser):
    """Tags that were closed in order, pictures by codec, and the cells of the table."""

    VOID = {"meta", "img", "input"}

    def __init__(self, text: str):
        super().__init__()
        self.open, self.tags, self.pictures, self.rows = [], [], {}, []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.tags.append((tag, attributes))
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if "data-codec" in attributes:
            kind, data = attributes["src"].split(",")
            assert kind == "data:image/png;base64"
            picture = Image.open(io.BytesIO(base64.b64decode(data)))
            self.pictures[attributes["data-codec"]] = np.asarray(picture)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1].append(data)


def written(*arguments: str) -> tuple[str, Page]:
    assert cli.main(["compare", "photo.png", *arguments]) == 0
    with open("photo.png.html", encoding="utf-8") as file:
        text = file.read()
    return text, Page(text)


def test_page_holds_every_picture_and_the_sizes_of_real_files(folder, capsys):
    text, found = written("-q", "40")
    assert capsys.readouterr().err == f"nic: photo.png.html: {len(text.encode())} bytes\n"
    original = Image.open("photo.png")
    names = [name for name in ("jpeg", "webp", "avif") if rivals.find(name).version()]
    assert list(found.pictures) == ["original", "nic", *names]
    assert np.array_equal(found.pictures["original"], np.asarray(original))
    head, *rows = found.rows
    assert head == list(page.COLUMNS) and [row[0] for row in rows] == ["nic", *names]
    for name, quality, size, *cells in rows:
        codec = rivals.find(name)
        data = codec.encode(original, int(quality))
        decoded = codec.decode(data)
        assert int(size) == len(data) and np.array_equal(found.pictures[name], decoded)
        psnr = fidelity.psnr(np.asarray(original), decoded)
        similarity = metrics.ms_ssim(np.asarray(original), decoded)
        expected = [f"{8 * len(data) / (240 * 180):.3f}", f"{psnr:.2f}", f"{similarity:.4f}"]
        assert cells[-5:-2] == expected
        assert f"<title>{name}: {expected[0]} bpp, {expected[1]} dB</title>" in text


def test_page_needs_nothing_from_elsewhere(folder):
    text, found = written("--rivals", "webp")
    code = re.sub('"data:[^"]*"', "", text)
    assert not re.search(r"https?:|//[a-z]|@import|url\((?!#)", code)
    for tag, attributes in found.tags:
        assert tag not in ("link", "iframe", "object", "base")
        source = attributes.get("src", "data:")
        assert source.startswith("data:") and "href" not in attributes
    policy = next(a["content"] for _, a in found.tags if a.get("http-equiv"))
    assert policy.startswith("default-src 'none'")


@pytest.mark.parametrize("by_psnr", [False, True])
def test_size_or_psnr_is_matched(folder, by_psnr):
    image = Image.open("photo.png")
    ours, theirs = rivals.find("nic"), rivals.find("jpeg444")
    trials, curves = compare.compare(image, [ours, theirs], 50, by_psnr)
    assert (trials[1].bpp, trials[1].psnr) in curves["jpeg444"] and len(curves["nic"]) == 5

    def distance(quality: float) -> float:
        trial = attempt(theirs, image, quality)
        if by_psnr:
            return abs(trial.psnr - trials[0].psnr)
        return abs(len(trial.data) - len(trials[0].data))

    found = trials[1].quality
    assert distance(found) <= min(distance(found - 1), distance(found + 1))


def test_of_files_of_one_size_the_best_is_shown(folder):
    trial, _ = compare.match(rivals.find("jpeg"), Image.new("RGB", (240, 180)), 553, compare._size)
    assert len(trial.data) == 553 and trial.psnr == math.inf


def test_gray_flat_and_tiny(folder):
    Image.new("L", (3, 2), 128).save("photo.png")
    text, found = written("--psnr", "--rivals", "webp,jpeg")
    assert {picture.shape[:2] for picture in found.pictures.values()} == {(2, 3)}
    assert found.pictures["original"].ndim == 2
    assert found.rows[1][-3] == "–" and "nan" not in re.sub('"data:[^"]*"', "", text)


def test_names_are_escaped(folder):
    os.rename("photo.png", name := "<b>$& \"x'.png")
    assert cli.main(["compare", name, "--rivals", "jpeg", "-o", "out.html"]) == 0
    with open("out.html", encoding="utf-8") as file:
        text = file.read()
    assert "<h1>&lt;b&gt;$&amp; &quot;x&#x27;.png</h1>" in text
    Page(text)


def test_a_name_that_is_no_text(folder):
    os.rename(b"photo.png", b"bad\xff.png")
    name = os.fsdecode(b"bad\xff.png")
    assert cli.main(["compare", name, "--rivals", "jpeg", "-o", "out.html"]) == 0
    with open("out.html", encoding="utf-8") as file:
        assert "<h1>bad\\udcff.png</h1>" in file.read()


@pytest.mark.parametrize(
    "arguments, code, message",
    [
        (["missing.png"], 2, "No such file"),
        (["photo.png", "-q", "101"], 2, "quality"),
        (["photo.png", "-q", "high"], 2, "high"),
        (["photo.png", "--rivals", "gif"], 2, "unknown codec 'gif'"),
        (["photo.png", "-o", "there.html"], 8, "exists already"),
        (["photo.png", "-o", "nowhere/out.html"], 8, "no such folder"),
    ],
)
def test_refused(folder, capsys, arguments, code, message):
    (folder / "there.html").write_text("kept")
    assert cli.main(["compare", *arguments]) == code
    err = capsys.readouterr().err
    assert err.startswith("nic: ") and message in err and err.count("\n") == 1
    assert (folder / "there.html").read_text() == "kept"
    assert sorted(os.listdir()) == ["photo.png", "there.html"]


def test_missing_codec_is_left_out_with_a_warning(folder, monkeypatch, capsys):
    absent = replace(rivals.RIVALS["webp"], version=lambda: None)
    monkeypatch.setitem(rivals.RIVALS, "webp", absent)
    _, found = written("--rivals", "webp,jpeg")
    assert list(found.pictures) == ["original", "nic", "jpeg"]
    assert "nic: warning: webp is left out" in capsys.readouterr().err


@pytest.mark.parametrize("low, high", [(0, 1), (0, 0.37), (24, 39), (0, 9000), (1e-4, 3e-3)])
def test_ticks_are_few_and_within_the_axis(low, high):
    ticks = page._ticks(low, high)
    assert 2 <= len(ticks) <= 8 and low <= ticks[0] and ticks[-1] <= high + 1e-12
    assert len({round(math.log10(b - a), 6) for a, b in zip(ticks, ticks[1:])}) <= 1


SCRIPT = """
<script>
const seen = {};
const press = (element, ...keys) => keys.forEach(key =>
  element.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true })));
const change = (id, property, value) => {
  find(id)[property] = value;
  find(id).dispatchEvent(new Event("change"));
};
const state = () => ({
  value: handle.getAttribute("aria-valuenow"), text: handle.getAttribute("aria-valuetext"),
  clip: find("right").style.clipPath,
  captions: sides.map(side => find("caption-" + side).textContent),
  zoom: view.zoom, x: view.x, filter: getComputedStyle(find("left")).filter,
});
seen.start = state();
press(handle, "ArrowRight", "ArrowRight", "PageUp");
seen.slid = state();
press(handle, "End", "ArrowRight");
seen.end = state();
press(viewer, "1");
seen.whole = state();
press(viewer, "+", "ArrowLeft");
seen.zoomed = state();
change("choice-left", "value", "original");
change("error", "checked", true);
seen.error = state();
seen.shown = document.querySelector("#left .picture").src === sources.get("original");
seen.dark = getComputedStyle(document.body).backgroundColor;
document.title = JSON.stringify(seen);
</script>
"""


OFFLINE = [
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
"""Options without which Chromium itself calls home."""


def in_browser(folder, text: str, *options: str) -> dict:
    """What SCRIPT saw at the end of the page."""
    (folder / "driven.html").write_text(text.replace("</body>", SCRIPT + "</body>"))
    base = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--window-size=1000,800"]
    command = [*base, *OFFLINE, f"--user-data-dir={folder / 'profile'}", *options, "--dump-dom"]
    run = subprocess.run(
        [*command, (folder / "driven.html").as_uri()], capture_output=True, text=True, timeout=120
    )
    title = re.search("<title>(.*?)</title>", run.stdout)
    assert title, run.stderr
    return json.loads(title[1])


@pytest.mark.skipif(BROWSER is None, reason="no Chromium here to open the page with")
def test_page_in_a_browser(folder):
    text, _ = written("--rivals", "jpeg")
    seen = in_browser(folder, text)
    assert seen["start"]["value"] == "50" and seen["start"]["captions"] == ["nic", "jpeg"]
    assert seen["slid"]["value"] == "62" and seen["slid"]["clip"].endswith(" 62%)")
    assert seen["slid"]["text"] == "62 % nic, the rest jpeg"
    assert seen["end"]["value"] == "100"
    assert seen["whole"]["zoom"] == 1 < seen["start"]["zoom"]
    assert seen["zoomed"]["zoom"] == 1.5 and seen["zoomed"]["x"] < seen["whole"]["x"]
    assert seen["error"]["captions"] == ["error of original", "error of jpeg"]
    assert seen["error"]["filter"] == "brightness(8)" and seen["shown"]
    assert seen["dark"] == "rgb(255, 255, 255)"
    dark = in_browser(folder, text, "--blink-settings=preferredColorScheme=0")
    assert dark["dark"] == "rgb(22, 24, 27)"
