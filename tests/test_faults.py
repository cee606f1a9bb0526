"""What goes wrong around nic: full disks, vanished folders, kills, too little memory. The output
appears whole or not at all, one line says why, and the exit code is the documented one."""

from __future__ import annotations

import os
import resource
import shutil
import signal
from pathlib import Path

import lossless_codec
import numpy as np
import pytest
from PIL import Image
from processes import start

import cli
import nic


@pytest.fixture
def coded(folder) -> Path:
    """The working folder with photo.nic alone."""
    assert cli.main(["encode", "photo.png", "--quiet"]) == 0
    Path("photo.png").unlink()
    return folder


def limited(kind: int, size: int):
    """For a process to come: a limit to what it may use."""
    return lambda: resource.setrlimit(kind, (size, size))


@pytest.mark.parametrize("argv", [["decode", "photo.nic"], ["thumbnail", "photo.nic", "photo.png"]])
def test_full_disk(coded, argv):
    process = start(*argv, preexec_fn=limited(resource.RLIMIT_FSIZE, 100))
    _, err = process.communicate()
    assert process.returncode == 8 and err.count(b"\n") == 1 and b"photo.png" in err
    assert os.listdir() == ["photo.nic"]


def test_full_disk_behind_unbuffered_standard_output(coded):
    options = {"env": {"PYTHONUNBUFFERED": "1"}, "preexec_fn": limited(resource.RLIMIT_FSIZE, 100)}
    with open("photo.png", "wb") as file:
        process = start("decode", "photo.nic", "-o", "-", stdout=file, **options)
        _, err = process.communicate()
    assert process.returncode == 8 and err.count(b"\n") == 1 and b"standard output" in err


@pytest.mark.parametrize(
    "argv, closed, code",
    [
        (["decode", "photo.nic", "-o", "-"], 1, 8),
        (["info", "photo.nic"], 1, 8),
        (["decode", "-", "-o", "photo.png"], 0, 2),
    ],
)
def test_closed_standard_streams(coded, argv, closed, code):
    process = start(*argv, preexec_fn=lambda: os.close(closed))
    _, err = process.communicate()
    assert process.returncode == code and err.count(b"\n") == 1 and b"internal" not in err
    assert os.listdir() == ["photo.nic"]


def test_messages_stay_out_of_the_data_where_standard_error_is_closed(coded):
    whole, _ = start("decode", "photo.nic", "-o", "-").communicate()
    process = start("decode", "photo.nic", "-o", "-", preexec_fn=lambda: os.close(2))
    assert process.communicate()[0] == whole and process.returncode == 0


@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_decode_leaves_nothing(coded, number, code):
    process = start("decode", "photo.nic", env={"SLOW": "write"})
    assert process.stderr.readline() == b"waiting\n"
    process.send_signal(number)
    _, err = process.communicate(timeout=20)
    assert process.returncode == code and err.count(b"\n") == 1
    assert os.listdir() == ["photo.nic"]


def test_a_killed_process_leaves_what_was_there(coded):
    Path("photo.png").write_bytes(b"precious")
    process = start("decode", "photo.nic", "-f", env={"SLOW": "write"})
    assert process.stderr.readline() == b"waiting\n"
    process.kill()
    process.communicate()
    assert Path("photo.png").read_bytes() == b"precious"
    # Nobody was left to remove it, but its name says what it is.
    [partial] = set(os.listdir()) - {"photo.nic", "photo.png"}
    assert partial.startswith(".nic-") and partial.endswith(".partial")


def test_a_folder_that_cannot_be_written_to(coded, refused):
    # Not even by an administrator, whom permissions do not stop.
    code, line = refused("decode", "photo.nic", "-o", "/proc/photo.png")
    assert code == 8 and "/proc/photo.png: cannot be written" in line


def test_a_folder_that_vanishes_meanwhile(folder, refused, monkeypatch):
    Path("out").mkdir()
    encode = lossless_codec.encode

    def vanishing(*args, **options):
        shutil.rmtree("out")
        return encode(*args, **options)

    monkeypatch.setattr(lossless_codec, "encode", vanishing)
    code, line = refused("encode", "photo.png", "-o", "out/photo.nic")
    assert code == 8 and "out" in line and os.listdir() == ["photo.png"]


def test_an_input_that_vanishes_once_it_is_read(folder, monkeypatch):
    encode = lossless_codec.encode

    def vanishing(*args, **options):
        os.unlink("photo.png")
        return encode(*args, **options)

    monkeypatch.setattr(lossless_codec, "encode", vanishing)
    assert cli.main(["encode", "photo.png"]) == 0
    assert os.listdir() == ["photo.nic"]


def test_too_little_memory(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(np.zeros((3000, 4000, 3), np.uint8)).save("large.png")
    limit = limited(resource.RLIMIT_AS, 300 * 2**20)
    process = start("encode", "large.png", "-q0", script="cli.py", preexec_fn=limit)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1 and err == b"nic: out of memory\n"
    assert os.listdir() == ["large.png"]


@pytest.mark.parametrize("mebibytes", [150, 200, 250, 300])
def test_a_batch_with_too_little_memory_comes_to_its_end(model, tmp_path, monkeypatch, mebibytes):
    monkeypatch.chdir(tmp_path)
    Path("in").mkdir()
    for name in "ab":
        Path(f"in/{name}.nic").write_bytes(nic.encode(np.zeros((70, 100, 3), np.uint8)))
    limit = limited(resource.RLIMIT_AS, mebibytes * 2**20)
    process = start("batch", "in", "out", "--decode", script="cli.py", preexec_fn=limit)
    process.communicate(timeout=120)
    assert process.returncode in (0, 1, 9)
    assert not list(tmp_path.rglob("*.partial"))
    done = list(Path("out").glob("*.png"))
    assert (process.returncode == 0) == (len(done) == 2)
    assert all(Image.open(path).size == (100, 70) for path in done)
