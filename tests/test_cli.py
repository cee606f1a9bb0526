"""The command line as a user meets it: names, streams, messages, exit codes, interruption.

Most of it runs on a lossless stand-in for the codec (`lossless_codec.py`), so that what comes out
can be compared with what went in; the last tests run the codec itself.
"""

from __future__ import annotations

import io
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import crafted
import lossless_codec
import numpy as np
import pytest
from PIL import Image
from processes import ROOT, start
from vectors.make import FOLDER, NIC_1

import cli
import nic
from nic import container, models


def read(path: str) -> np.ndarray:
    return np.asarray(Image.open(path))


# Names and streams


def test_default_names_stand_beside_the_input(folder, photo):
    (folder / "sub").mkdir()
    os.rename("photo.png", "sub/photo.png")
    assert cli.main(["encode", "sub/photo.png"]) == 0
    os.remove("sub/photo.png")
    assert cli.main(["decode", "sub/photo.nic"]) == 0
    assert np.array_equal(read("sub/photo.png"), photo)


@pytest.mark.parametrize(
    "name",
    ["two words.png", "gr\u00fc\u00df \u65e5\u672c.png", "-dash.png", "a\nb.png", "\udcff.png"],
)
def test_odd_names(folder, photo, capsys, name):
    os.rename("photo.png", name)
    stem = name[:-4]
    assert cli.main(["encode", "--", name]) == 0
    assert cli.main(["decode", f"--output=back {name}", "--", f"{stem}.nic"]) == 0
    assert cli.main(["info", "--", f"{stem}.nic"]) == 0
    assert np.array_equal(read(f"back {name}"), photo)
    assert capsys.readouterr().err.count("\n") == 2


def test_output_format_follows_the_extension_or_the_flag(folder, photo):
    assert cli.main(["encode", "photo.png"]) == 0
    for extension, format in (("bmp", "BMP"), ("tiff", "TIFF"), ("webp", "WEBP")):
        assert cli.main(["decode", "photo.nic", "-o", f"out.{extension}"]) == 0
        assert Image.open(f"out.{extension}").format == format
        assert np.array_equal(read(f"out.{extension}"), photo)
    assert cli.main(["decode", "photo.nic", "-o", "noextension", "--format", "bmp"]) == 0
    assert Image.open("noextension").format == "BMP"
    assert cli.main(["decode", "photo.nic", "--format", "jpg"]) == 0
    assert Image.open("photo.jpg").format == "JPEG"


def test_several_files_are_decoded_beside_themselves_or_into_a_folder(folder, photo, capsys):
    for name in ("a", "b"):
        assert cli.main(["encode", "photo.png", "-o", f"{name}.nic"]) == 0
    assert cli.main(["decode", "a.nic", "b.nic"]) == 0
    (folder / "out").mkdir()
    assert cli.main(["decode", "a.nic", "b.nic", "-o", "out", "--format", "bmp"]) == 0
    assert cli.main(["decode", "a.nic", "-o", "out"]) == 0
    for path in ("a.png", "b.png", "out/a.bmp", "out/b.bmp", "out/a.png"):
        assert np.array_equal(read(path), photo)


def test_of_several_files_a_bad_one_hurts_no_other(folder, photo, capsys):
    for name in ("a", "b", "c"):
        assert cli.main(["encode", "photo.png", "-o", f"{name}.nic", "--quiet"]) == 0
    (folder / "a.nic").write_bytes((folder / "a.nic").read_bytes()[:-1])
    (folder / "b.png").write_text("mine")
    (folder / "sub").mkdir()
    os.link("c.nic", "sub/c.nic")
    capsys.readouterr()
    names = ["a.nic", "none.nic", "b.nic", "c.nic"]
    assert cli.main(["decode", *names, "--quiet"]) == 3
    messages = capsys.readouterr().err.splitlines()
    assert [m.split(":")[1].strip() for m in messages] == ["a.nic", "none.nic", "b.png"]
    assert np.array_equal(read("c.png"), photo) and (folder / "b.png").read_text() == "mine"
    assert not (folder / "a.png").exists()


def test_two_files_do_not_become_one(folder, refused):
    (folder / "sub").mkdir()
    (folder / "out").mkdir()
    for name in ("a.nic", "sub/a.nic"):
        assert cli.main(["encode", "photo.png", "-o", name, "--quiet"]) == 0
    code, message = refused("decode", "a.nic", "sub/a.nic", "-o", "out", "-f", "--quiet")
    assert code == 8 and "made from another file" in message


