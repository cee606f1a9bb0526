"""`nic batch`: what is found and planned, what counts as done, and when a source may go."""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from batch_files import rows, save, tree
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import cli
import nic
from nic.batch import command, manifest, plan, processes, storage, work
from nic.batch.manifest import Manifest, Row
from nic.batch.storage import File
from nic.batch.work import Options
from nic.errors import InputError, OutputError

NAMES = [
    "plain.png", "two words.png", "-dash.png", "--decode.png", "a\nb.png", "\udcff\udcfe.png",
    "[1]*?.png", "grüß.png", "日本語.png", "עברית.png", "हिन्दी.png", "😀.png", "Ελλ.png", "рус.png",
    "e\u0301.png", "sub/ไทย.png", "sub/.hidden.png", "한국/deep/中文.PNG", "العربية/x.png",
]  # fmt: skip


def batch(*argv: str, code: int = 0) -> None:
    """The command in this process, with one worker."""
    assert cli.main(["batch", "-j1", *map(str, argv)]) == code


@pytest.fixture
def here(monkeypatch, model):
    """No processes: the work is done here, where tests can count and patch it."""

    def results(tasks, options, jobs):
        yield from (work.convert(task, options, model) for task in tasks)

    monkeypatch.setattr(processes, "results", results)


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path))


# What is found


def found(*sources, target="out", decode=False) -> dict[str, str]:
    """Name -> path of what a batch would take."""
    options = Options(decode, os.path.abspath(target), "", {}, "")
    return {file.name: file.path for file in plan.find(sources, options).files}


def test_a_folder_is_searched_to_its_depths(source):
    for name in NAMES:
        save(source / name)
    (source / "notes.txt").write_text("no image")
    (source / "old.nic").write_bytes(b"")
    os.mkfifo(source / "pipe.png")
    assert found("in") == {name: f"{source}/{name}" for name in NAMES}
    assert found("in", decode=True) == {"old.nic": f"{source}/old.nic"}


def test_links(source):
    save(source / "a.png")
    os.symlink("a.png", source / "linked.png")
    os.symlink("nowhere", source / "broken.png")
    os.symlink("loop.png", source / "loop.png")
    os.symlink(".", source / "circle")
    assert found("in").keys() == {"a.png", "linked.png", "broken.png", "loop.png"}
    assert storage.find("in", {".png"}, "out", False).links == [f"{source}/circle"]


@pytest.mark.parametrize("pattern", ["*", "**", "**/*", "*/*.png", "*/x/*.png", "**/x/*.png"])
def test_patterns_follow_no_links_to_folders(source, pattern):
    save(source / "sub/x/a.png")
    save(source / "sub/x.png/b.png")
    save(source.parent / "other/x/c.png")
    os.symlink("../other", source / "link")
    for name in ("one", "two"):  # two loops make more paths than can be walked
        os.symlink(".", source / name)
    got = plan.find([f"in/{pattern}"], Options(False, "out", "", {}, ""))
    names = {file.name for file in got.files}
    assert names and names <= {"sub/x/a.png", "sub/x.png/b.png"}
    assert got.links == [f"{source}/{name}" for name in ("link", "one", "two")]


def test_a_link_that_a_pattern_names_is_followed(source):
    save(source / "one/v2/a.png")
    os.symlink("v2", source / "one/current")
    assert found("in/*/current/*.png").keys() == {"one/current/a.png"}
    os.symlink("one", source / "link")
    with pytest.raises(InputError, match="not followed: .*/in/link$"):
        found("in/l*/*.png")


def test_outputs_within_the_source_are_not_found(source, monkeypatch):
    save(source / "a.png")
    save(source / "out/b.png")
    save(source / "outer/c.png")
    os.symlink("in", "alias")
    for pattern in ("in", "alias", "in/**/*", "in/*"):
        assert found(pattern, target="in/out").keys() == {"a.png", "outer/c.png"}
    assert found("in", target="in").keys() == {"a.png", "out/b.png", "outer/c.png"}
    assert found("in/*.png", target="in").keys() == {"a.png"}
    assert found("in/out", target=".").keys() == {"b.png"}


