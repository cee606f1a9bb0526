"""Where the files of a batch lie: on this machine, or at a URL that fsspec knows (s3://, gs://).

A path is a URL where it has a scheme; fsspec is needed for nothing else. Every function here takes
both, and none knows what is in a file.
"""

from __future__ import annotations

import glob
import hashlib
import os
import re
import stat
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from nic import files
from nic.errors import InputError, NicError, OutputError
from nic.extras import require


@dataclass(frozen=True)
class File:
    """A file to convert."""

    path: str
    """Absolute path, or URL."""
    name: str
    """Its place in the tree that the outputs repeat, with / between folders."""
    size: int
    stamp: str
    """Changes when the file does, and costs no reading of it."""


@dataclass
class Found:
    """What a search came upon."""

    files: list[File] = field(default_factory=list)
    unreadable: list[tuple[str, str]] = field(default_factory=list)
    """Folders that could not be listed, with the reason."""
    links: list[str] = field(default_factory=list)
    """Links to folders, which are not followed: so there are no loops, and nothing comes twice."""


def is_url(path: str) -> bool:
    """Whether fsspec is to handle a path."""
    return "://" in path


def join(folder: str, name: str) -> str:
    """The path or URL of a name in a folder."""
    return f"{folder.rstrip('/')}/{name}"


def real(path: str, folders: dict[str, str]) -> str:
    """The same for all paths that lead to a file; a link to a file is one of its own.

    folders: the real paths of those met so far, which this adds to.
    """
    folder, name = os.path.split(path)
    if is_url(path):
        return path
    if folder not in folders:
        folders[folder] = os.path.realpath(folder)
    return join(folders[folder], name)


def find(source: str, extensions: Collection[str], target: str, keep_name: bool) -> Found:
    """Files that a source stands for: a file, a folder with all below it, or a glob pattern.

    A file named as such is taken whatever its extension, others by `extensions` (lower case). The
    folder `target` is left out of those searched. Names are relative to the folder, or to the last
    folder before the pattern; with `keep_name`, they begin with the source's own name. Errors:
    InputError where nothing is there.
    """
    found = Found()
    search = _find_remote if is_url(source) else _find_local
    root = join(search(source, extensions, target, keep_name, found), "")
    if target.startswith(root):
        found.files = [f for f in found.files if not f.path.startswith(join(target, ""))]
    return found


def _base(source: str, is_folder: bool, keep_name: bool) -> str:
    """The folder that names of files are relative to."""
    return source if is_folder and not keep_name else os.path.dirname(source)


def _before_pattern(path: str) -> str:
    return re.split(r"[*?[]", path, maxsplit=1)[0].rpartition("/")[0]


def _find_local(source, extensions, target, keep_name, found: Found) -> str:
    """Adds what is found; returns the folder that was searched."""
    source = os.path.abspath(source)
    # A name may hold the characters of a pattern: what exists is no pattern.
    if os.path.lexists(source):
        base, root = _base(source, os.path.isdir(source), keep_name), source
        matches, wanted = [source], None
    else:
        base = root = _before_pattern(source) or "/"
        matches, wanted = _glob(base, os.path.relpath(source, base), found), extensions
    if not matches and not found.links:
        raise InputError(f"{source}: no such file or folder")
    for match in matches:
        if os.path.isdir(match):
            paths = _walk(match, extensions, target, found)
        else:
            paths = [match] if wanted is None or _has_extension(match, wanted) else []
        found.files += [file for path in paths for file in _local_file(path, base)]
    return root


def _glob(base: str, pattern: str, found: Found) -> list[str]:
    """What matches a pattern in a folder; a link to a folder is followed where it is named, and not
    where a wildcard has found it."""
    paths = [base]
    for part in pattern.split("/"):
        if part == "**":
            below = [folder for path in paths for folder in _folders(path, found)]
        else:
            below = [join(path, name) for path in paths for name in glob.glob(part, root_dir=path)]
        links = set(_links_to_folders(below)) if glob.has_magic(part) else set()
        found.links += links
        paths = sorted(set(below) - links)
    return paths


def _folders(folder: str, found: Found) -> Iterator[str]:
    """A folder and those below it, but for hidden ones, as `**` has it."""
    for root, folders, _ in os.walk(folder):
        yield root
        folders[:] = [name for name in folders if not name.startswith(".")]
        found.links += _links(root, folders)


def _links_to_folders(paths: list[str]) -> Iterator[str]:
    return (path for path in paths if os.path.islink(path) and os.path.isdir(path))


def _links(folder: str, names: list[str]) -> list[str]:
    return [path for path in (join(folder, name) for name in names) if os.path.islink(path)]


def _has_extension(path: str, extensions: Collection[str]) -> bool:
    return os.path.splitext(path)[1].lower() in extensions


def _walk(folder: str, extensions, target: str, found: Found) -> Iterator[str]:
    def unreadable(error: OSError) -> None:
        found.unreadable.append((error.filename, error.strerror))

    for root, folders, names in os.walk(folder, onerror=unreadable):
        folders.sort()
        found.links += _links(root, folders)
        folders[:] = [name for name in folders if not is_same(join(root, name), target)]
        yield from (join(root, name) for name in sorted(names) if _has_extension(name, extensions))