def test_several_files_need_a_folder_and_no_stream(folder, refused):
    assert refused("decode", "a.nic", "b.nic", "-o", "none")[0] == 8
    assert refused("decode", "a.nic", "-")[0] == 2
    assert refused("decode", "a.nic", "b.nic", "-v")[0] == 2


def test_gray_stays_gray(folder):
    Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16)).save("gray.png")
    assert cli.main(["encode", "gray.png"]) == 0
    assert cli.main(["decode", "gray.nic", "-o", "back.png"]) == 0
    assert Image.open("back.png").mode == "L" and np.array_equal(read("back.png"), read("gray.png"))


def test_transparency_and_metadata_survive_unless_stripped(folder):
    exif = Image.Exif()
    exif[0x0112] = 6
    image = Image.new("RGBA", (9, 5), (1, 2, 3, 4))
    image.save("clear.webp", lossless=True, exact=True, exif=exif)
    assert cli.main(["encode", "clear.webp"]) == cli.main(["decode", "clear.nic"]) == 0
    back = Image.open("clear.png")
    assert back.mode == "RGBA" and back.getpixel((0, 0)) == (1, 2, 3, 4)
    assert back.size == (9, 5) and back.getexif() == exif
    assert cli.main(["decode", "clear.nic", "--strip", "-f"]) == 0
    stripped = Image.open("clear.png")
    assert stripped.size == (5, 9) and not stripped.getexif()
    assert cli.main(["encode", "clear.webp", "--strip", "-o", "b.nic"]) == 0
    assert [kind for kind, _ in nic.info("clear.nic").chunks] == ["e", "H", "L", "A"]
    assert [kind for kind, _ in nic.info("b.nic").chunks] == ["H", "L", "A"]


def test_one_frame_of_several(folder):
    frames = [Image.new("L", (4, 4), 60 * i) for i in range(3)]
    frames[0].save("film.gif", save_all=True, append_images=frames[1:])
    assert cli.main(["encode", "film.gif", "--frame", "2"]) == cli.main(["decode", "film.nic"]) == 0
    assert read("film.png").max() == read("film.png").min() == 120


def test_standard_input_and_output(folder, photo):
    process = start("encode", "-", stdin=subprocess.PIPE)
    data, _ = process.communicate(Path("photo.png").read_bytes())
    assert process.returncode == 0 and container.read_header(data).width == photo.shape[1]
    process = start("decode", "-", "--format", "bmp", stdin=subprocess.PIPE)
    image, _ = process.communicate(data)
    assert process.returncode == 0
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(image))), photo)
    process = start("info", "-", "--json", stdin=subprocess.PIPE)
    assert json.loads(process.communicate(data)[0])["width"] == photo.shape[1]


def test_streams_only_on_one_side(folder, photo):
    with open("photo.png", "rb") as file:
        process = start("encode", "-", "-o", "a.nic", stdin=file)
        assert process.communicate()[0] == b"" and process.returncode == 0
    image, _ = start("decode", "a.nic", "-o", "-").communicate()
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(image))), photo)


# What is printed