def test_patterns_and_several_sources(source):
    for name in ("x/a.png", "x/a[1].png", "x/b.txt", "y/a.png"):
        save(source / name)
    assert found("in/*/a.png").keys() == {"x/a.png", "y/a.png"}
    assert found("in/x/a[1].png").keys() == {"a[1].png"}
    assert found("in/x/a[[]1].png").keys() == {"a[1].png"}
    assert found("in/x/*").keys() == {"a.png", "a[1].png"}
    assert found("in/x", "in/y/a.png").keys() == {"x/a.png", "x/a[1].png", "a.png"}
    assert found("in/x/b.txt").keys() == {"b.txt"}
    os.symlink("x", source / "alias")
    assert found("in", "in/x", "in/alias/a.png", "in/y/*").keys() == {
        "in/x/a.png",
        "in/x/a[1].png",
        "in/y/a.png",
    }
    for nothing in ("nowhere", "in/*.gif", "-"):
        with pytest.raises(InputError):
            found(nothing)


def test_a_folder_that_cannot_be_listed_is_a_failure(source, monkeypatch):
    save(source / "a.png")
    save(source / "locked/b.png")
    scandir = os.scandir

    def refuse(path):
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    got = storage.find("in", {".png"}, "out", False)
    assert [file.name for file in got.files] == ["a.png"]
    assert got.unreadable == [(f"{source}/locked", "Permission denied")]


# Names of outputs


def named(*names: str, known: dict[str, str] | None = None) -> dict[str, str | None]:
    """Input -> output, or None where there is none to be had."""
    found = [File(name, name, 0, "") for name in names]
    triples = plan.name_outputs(found, ".nic", known or {})
    return {file.name: None if rival else output for file, output, rival in triples}


def test_sources_of_one_name_keep_their_extensions():
    assert named("a.png", "b/a.png") == {"a.png": "a.nic", "b/a.png": "b/a.nic"}
    assert named("a.jpg", "a.png") == {"a.jpg": "a.jpg.nic", "a.png": "a.png.nic"}
    assert named("a.PNG", "A.jpg") == {"a.PNG": "a.PNG.nic", "A.jpg": "A.jpg.nic"}
    assert named("a.jpg", "a.png", "a.png.png") == {
        "a.jpg": "a.jpg.nic",
        "a.png": "a.png.nic",
        "a.png.png": "a.png.png.nic",
    }
    assert named("A.png", "a.png") == {"A.png": "A.png.nic", "a.png": None}


def test_a_file_keeps_its_output_whichever_others_come_or_go():
    known = {"a.png": "a.nic", "b.png": "b.png.nic", "c.png": "other.nic"}
    assert named("a.jpg", "a.png", "b.png", "c.png", known=known) == {
        "a.jpg": "a.jpg.nic",
        "a.png": "a.nic",
        "b.png": "b.png.nic",
        "c.png": "c.nic",
    }
    assert named("A.png", "a.png", known={"a.png": "a.nic"}) == {
        "A.png": "A.png.nic",
        "a.png": "a.nic",
    }


part = st.sampled_from(["a", "A", "b", "png", "nic", "é", "\udcff"])
odd_names = st.lists(part, min_size=2, max_size=4).map(".".join)


@given(st.lists(odd_names, unique=True), st.randoms())
def test_no_two_sources_get_one_output(names, chance):
    outputs = named(*names)
    got = [output.casefold() for output in outputs.values() if output]
    assert len(set(got)) == len(got)
    folded = [name.casefold() for name in names]
    assert all(output for name, output in outputs.items() if folded.count(name.casefold()) == 1)
    # A second run decides as the first did; those done keep their names when others are gone.
    assert (
        named(*names, known={name: output for name, output in outputs.items() if output}) == outputs
    )
    left = {name: output for name, output in outputs.items() if output and chance.random() < 0.5}
    assert named(*left, known=left) == left