def is_same(path: str, other: str) -> bool:
    """Whether two paths lead to the same file or folder; False where either leads nowhere."""
    try:
        return path == other or os.path.samefile(path, other)
    except OSError:
        return False


def _local_file(path: str, base: str) -> Iterator[File]:
    """The file at a path; nothing for what is no regular file (reading a pipe would wait)."""
    name = os.path.relpath(path, base)
    try:
        status = os.stat(path)
    except OSError:  # a broken link, say: to be reported when it is read
        yield File(path, name, 0, "")
        return
    if stat.S_ISREG(status.st_mode):
        yield File(path, name, status.st_size, _local_stamp(status))


def _local_stamp(status: os.stat_result) -> str:
    return f"{status.st_size}-{status.st_mtime_ns}"


@contextmanager
def _remote(url: str, error_type: type[NicError]) -> Iterator[tuple]:
    """The file system of a URL and the path in it; whatever its driver raises gets a type."""
    require("ray", "fsspec")
    import fsspec

    try:
        yield fsspec.core.url_to_fs(url)
    except (NicError, MemoryError):
        raise
    except Exception as error:
        raise error_type(f"{url}: {error or type(error).__name__}") from error


def _find_remote(source, extensions, target, keep_name, found: Found) -> str:
    """As `_find_local`."""
    from fsspec.utils import tokenize

    with _remote(source, InputError) as (system, path):
        if system.exists(path):
            base, root = _base(path, system.isdir(path), keep_name), path
            entries = {path: system.info(path)}
        else:
            base = root = _before_pattern(path)
            entries = system.glob(path, detail=True)
        named = path in entries and entries[path]["type"] == "file"
        for folder in [key for key, info in entries.items() if info["type"] == "directory"]:
            entries |= system.find(folder, detail=True)
        for key, info in sorted(entries.items()):
            if info["type"] == "file" and (named or _has_extension(key, extensions)):
                name = key[len(base) :].lstrip("/")
                url = system.unstrip_protocol(key)
                found.files.append(File(url, name, info["size"], tokenize(info)))
        root = system.unstrip_protocol(root)
    if not entries:
        raise InputError(f"{source}: no such file or folder")
    return root


def read(path: str) -> bytes:
    """All of a file. Errors: InputError."""
    if not is_url(path):
        return files.read(path)
    with _remote(path, InputError) as (system, key):
        return system.cat_file(key)


def holds(path: str, data: bytes) -> bool:
    """Whether there is a file of just these bytes."""
    try:
        return read(path) == data
    except InputError:
        return False


def digest(path: str) -> str | None:
    """SHA-256 of a file, hexadecimal; None where it cannot be read."""
    try:
        return hashlib.sha256(read(path)).hexdigest()
    except InputError:
        return None


def write(path: str, data: bytes, overwrite: bool) -> None:
    """Write a file whole or not at all, and the folders it lies in. Errors: OutputError.

    Object stores show an object when all of it has come; other remote systems may not.
    """
    if not is_url(path):
        make_folder(os.path.dirname(path))
        files.write_atomic(path, data, overwrite)
        return
    with _remote(path, OutputError) as (system, key):
        if not overwrite and system.exists(key):
            raise OutputError(f"{path}: exists already (-f overwrites it)")
        system.makedirs(os.path.dirname(key), exist_ok=True)
        system.pipe_file(key, data)


def check_folder(path: str) -> None:
    """Refuse a target that can be no folder, or whose file system has no driver here. Errors:
    OutputError."""
    if is_url(path):
        with _remote(path, OutputError):
            pass
    elif os.path.exists(path) and not os.path.isdir(path):
        raise OutputError(f"{path}: is no folder")


def make_folder(path: str) -> None:
    """Create a local folder and those above it, as needed. Errors: OutputError."""
    try:
        os.makedirs(path, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{path}: {error.strerror or error}") from error


def remove(path: str, stamp: str | None = None) -> None:
    """Delete a file, unless it has changed since it had that stamp. Errors: OutputError."""
    if is_url(path):
        with _remote(path, OutputError) as (system, key):
            system.rm_file(key)
        return
    try:
        if stamp is not None and _local_stamp(os.stat(path)) != stamp:
            raise OutputError("it has changed meanwhile")
        os.unlink(path)
    except OSError as error:
        raise OutputError(error.strerror or str(error)) from error


def sizes(folder: str, names: Iterable[str]) -> dict[str, int]:
    """Bytes of those files that exist, by name. Errors: OutputError."""
    if not is_url(folder):
        paths = ((name, join(folder, name)) for name in names)
        return {name: os.path.getsize(path) for name, path in paths if os.path.exists(path)}
    with _remote(folder, OutputError) as (system, path):
        # One listing of the whole: asking for every name would be a request each.
        found = system.find(path, detail=True) if system.exists(path) else {}
    return {key[len(path) :].lstrip("/"): info["size"] for key, info in found.items()}
