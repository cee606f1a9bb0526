"""What a shell and a desktop need: completion, thumbnails, the MIME type and `file`'s magic."""

from __future__ import annotations

import configparser
import os
import pty
import select
import shutil
import subprocess
from pathlib import Path

import pytest
from PIL import Image

import cli
import nic

ROOT = Path(__file__).parents[1]
SHARE = ROOT / "share"
TERMINAL = {**os.environ, "TERM": "dumb"}
VECTOR = ROOT / "tests" / "vectors" / "lanes-100x70-q80.nic"


def needs(program: str):
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"{program} is not installed")


def output(*command: str | Path, **options) -> str:
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, **options).stdout


@pytest.fixture
def script(tmp_path, capsys):
    """Writes the completion script of a shell; the folder holds one image with a space."""
    (tmp_path / "a photo.png").touch()

    def write(shell: str) -> str:
        assert cli.main(["completions", shell]) == 0
        path = tmp_path / f"nic.{shell}"
        path.write_text(capsys.readouterr().out)
        return str(path)

    return write


COMPLETIONS = [
    ("nic enc", {"encode"}),
    ("nic ", set(cli.COMMANDS)),
    ("nic encode --qui", {"--quiet"}),
    ("nic encode -q 50 --ver", {"--verify", "--verbose"}),
    ("nic compare --ps", {"--psnr"}),
    ("nic completions b", {"bash"}),
]


@needs("bash")
def test_bash(script, tmp_path):
    driver = """
        source "$1"
        while IFS= read -r line; do
            read -ra COMP_WORDS <<< "$line"
            [[ $line == *" " ]] && COMP_WORDS+=("")
            COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
            _shtab_nic nic
            echo "${COMPREPLY[*]}"
        done
        complete -p nic
    """
    typed = "".join(f"{line}\n" for line, _ in [*COMPLETIONS, ("nic encode a", None)])
    command = ["bash", "-c", driver, "bash", script("bash")]
    *found, no_command, last = output(*command, input=typed, cwd=tmp_path).splitlines()
    assert [set(line.split()) for line in found] == [expected for _, expected in COMPLETIONS]
    assert no_command == "" and "-o default" in last  # Bash itself then completes a file


@needs("fish")
def test_fish(script, tmp_path):
    path = script("fish")
    for line, expected in [*COMPLETIONS, ("nic encode a", {"a photo.png"})]:
        command = ["fish", "--no-config", "-c", 'source $argv[1]; complete -C "$argv[2]"']
        found = output(*command, path, line, cwd=tmp_path).splitlines()
        assert {line.split("\t")[0] for line in found} == expected


def read_until(terminal: int, text: bytes) -> bytes:
    seen = b""
    while text not in seen and select.select([terminal], [], [], 10)[0]:
        seen += os.read(terminal, 4096)
    return seen


@needs("zsh")
def test_zsh(script, tmp_path):
    """Zsh completes only at a terminal: types into one, where `nic` prints its arguments."""
    shutil.copy(script("zsh"), tmp_path / "_nic")
    setup = """
        nic() { print -r -- "<$*>" }
        fpath=($PWD $fpath); autoload -Uz compinit; compinit -D -u; PS1=rea"dy "
    """
    terminal, end = pty.openpty()
    process = subprocess.Popen(
        ["zsh", "-f", "-i"], stdin=end, stdout=end, stderr=end, cwd=tmp_path, env=TERMINAL
    )
    os.close(end)
    os.write(terminal, setup.encode())
    read_until(terminal, b"ready ")
    # One after the other: with more input waiting, zsh completes nothing.
    for typed, completed in [(b"nic enc\t", b"encode"), (b"--qui\t", b"--quiet"), (b"a\t", b"png")]:
        os.write(terminal, typed)
        read_until(terminal, completed)
    os.write(terminal, b"\n")
    seen = read_until(terminal, b"photo.png>")
    process.kill()
    process.wait()
    os.close(terminal)
    assert b"<encode --quiet a photo.png>" in seen


def test_unknown_shell(capsys):
    assert cli.main(["completions", "tcsh"]) == 2
    assert "'bash', 'zsh', 'fish'" in capsys.readouterr().err


def test_thumbnail_as_the_desktop_asks_for_it(golden_model, tmp_path):
    entry = configparser.ConfigParser(interpolation=None)
    assert entry.read(SHARE / "thumbnailers" / "nic.thumbnailer")
    entry = entry["Thumbnailer Entry"]
    assert entry["MimeType"] == "image/x-nic;" and entry["TryExec"] == "nic"
    (tmp_path / "out.png").touch()  # a desktop makes the file first
    fields = {"%s": "32", "%i": str(VECTOR), "%o": str(tmp_path / "out.png")}
    program, *arguments = (fields.get(word, word) for word in entry["Exec"].split())
    assert program == "nic" and cli.main(arguments) == 0
    with Image.open(tmp_path / "out.png") as image:
        assert image.format == "PNG" and image.size == (32, 22)


def test_thumbnails_are_never_enlarged(golden_model, tmp_path):
    assert cli.main(["thumbnail", str(VECTOR), str(tmp_path / "out.png")]) == 0
    with Image.open(tmp_path / "out.png") as image:
        assert image.tobytes() == nic.open(VECTOR).tobytes()


def test_thumbnails_are_upright_and_keep_transparency(golden_model, tmp_path):
    exif = Image.Exif()
    exif[274] = 6
    image = Image.new("RGBA", (30, 20), (200, 100, 50, 128))
    image.info["exif"] = exif.tobytes()
    (tmp_path / "in.nic").write_bytes(nic.encode(image))
    assert cli.main(["thumbnail", str(tmp_path / "in.nic"), str(tmp_path / "out.png")]) == 0
    with Image.open(tmp_path / "out.png") as image:
        assert (image.mode, image.size) == ("RGBA", (20, 30))
        assert image.getpixel((3, 3))[3] == 128 and not image.getexif()


@pytest.mark.parametrize(
    "arguments, code",
    [
        (["missing.nic", "out.png"], 2),
        ([__file__, "out.png"], 3),
        ([str(VECTOR), "nowhere/out.png"], 8),
        ([str(VECTOR), "out.png", "--size", "0"], 2),
    ],
)
def test_thumbnail_refuses(tmp_path, monkeypatch, capsys, arguments, code):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["thumbnail", *arguments]) == code
    assert capsys.readouterr().err.count("\n") == 1 and not list(tmp_path.iterdir())


@needs("update-mime-database")
def test_mime_type(tmp_path):
    shutil.copytree(SHARE / "mime" / "packages", tmp_path / "mime" / "packages")
    output("update-mime-database", tmp_path / "mime", stderr=subprocess.DEVNULL)
    assert b"image/x-nic]\n>0=\0\4\x89NIC" in (tmp_path / "mime" / "magic").read_bytes()
    assert ":image/x-nic:*.nic\n" in (tmp_path / "mime" / "globs2").read_text()


@needs("file")
def test_file_knows_the_magic():
    magic = SHARE / "misc" / "nic.magic"
    assert output("file", "-b", "-m", magic, VECTOR) == "nic image, version 1.0\n"
    assert output("file", "-b", "--mime-type", "-m", magic, VECTOR) == "image/x-nic\n"