def test_the_same_sources_are_refused_again(source, here, capsys):
    for name in ("in/Case.png", "in/case.png", "in/x/i.png", "other/x/i.png"):
        save(source.parent / name)
    for _ in range(2):
        batch("in/Case.png", "in/case.png", "in/x", "other/x", "out", code=9)
        assert tree(Path("out")) == {"Case.png.nic", "x/i.png.nic"}
        err = capsys.readouterr().err
        assert f"{source}/case.png: its output would be that of {source}/Case.png" in err
        assert "other/x/i.png: its output would be that of" in err


# The manifest

texts = st.text(st.characters(), max_size=12)
some_rows = st.lists(
    st.builds(
        Row,
        output=texts,
        input=texts,
        stamp=texts,
        settings=st.dictionaries(texts, texts | st.integers() | st.booleans(), max_size=2),
        status=st.sampled_from([manifest.STARTED, manifest.DONE]),
        error=st.none() | texts,
        bpp=st.none() | st.floats(allow_nan=False),
    ),
    max_size=5,
)


def same_rows(path: str, expected: list[Row]) -> bool:
    last = {row.output: replace(row, notes=[]) for row in expected}
    return manifest.read(path) == last


@settings(max_examples=50)
@given(some_rows, some_rows, st.integers(0, 400))
def test_a_torn_manifest_loses_its_last_line_only(tmp_path_factory, first, second, cut):
    path = str(tmp_path_factory.mktemp("manifest") / "m")
    with Manifest(path) as record:
        for row in first:
            record.append(row)
    assert same_rows(path, first)
    data = Path(path).read_bytes()
    left = max(0, len(data) - cut)
    Path(path).write_bytes(data[:left])
    kept = first[: data[: left + 1].count(b"\n")]  # a row is whole without its end of line too
    with Manifest(path) as record:
        for row in second:
            record.append(row, durable=True)
    assert same_rows(path, kept + second)


@pytest.mark.parametrize("line", ["", "{", "[]", "1", "{}", '{"output": 1}', "null", "\x00", "é"])
def test_lines_that_are_no_rows_are_passed_over(tmp_path, line):
    row = Row("a.nic", "/a.png", "1", {}, manifest.DONE, notes=[])
    with Manifest(str(tmp_path / "m")) as record:
        record.append(row)
    text = (tmp_path / "m").read_text()
    unknown = text.replace('"output"', '"new": 1, "output"').replace("a.nic", "b.nic")
    (tmp_path / "m").write_text(f"{line}\n{text}{line}\n{unknown}", encoding="utf-8")
    expected = {"a.nic": row, "b.nic": replace(row, output="b.nic")}
    assert manifest.read(str(tmp_path / "m")) == expected


def test_one_run_at_a_time(tmp_path):
    with Manifest(str(tmp_path / "m")):
        with pytest.raises(OutputError, match="another run"):
            Manifest(str(tmp_path / "m"))
    Manifest(str(tmp_path / "m"))


# There and back


def test_every_name_there_and_back(source, here, capsys):
    for seed, name in enumerate(NAMES):
        save(source / name, seed)
    batch("in", "nics", "-q", "80")
    assert tree(Path("nics")) == {name[:-4] + ".nic" for name in NAMES}
    batch("--decode", "nics", "back", "--format", "bmp")
    assert tree(Path("back")) == {name[:-4] + ".bmp" for name in NAMES}
    for name in NAMES:
        decoded = nic.open(f"nics/{name[:-4]}.nic")
        assert np.array_equal(pixels(Path(f"back/{name[:-4]}.bmp")), decoded)
        row = rows(Path("nics"))[name[:-4] + ".nic"]
        assert row.input == f"{source}/{name}" and row.status == "done" and row.quality == 80.0
        assert row.bytes_out == os.path.getsize(f"nics/{name[:-4]}.nic")
        assert row.bpp == 8 * row.bytes_out / 24**2
    out, err = capsys.readouterr()
    assert err == "" and f"{len(NAMES)}  done" in out
    batch("--", "in/-dash.png", "in/--decode.png", "dashes")
    assert tree(Path("dashes")) == {"-dash.nic", "--decode.nic"}