def test_one_line_by_default_none_when_quiet(folder, capsys):
    assert cli.main(["encode", "photo.png"]) == 0
    out, err = capsys.readouterr()
    size = os.path.getsize("photo.nic")
    assert out == "" and err == f"nic: photo.nic: 56x40, {size} bytes, {size / 280:.4f} bpp\n"
    assert cli.main(["encode", "photo.png", "-f", "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")


def test_verbose_prints_the_codecs_report(folder, capsys):
    assert cli.main(["encode", "photo.png", "-v"]) == 0
    err = capsys.readouterr().err
    assert "nic: seconds: analysis: 0.1250\n" in err and "nic: bits: estimated: " in err


def test_verify_decodes_before_anything_is_written(folder, capsys, monkeypatch):
    assert cli.main(["encode", "photo.png", "--verify"]) == 0
    assert "verified: PSNR inf dB" in capsys.readouterr().err

    def damaged(*_, **__):
        raise nic.ChecksumError("decoded latents do not match")

    monkeypatch.setattr(lossless_codec, "decode", damaged)
    assert cli.main(["encode", "photo.png", "--verify", "-o", "b.nic"]) == 4
    assert not os.path.exists("b.nic")


def test_what_is_dropped_is_said(folder, capsys):
    Image.new("CMYK", (8, 8)).save("print.tif")
    assert cli.main(["encode", "print.tif"]) == 0
    assert "nic: warning: print.tif: CMYK converted" in capsys.readouterr().err
    Image.new("RGBA", (8, 8), (1, 2, 3, 4)).save("clear.png")
    assert cli.main(["encode", "clear.png"]) == 0
    assert cli.main(["decode", "clear.nic", "-o", "a.jpg"]) == 0
    assert "nic: warning: clear.nic: JPEG holds no transparency" in capsys.readouterr().err


def test_a_warning_is_said_once(folder, capsys, monkeypatch):
    def warn(*args, **options):
        for _ in range(2):
            warnings.warn("something odd", stacklevel=1)
        return encode(*args, **options)

    encode = lossless_codec.encode
    monkeypatch.setattr(lossless_codec, "encode", warn)
    assert cli.main(["encode", "photo.png"]) == 0
    assert capsys.readouterr().err.count("something odd") == 1


def test_each_file_gets_its_warning(folder, capsys):
    Image.new("RGBA", (8, 8), (1, 2, 3, 4)).save("a.png")
    assert cli.main(["encode", "a.png", "--quiet"]) == 0
    (folder / "b.nic").write_bytes((folder / "a.nic").read_bytes())
    assert cli.main(["decode", "a.nic", "b.nic", "--format", "jpg"]) == 0
    warned = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
    assert [line.split(": ")[2] for line in warned] == ["a.nic", "b.nic"]
    assert cli.main(["decode", "a.nic", "b.nic", "--format", "jpg", "-f", "--quiet"]) == 0
    assert capsys.readouterr().err == ""


def test_pipes_are_read_once(folder, photo):
    assert cli.main(["encode", "photo.png", "-o", "a.nic", "--quiet"]) == 0
    (folder / "out").mkdir()
    os.mkfifo("b.nic")
    for names in (["b.nic"], ["b.nic", "a.nic"]):
        writer = threading.Thread(target=lambda: Path("b.nic").write_bytes(data))
        data = Path("a.nic").read_bytes()
        writer.start()
        assert cli.main(["decode", *names, "-o", "out", "-f", "--quiet"]) == 0
        writer.join()
        assert np.array_equal(read("out/b.png"), photo)


def test_messages_that_cannot_be_written_change_nothing(folder):
    with open("/dev/full", "wb") as full:
        for argv, code in ((["encode", "photo.png"], 0), (["encode", "none.png"], 2)):
            command = [sys.executable, str(ROOT / "tests/lossless_codec.py"), *argv]
            environment = {**os.environ, "PYTHONPATH": str(ROOT)}
            assert subprocess.run(command, stderr=full, env=environment).returncode == code
    assert container.read_header(Path("photo.nic").read_bytes()).width == 56


def test_names_beyond_the_terminals_encoding(folder):
    assert cli.main(["encode", "photo.png", "-o", "gr\u00fc\u00df.nic", "--quiet"]) == 0
    process = start("info", "gr\u00fc\u00df.nic", env={"PYTHONIOENCODING": "ascii"})
    assert process.communicate()[0].startswith(b"gr\\xfc\\xdf.nic\n")
    assert process.returncode == 0


def test_python_warnings_become_one_line(folder, capsys, monkeypatch):
    def warn(*args, **options):
        warnings.warn("something odd", stacklevel=1)
        return encode(*args, **options)

    encode = lossless_codec.encode
    monkeypatch.setattr(lossless_codec, "encode", warn)
    assert cli.main(["encode", "photo.png"]) == 0
    assert "nic: warning: something odd\n" in capsys.readouterr().err
    assert cli.main(["encode", "photo.png", "--quiet", "-f"]) == 0
    assert capsys.readouterr().err == ""


def test_quality_defaults_to_50(folder):
    for flags, step in (([], 128), (["-q", "0"], 0), (["-q", "100"], 255), (["-q", "7.06"], 18)):
        assert cli.main(["encode", "photo.png", "-f", *flags]) == 0
        assert nic.info("photo.nic").quality_step == step


def test_info(folder, capsys):
    assert cli.main(["encode", "photo.png", "--quiet", "-q", "30"]) == 0
    assert cli.main(["info", "photo.nic"]) == 0
    text = capsys.readouterr().out
    assert "width" in text and "56" in text and "quality 30.2" in text
    assert cli.main(["info", "--json", "photo.nic", "photo.nic"]) == 0
    facts, again = map(json.loads, capsys.readouterr().out.splitlines())
    assert facts == again and facts["file"] == "photo.nic"
    assert (facts["width"], facts["height"], facts["gray"]) == (56, 40, False)
    assert facts["bytes"] == os.path.getsize("photo.nic") and facts["bpp"] == facts["bytes"] / 280
    assert abs(facts["quality"] - 30) < 0.3


def test_info_goes_on_after_a_bad_file(folder, capsys):
    assert cli.main(["encode", "photo.png", "--quiet"]) == 0
    data = Path("photo.nic").read_bytes()
    Path("cut.nic").write_bytes(data[:-7])
    assert cli.main(["info", "photo.png", "cut.nic", "missing.nic", "photo.nic"]) == 3
    out, err = capsys.readouterr()
    assert out.startswith("cut.nic\n") and "\nphoto.nic\n" in out
    named = [line.split(": ")[1] for line in err.splitlines()]
    assert named == ["photo.png", "cut.nic", "missing.nic"]


def test_help_tells_defaults_and_exit_codes(capsys):
    assert cli.main(["--help"]) == 0
    text = capsys.readouterr().out
    for error in nic.NicError.__subclasses__():
        assert f"\n  {error.exit_code:>3}  " in text
    assert cli.main(["encode", "--help"]) == 0
    assert "(default: 50)" in capsys.readouterr().out


def test_every_command_has_help(capsys):
    for command in cli.COMMANDS:
        assert cli.main([command, "--help"]) == 0
        assert capsys.readouterr().out.startswith(f"usage: nic {command} ")


# Refusals


def test_unusable_arguments(folder, refused):
    for argv in (
        [],
        ["unknown"],
        ["encode"],
        ["encode", "photo.png", "-q", "101"],
        ["encode", "photo.png", "-q", "-1"],
        ["encode", "photo.png", "-q", "nan"],
        ["encode", "photo.png", "-q", "high"],
        ["encode", "photo.png", "--no-such-flag"],
        ["encode", "photo.png", "--alpha-quality", "101"],
        ["encode", "photo.png", "--frame", "1"],
        ["encode", "photo.png", "--size", "k"],
        ["encode", "photo.png", "--size", "0.1"],
        ["encode", "photo.png", "--size", "1e308k"],
        ["bench", "--bpp", "-1"],
        ["bench", "--memory", "nan"],
        ["encode", "photo.png", "-v", "--quiet"],
        ["encode", "photo.png", "--weights", "missing.safetensors"],
        ["encode", "missing.png"],
        ["encode", "missing/a.png"],
        ["encode", "."],
        ["encode", ""],
        ["decode", "missing.nic"],
        ["info", "missing.nic"],
        ["export", "missing.pt"],
    ):
        code, line = refused(*argv)
        assert code == 2, line
    assert os.listdir() == ["photo.png"]


def test_unknown_flags_name_the_command(folder, refused):
    message = "nic: unknown arguments: --size=3 (see nic info --help)\n"
    assert refused("info", "a.nic", "--size=3") == (2, message)


def test_files_that_are_no_images(folder, refused):
    Path("text.png").write_text("text\nmore text")
    Path("cut.png").write_bytes(Path("photo.png").read_bytes()[:500])
    for name in ("text.png", "cut.png"):
        code, line = refused("encode", name)
        assert code == 2 and name in line
    frames = [Image.new("L", (4, 4), i) for i in (0, 99)]
    frames[0].save("film.gif", save_all=True, append_images=frames[1:])
    assert "2 frames" in refused("encode", "film.gif")[1]


def test_broken_nic_files(folder, refused):
    assert cli.main(["encode", "photo.png", "--quiet"]) == 0
    data = Path("photo.nic").read_bytes()
    damaged = data[:-9] + bytes([data[-9] ^ 1]) + data[-8:]
    newer = data[:4] + b"\x20" + data[5:]
    for content, expected in ((b"", 3), (data[:20], 3), (data[:-1], 3), (damaged, 4), (newer, 5)):
        Path("broken.nic").write_bytes(content)
        code, line = refused("decode", "broken.nic")
        assert code == expected and line.startswith("nic: broken.nic: ")
    assert sorted(os.listdir()) == ["broken.nic", "photo.nic", "photo.png"]


def test_nothing_is_overwritten_unasked(folder, refused):
    Path("photo.nic").write_bytes(b"precious")
    code, line = refused("encode", "photo.png")
    assert code == 8 and "photo.nic" in line and "-f" in line
    assert Path("photo.nic").read_bytes() == b"precious"
    assert cli.main(["encode", "photo.png", "-f", "--quiet"]) == 0
    assert refused("decode", "photo.nic")[0] == 8


def test_impossible_outputs(folder, refused, capsys):
    os.symlink("loop", "loop")
    assert cli.main(["encode", "photo.png", "--quiet"]) == 0
    for output, expected in (
        ("no/such/a.nic", 8),
        (".", 8),
        ("photo.png/a.nic", 8),
        ("/dev/full", 8),
        ("x" * 300, 8),
        ("", 8),
        ("loop", 8),
    ):
        code, line = refused("encode", "photo.png", "-o", output)
        assert code == expected, line
    for output in ("a", "a.xyz", "a.psd"):
        assert refused("decode", "photo.nic", "-o", output)[0] == 2
    assert refused("decode", "photo.nic", "--format", "xyz")[0] == 2
    assert refused("decode", "-", "-o", ".")[0] == 2
    os.unlink("loop")
    assert sorted(os.listdir()) == ["photo.nic", "photo.png"]


def test_unforeseen_errors_take_one_line(folder, refused, monkeypatch):
    errors = {MemoryError(): "out of memory", RuntimeError("a\nb"): "internal error"}
    for error, expected in errors.items():

        def fail(*_, error=error, **__):
            raise error

        monkeypatch.setattr(lossless_codec, "encode", fail)
        code, line = refused("encode", "photo.png")
        assert code == 1 and expected in line
    assert os.listdir() == ["photo.png"]


# Processes


@pytest.mark.parametrize("stage", ["encode", "write"])
@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_encode_leaves_nothing(folder, stage, number, code):
    process = start("encode", "photo.png", env={"SLOW": stage})
    assert process.stderr.readline() == b"waiting\n"
    assert len(os.listdir()) == (2 if stage == "write" else 1)
    process.send_signal(number)
    _, err = process.communicate(timeout=20)
    assert process.returncode == code and err.count(b"\n") == 1 and err.startswith(b"nic: ")
    assert os.listdir() == ["photo.png"]


def test_full_disk(folder):
    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))

    process = start("encode", "photo.png", preexec_fn=limit)
    _, err = process.communicate()
    assert process.returncode == 8 and err.count(b"\n") == 1 and b"photo.nic" in err
    assert os.listdir() == ["photo.png"]


