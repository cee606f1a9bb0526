"""Files: named after each other, and written whole or not at all."""

import errno
import os
import stat

import pytest

from nic.errors import OutputError
from nic.files import default_output, write_atomic


@pytest.mark.parametrize(
    "name, extension, expected",
    [
        ("photo.png", ".nic", "photo.nic"),
        ("a.b.JPG", ".nic", "a.b.nic"),
        ("noextension", ".nic", "noextension.nic"),
        (".hidden", ".nic", ".hidden.nic"),
        ("a/b.c/photo", ".nic", "a/b.c/photo.nic"),
        ("photo.nic", ".png", "photo.png"),
        ("photo.NIC", ".png", "photo.png"),
        ("scan.2024", ".png", "scan.2024.png"),
        ("-", ".nic", "-"),
        (".", ".nic", "..nic"),
    ],
)
def test_default_output(name, extension, expected):
    assert default_output(name, extension) == expected


def test_existing_files_are_kept_unless_asked_otherwise(tmp_path):
    path = tmp_path / "a"
    write_atomic(path, b"first")
    with pytest.raises(OutputError, match="exists"):
        write_atomic(path, b"second")
    assert path.read_bytes() == b"first"
    write_atomic(path, b"second", overwrite=True)
    assert path.read_bytes() == b"second" and os.listdir(tmp_path) == ["a"]


def test_permissions_follow_the_umask_or_the_file_replaced(tmp_path):
    path = tmp_path / "a"
    before = os.umask(0o027)
    try:
        write_atomic(path, b"x")
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
        path.chmod(0o600)
        write_atomic(path, b"y", overwrite=True)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    finally:
        os.umask(before)


def test_links_are_followed(tmp_path):
    (tmp_path / "folder").mkdir()
    link, target = tmp_path / "link", tmp_path / "folder" / "target"
    link.symlink_to("folder/target")
    write_atomic(link, b"new")
    assert link.is_symlink() and target.read_bytes() == b"new"
    with pytest.raises(OutputError, match="exists"):
        write_atomic(link, b"newer")
    write_atomic(link, b"newer", overwrite=True)
    assert link.is_symlink() and target.read_bytes() == b"newer"


def test_impossible_targets(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    for name in ("", "no/a", "file/a", "x" * 300):
        target = tmp_path / name
        with pytest.raises(OutputError) as caught:
            write_atomic(target, b"x", overwrite=True)
        assert "\n" not in str(caught.value)
    assert os.listdir(tmp_path) == ["file"]


def test_devices_are_written_directly():
    write_atomic("/dev/null", b"x")
    assert not os.path.isfile("/dev/null")
    with pytest.raises(OutputError, match="[Nn]o space"):
        write_atomic("/dev/full", b"x")


def test_read_only_folder(tmp_path):
    tmp_path.chmod(0o500)
    try:
        if os.access(tmp_path, os.W_OK):
            pytest.skip("this user may write anywhere")
        with pytest.raises(OutputError, match="[Pp]ermission"):
            write_atomic(tmp_path / "a", b"x")
    finally:
        tmp_path.chmod(0o700)


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left"), KeyboardInterrupt()])
def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, error):
    path = tmp_path / "a"
    path.write_bytes(b"old")

    def fail(_):
        raise error

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OutputError if isinstance(error, OSError) else KeyboardInterrupt):
        write_atomic(path, b"new", overwrite=True)
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["a"]