def test_one_bad_file_stops_no_other(source, here, capsys):
    save(source / "a.png")
    (source / "bad.png").write_bytes(b"no image")
    os.symlink("nowhere", source / "gone.png")
    save(source / "z.png")
    batch("in", "out", code=9)
    assert tree(Path("out")) == {"a.nic", "z.nic"}
    out, err = capsys.readouterr()
    assert out.splitlines()[1:] == ["       2  failed"]
    assert err.splitlines() == [
        f"nic: {source}/bad.png: not an image that Pillow can read",
        f"nic: {source}/gone.png: No such file or directory",
    ]
    assert rows(Path("out"))["bad.nic"].error == "not an image that Pillow can read"
    save(source / "bad.png", 1)
    os.remove(source / "gone.png")
    batch("in", "out")
    assert "1  done" in (out := capsys.readouterr().out) and "2  unchanged" in out


def test_refusals(source, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)  # not installed, wherever this runs
    save(source / "a.png")
    Path("file").write_text("")
    for code, *argv in (
        (2, "in"),
        (2, "nowhere", "out"),
        (2, "in", "out", "--decode"),
        (2, "in", "out", "-q", "101"),
        (2, "in", "out", "-j", "0"),
        (2, "in", "out", "--format", "png"),
        (2, "in", "out", "--decode", "-q", "30"),
        (2, "in", "out", "--decode", "--skip-larger"),
        (2, "in", "out", "--decode", "--format", "mp3"),
        (2, "in", "out", "--decode", "--format", "nic"),
        (2, "in", "out", "--address", "auto"),
        (2, "in", "out", "--engine", "ray"),
        (2, "in", "memory://out"),
        (2, "in", "out", "--weights", "file"),
        (8, "in", "file"),
        (8, "in", "file/out"),
    ):
        batch(*argv, code=code)
        out, err = capsys.readouterr()
        assert out == "" and err.startswith("nic: ") and err.count("\n") == 1
        assert "nic: nic: " not in err
    assert sorted(os.listdir()) == ["file", "in"]


def test_no_empty_report(source, monkeypatch, capsys):
    def no_cluster(*args, **options):
        raise InputError("no cluster")

    save(source / "a.png")
    monkeypatch.setattr(processes, "results", no_cluster)
    batch("in", "out", code=2)
    assert capsys.readouterr() == ("", "nic: no cluster\n")


@pytest.mark.parametrize("device, jobs", [("cpu", 3), ("cuda", 1)])
def test_as_many_processes_as_processors_but_one_on_a_gpu(monkeypatch, device, jobs):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2})
    options = Options(False, "out", "", {}, "", device=device)
    args = argparse.Namespace(engine="local", jobs=None)
    assert command._engine(args, options, tasks=9).keywords["jobs"] == jobs


def test_a_dry_run_writes_nothing(source, capsys):
    save(source / "a.png")
    save(source / "a.jpg")
    batch("in", "out", "--dry-run")
    folder = source.parent
    assert capsys.readouterr().out.splitlines() == [
        f"{source}/a.jpg -> {folder}/out/a.jpg.nic",
        f"{source}/a.png -> {folder}/out/a.png.nic",
        "2 to do, 0 unchanged, 0 refused",
    ]
    assert os.listdir() == ["in"]


# Which files are done


@pytest.fixture
def count(monkeypatch):
    """The number of files encoded since it was last asked."""
    counts = [0]
    encode = work.write_picture

    def counted(*args):
        counts[0] += 1
        return encode(*args)

    def ask() -> int:
        result, counts[0] = counts[0], 0
        return result

    monkeypatch.setattr(work, "write_picture", counted)
    return ask