@pytest.mark.parametrize("argv", [["encode", "photo.png", "-o", "-"], ["--help"]])
def test_full_standard_output(folder, argv):
    with open("/dev/full", "wb") as full:
        process = start(*argv, stdout=full)
        _, err = process.communicate()
    assert process.returncode == 8 and err.count(b"\n") == 1 and b"standard output" in err


def test_reader_that_went_away(folder):
    read_end, write_end = os.pipe()
    os.close(read_end)
    process = start("encode", "photo.png", "-o", "-", stdout=write_end)
    os.close(write_end)
    _, err = process.communicate()
    assert process.returncode == 141 and err == b""


def test_binary_data_is_kept_off_a_terminal(folder):
    import pty

    master, terminal = pty.openpty()
    process = start("encode", "photo.png", "-o", "-", stdout=terminal)
    _, err = process.communicate()
    os.close(terminal)
    os.close(master)
    assert process.returncode == 8 and b"is a terminal" in err


def test_refusals_and_info_load_nothing_heavy(folder):
    assert cli.main(["encode", "photo.png", "--quiet"]) == 0
    Path("cut.nic").write_bytes(Path("photo.nic").read_bytes()[:-1])
    probe = (
        "import sys, cli; code = cli.main(sys.argv[1:]); "
        "heavy = {'torch', 'numpy', 'PIL', 'scipy'} & set(sys.modules); "
        "print(code, *heavy, file=sys.stderr)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    for argv, code, loaded in (
        (["info", "photo.nic"], 0, []),
        (["info", "--json", "cut.nic"], 3, []),
        (["encode", "photo.png", "-q", "x"], 2, []),
        (["--help"], 0, []),
        (["train", "--minutes", "x"], 2, []),
        (["train"], 2, []),
        (["eval", "--no-such-flag"], 2, ["PIL", "numpy"]),
        (["bench", "--no-such-flag"], 2, ["PIL", "numpy"]),
        (["decode", "cut.nic"], 3, ["PIL", "numpy"]),
        (["encode", "missing.png"], 2, ["PIL", "numpy"]),
        (["encode", "photo.png"], 8, ["PIL", "numpy"]),
    ):
        command = [sys.executable, "-c", probe, *argv]
        result = subprocess.run(command, capture_output=True, text=True, env=environment)
        found = result.stderr.splitlines()[-1].split()
        assert found[0] == str(code) and set(found[1:]) <= set(loaded), (argv, result.stderr)


# With the codec itself


def test_other_models_and_suspicious_sizes_have_exit_codes(model, tmp_path, monkeypatch, refused):
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "tests/vectors/rgb-48x33-q50.nic", "golden.nic")
    assert refused("decode", "golden.nic")[0] == 6
    Path("large.nic").write_bytes(crafted.empty(8192, 0, models.load(NIC_1).fingerprint))
    weights = "--weights", str(NIC_1)
    assert refused("decode", "large.nic", *weights)[0] == 7
    assert refused("decode", "large.nic", *weights, "--any-ratio")[0] == 3
    assert not list(tmp_path.glob("*.png"))


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_round_trip(model, tmp_path, monkeypatch, photo, capsys, mode):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(photo).convert(mode).save("photo.png")
    assert cli.main(["encode", "photo.png", "-q", "80", "--verify", "-v"]) == 0
    report = capsys.readouterr().err
    assert cli.main(["decode", "photo.nic", "-o", "back.png"]) == 0
    before, after = read("photo.png").astype(float), read("back.png")
    psnr = 10 * np.log10(255**2 / np.mean((before - after) ** 2))
    assert psnr > 25 and f"PSNR {psnr:.2f} dB" in report and "bits" in report


def test_crops_and_damaged_tiles(model, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(np.resize(np.arange(200, dtype=np.uint8), (16, 1100))).save("wide.png")
    assert cli.main(["encode", "wide.png", "-q", "40"]) == 0
    assert cli.main(["decode", "wide.nic", "--crop", "1000,4,50,10", "-o", "part.png"]) == 0
    assert cli.main(["decode", "wide.nic", "-o", "whole.png"]) == 0
    part, whole = read("part.png").astype(int), read("whole.png")
    assert np.abs(part - whole[4:14, 1000:1050]).max() <= 1
    for wrong in ("1000,4,500,10", "1,2,3", "a,b,c,d"):
        assert cli.main(["decode", "wide.nic", f"--crop={wrong}", "-o", "no.png"]) == 2
    data = bytearray(Path("wide.nic").read_bytes())
    sizes = dict(container.read_header(data).chunks)
    data[-5 - sizes.get("f", 0)] ^= 1  # the last byte of the last tile
    Path("damaged.nic").write_bytes(data)
    capsys.readouterr()
    assert cli.main(["info", "damaged.nic"]) == cli.main(["decode", "damaged.nic"]) == 4
    assert capsys.readouterr().err.count("the file is damaged: tile 1 (from x 1024, y 0)") == 2
    assert cli.main(["decode", "damaged.nic", "--keep-going"]) == 0
    assert (
        "nic: warning: damaged.nic: tile 1 (from x 1024, y 0) is damaged" in capsys.readouterr().err
    )
    assert (read("damaged.png")[:, 1024:] == 128).all()


def test_damaged_post_filters_are_done_without(model, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    data = bytearray((FOLDER / "tiles-filtered-1040x24-q30.nic").read_bytes())
    data[-8] ^= 1
    Path("damaged.nic").write_bytes(data)
    options = ["--weights", str(NIC_1), "-o", "out.png"]
    assert cli.main(["decode", "damaged.nic", *options]) == 4
    for extra in ([], ["--crop", "9,9,9,9", "-f"]):
        capsys.readouterr()
        assert cli.main(["decode", "damaged.nic", "--keep-going", *options, *extra]) == 0
        warning = "nic: warning: damaged.nic: metadata or post-filters are damaged: left out"
        assert capsys.readouterr().err.count(warning) == 1
    assert read("out.png").shape == (9, 9, 3)


def test_version_names_the_model_and_the_device(model, capsys):
    assert cli.main(["--version"]) == 0
    text = capsys.readouterr().out
    assert nic.__version__ in text and model.fingerprint.hex() in text
    assert "\ndevice CPU (" in text