def test_only_what_is_new_or_changed_is_encoded(source, here, count):
    for i in range(4):
        save(source / f"{i}.png", i)
    batch("in", "out")
    assert count() == 4
    batch("in", "out")
    assert count() == 0
    save(source / "0.png", 9)
    os.utime(source / "1.png")  # other times, same bytes
    os.remove("out/2.nic")
    Path("out/3.nic").write_bytes(b"by someone else")
    batch("in", "out", code=9)
    assert count() == 2
    assert Path("out/3.nic").read_bytes() == b"by someone else"
    batch("in", "out", "--force")
    assert count() == 1
    batch("in", "out", "-q", "10")
    assert count() == 4
    os.rename("in", "moved")
    batch("moved", "out", "-q", "10")
    assert count() == 0


def test_outputs_of_others_are_not_overwritten(source, here, capsys):
    """Neither a stranger's file, nor that of another source of the same name, nor the source."""
    save(source / "a.png", 1)
    save(source.parent / "other/a.png", 2)
    os.mkdir("out")
    Path("out/a.nic").write_bytes(b"precious")
    batch("in", "out", code=9)
    assert Path("out/a.nic").read_bytes() == b"precious"
    batch("in", "out", "-f")
    first = Path("out/a.nic").read_bytes()
    batch("other", "out", code=9)
    assert Path("out/a.nic").read_bytes() == first
    assert "a.nic exists already" in capsys.readouterr().err
    batch("in", "in")
    assert Path("in/a.nic").read_bytes() == first
    batch("in/a.nic", "in", "-f", code=9)
    assert Path("in/a.nic").read_bytes() == first


def test_a_failure_keeps_the_older_output(source, here):
    save(source / "a.png")
    batch("in", "out")
    before = Path("out/a.nic").read_bytes()
    (source / "a.png").write_bytes(b"broken")
    batch("in", "out", code=9)
    assert Path("out/a.nic").read_bytes() == before
    save(source / "a.png", 5)
    batch("in", "out")
    assert Path("out/a.nic").read_bytes() != before


def tiny(path):
    """A picture whose file is smaller than any .nic of it."""
    Image.new("RGB", (24, 24)).save(path, lossless=True)


def test_skip_larger(source, here, count, capsys):
    save(source / "a.png")
    tiny(source / "flat.webp")
    batch("in", "out", "--skip-larger", "-q", "100")
    assert tree(Path("out")) == {"a.nic"} and count() == 2
    assert "1  larger" in capsys.readouterr().out
    batch("in", "out", "--skip-larger", "-q", "100")
    assert count() == 0
    batch("in", "out", "-q", "100")
    assert tree(Path("out")) == {"a.nic", "flat.nic"}


def test_an_output_that_would_now_be_larger_goes(source, here, count, capsys):
    """It is of a picture that is no more; but what no batch wrote stays, even with -f."""
    save(source / "a.webp")
    batch("in", "out")
    tiny(source / "a.webp")
    Path("out/flat.nic").write_bytes(b"by someone else")
    tiny(source / "flat.webp")
    for _ in range(2):
        batch("in", "out", "--skip-larger", "-q", "100", "-f")
        assert tree(Path("out")) == {"flat.nic"}
    assert count() == 1 + 2 + 1 and Path("out/flat.nic").read_bytes() == b"by someone else"


def test_what_no_batch_wrote_stays_so_after_a_failure(source, here):
    (source / "a.png").write_bytes(b"broken")
    Path("out").mkdir()
    Path("out/a.nic").write_bytes(b"by someone else")
    batch("in", "out", "-f", code=9)
    Image.new("RGB", (24, 24)).save(source / "a.png")
    batch("in", "out", "--skip-larger", "-q", "100", code=9)
    assert Path("out/a.nic").read_bytes() == b"by someone else"
    batch("in", "out", "-f")
    save(source / "a.png")
    batch("in", "out")  # it is the batch's from then on


def test_the_only_copy_stays_so_after_a_failure(source, here):
    save(source / "a.png")
    batch("in", "out", "--delete-source")
    copy = Path("out/a.nic").read_bytes()
    (source / "a.png").write_bytes(b"broken")
    batch("in", "out", "-f", code=9)
    save(source / "a.png", 5)
    batch("in", "out", code=9)
    assert Path("out/a.nic").read_bytes() == copy


def test_notes_are_kept_and_shown_on_request(source, here, capsys):
    Image.fromarray(np.full((8, 8), 999, np.uint16)).save(source / "a.png")
    batch("in", "out", "-v")
    out, err = capsys.readouterr()
    note = rows(Path("out"))["a.nic"].notes[0]
    assert note in err and "1  with notes" in out
    batch("in", "other", "--quiet")
    assert capsys.readouterr() == ("", "")


# Deleting sources


def test_sources_are_deleted_when_verified(source, here, count, capsys):
    save(source / "a.png")
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    Image.fromarray(noise).save(source / "noise.png")
    Image.fromarray(np.full((8, 8), 999, np.uint16)).save(source / "deep.png")
    (source / "bad.png").write_bytes(b"no image")
    batch("in", "out", code=9)
    assert count() == 3
    batch("in", "out", "--delete-source", code=9)
    assert count() == 0
    assert tree(source) == {"noise.png", "deep.png", "bad.png"}
    assert tree(Path("out")) == {"a.nic", "noise.nic", "deep.nic"}
    err = capsys.readouterr().err
    assert "source kept: PSNR of only 1" in err and "source kept: 16-bit" in err
    assert rows(Path("out"))["a.nic"].deleted
    batch("--decode", "out", "back", "--delete-source")
    assert tree(Path("out")) == set() and len(tree(Path("back"))) == 3


def test_transparency_and_metadata_come_through_or_keep_the_source(source, here, capsys):
    exif = Image.Exif()
    exif[271] = "maker"
    clear = Image.new("RGBA", (24, 24), (90, 80, 70, 0))
    clear.paste((10, 200, 30, 128), (4, 4, 20, 20))
    clear.save(source / "a.png", exif=exif)
    batch("in", "out")
    batch("--decode", "out", "flat", "--format", "jpeg", "--delete-source", code=9)
    assert "JPEG holds no transparency" in capsys.readouterr().err
    batch("--decode", "out", "stripped", "--strip")
    assert (
        Image.open("stripped/a.png").mode == "RGBA" and not Image.open("stripped/a.png").getexif()
    )
    batch("in", "out", "--delete-source")
    batch("--decode", "out", "in", "--delete-source")
    back = Image.open("in/a.png")
    assert np.array_equal(np.asarray(back)[..., 3], np.asarray(clear)[..., 3])
    assert back.getexif()[271] == "maker" and tree(Path("out")) == set()


def test_an_opaque_alpha_channel_is_as_good_as_none(source, here):
    Image.new("RGBA", (24, 24), (90, 80, 70, 255)).save(source / "a.png")
    batch("in", "out", "--delete-source")
    assert tree(source) == set()


def test_a_damaged_output_keeps_its_source(source, here, monkeypatch):
    save(source / "a.png")
    batch("in", "out")
    data = bytearray(Path("out/a.nic").read_bytes())
    data[-1] ^= 1
    Path("out/a.nic").write_bytes(data)
    batch("in", "out", "--delete-source", code=9)
    assert tree(source) == {"a.png"}


def test_a_source_that_changes_meanwhile_is_kept(source, here, monkeypatch):
    save(source / "a.png")
    convert = work.convert

    def slow(task, options, model):
        row = convert(task, options, model)
        os.utime(source / "a.png")
        return row

    monkeypatch.setattr(work, "convert", slow)
    batch("in", "out", "--delete-source", code=9)
    assert tree(source) == {"a.png"}
    assert rows(Path("out"))["a.nic"].error == "source kept: it has changed meanwhile"


def test_the_only_copy_is_not_overwritten(source, here):
    """Cameras begin again at 1: another picture comes by the name of one that was deleted."""
    save(source / "IMG_1.png", 1)
    batch("in", "out", "--delete-source")
    only = Path("out/IMG_1.nic").read_bytes()
    save(source / "IMG_1.png", 2)
    batch("in", "out", "--delete-source", code=9)
    assert Path("out/IMG_1.nic").read_bytes() == only and tree(source) == {"IMG_1.png"}


def same_stamp(path: Path, colour: str) -> None:
    """A file whose size and time are those of any other of these."""
    path.parent.mkdir(exist_ok=True)
    Image.new("RGB", (24, 24), colour).save(path)
    os.utime(path, (1, 1))


@pytest.mark.parametrize("delete", [(), ("--delete-source",)])
def test_another_picture_of_the_same_name_size_and_time(source, here, capsys, delete):
    """Nor is it overwritten when the run that refused it is repeated."""
    same_stamp(source / "IMG_1.bmp", "red")
    same_stamp(Path("card2/IMG_1.bmp"), "blue")
    batch("in", "out", *delete)
    first = Path("out/IMG_1.nic").read_bytes()
    for _ in range(2):
        batch("card2", "out", *delete, code=9)
        assert "IMG_1.nic exists already" in capsys.readouterr().err
    assert Path("out/IMG_1.nic").read_bytes() == first and tree(Path("card2")) == {"IMG_1.bmp"}
    same_stamp(source / "IMG_1.bmp", "green")
    if delete:
        batch("in", "out", *delete, code=9)
        assert tree(source) == {"IMG_1.bmp"} and Path("out/IMG_1.nic").read_bytes() == first
        batch("in", "out", "-f")
        assert Path("out/IMG_1.nic").read_bytes() != first


def test_a_copy_of_what_was_deleted_is_deleted_too(source, here, count):
    same_stamp(source / "a.bmp", "red")
    same_stamp(Path("copy/a.bmp"), "red")
    batch("in", "out", "--delete-source")
    batch("copy", "out", "--delete-source")
    assert count() == 1 and tree(source) == tree(Path("copy")) == set()


def test_only_deletions_of_this_run_are_reported(source, here, capsys):
    save(source / "a.png")
    batch("in", "out", "--delete-source")
    assert "1  sources deleted" in capsys.readouterr().out
    save(source / "a.png")
    batch("in", "out", "-f")
    assert "deleted" not in capsys.readouterr().out
    assert tree(source) == {"a.png"} and not rows(Path("out"))["a.nic"].deleted


# Elsewhere


def test_urls(source, here, capsys):
    """The same, with sources and outputs in a file system of fsspec's."""
    fsspec = pytest.importorskip("fsspec")
    memory = fsspec.filesystem("memory")
    save(source / "sub/a b.png", 1)
    (source / "bad.png").write_bytes(b"no image")
    for path in source.rglob("*.png"):
        memory.pipe_file(f"/batch/in/{path.relative_to(source)}", path.read_bytes())
    try:
        arguments = ["memory://batch/in", "memory://batch/out", "--manifest", "record"]
        batch(*arguments, code=9)
        batch(*arguments, code=9)
        assert "1  unchanged" in capsys.readouterr().out
        assert memory.find("/batch/out") == ["/batch/out/sub/a b.nic"]
        batch("memory://batch/in/*/*", "memory://batch/in", "--manifest", "other")
        batch("memory://batch/out", f"file://{source.parent}/back", "--decode", "--delete-source")
        decoded = nic.decode(memory.cat_file("/batch/in/sub/a b.nic"))
        assert np.array_equal(pixels(Path("back/sub/a b.png")), decoded)
        assert memory.find("/batch/out") == []
        batch("memory://batch/nowhere", "out", code=2)
        batch("nosuchscheme://x", "out", code=2)
        batch("in", "nosuchscheme://x", "--manifest", "new", code=8)
        assert not os.path.exists("new") and not os.path.exists("out")
    finally:
        memory.rm("/batch", recursive=True)
