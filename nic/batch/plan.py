"""What a batch is going to do: which files, to which outputs, and which of them are done."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from nic import files
from nic.batch import storage
from nic.batch.manifest import DONE, LARGER, STARTED, Row
from nic.batch.storage import File, Found
from nic.batch.work import Options, Task
from nic.errors import InputError


@dataclass
class Plan:
    """Every file found is in one of these."""

    tasks: list[Task] = field(default_factory=list)
    settled: list[Row] = field(default_factory=list)
    """Nothing to do: an earlier run did it."""
    refused: list[tuple[str, str]] = field(default_factory=list)
    """Path, and why nothing is done with it."""


def find(sources: Sequence[str], options: Options) -> Found:
    """The files of all sources, each once: as of the first source that has it. Errors: InputError
    where there is none."""
    from nic import images  # which loads NumPy and Pillow

    extensions = {".nic"} if options.decode else images.extensions()
    unique, folders, found = {}, {}, Found()
    for source in sources:
        part = storage.find(source, extensions, options.target, keep_name=len(sources) > 1)
        for file in part.files:
            unique.setdefault(storage.real(file.path, folders), file)
        found.unreadable += part.unreadable
        found.links += part.links
    found.links = sorted(set(found.links))
    found.files = sorted(unique.values(), key=lambda file: file.name)
    if not found.files and not found.unreadable:
        kind = ".nic files" if options.decode else "images (for .nic files, add --decode)"
        passed = f"; links to folders, not followed: {', '.join(found.links)}" * bool(found.links)
        raise InputError(f"{', '.join(sources)}: no {kind}{passed}")
    return found


def make(found: Found, options: Options, rows: dict[str, Row]) -> Plan:
    """Decide on every file found, given the manifest's last row of every output."""
    plan = Plan(refused=list(found.unreadable))
    named = []
    known = {row.input: row.output for row in rows.values()}
    for file, output, rival in name_outputs(found.files, options.extension, known):
        if rival:
            plan.refused.append((file.path, f"its output would be that of {rival.path}"))
        else:
            named.append((file, output))
    sizes = storage.sizes(options.target, [output for _, output in named])
    for file, output in named:
        _decide(plan, file, output, sizes.get(output), rows.get(output), options)
    return plan


def name_outputs(
    found: Iterable[File], extension: str, known: dict[str, str]
) -> list[tuple[File, str, File | None]]:
    """Files, their outputs, and for an output that cannot be had the file that has it.

    a.png -> a.nic; but a.png, a.jpg -> a.png.nic, a.jpg.nic. Names that differ in case only count
    as one, because there are file systems where they are. `known` are inputs and their outputs of
    earlier runs: such a file keeps its name whichever others come or go.
    """
    names = {file: files.default_output(file.name, extension) for file in found}
    in_full = {file: file.name + extension for file in names}
    # In full even where those it shares its name with are done: a second run decides as the first.
    settled = {file: in_full[file] for file in _clashing(names)}
    settled |= {f: known[f.path] for f in names if known.get(f.path) in (names[f], in_full[f])}
    names |= settled
    while clashing := _clashing(names) - settled.keys():
        settled |= {file: in_full[file] for file in clashing}
        names |= settled
    owners = {}
    for file in sorted(names, key=lambda file: names[file] != known.get(file.path)):
        owners.setdefault(names[file].casefold(), file)
    return [
        (file, name, owner if (owner := owners[name.casefold()]) != file else None)
        for file, name in names.items()
    ]


def _clashing(names: dict[File, str]) -> set[File]:
    """Files whose names are as good as one."""
    sharing = defaultdict(list)
    for file, name in names.items():
        sharing[name.casefold()].append(file)
    return {file for group in sharing.values() if len(group) > 1 for file in group}


def _decide(
    plan: Plan, file: File, output: str, size: int | None, row: Row | None, options: Options
) -> None:
    """Add a file to the plan; `size` is that of the output that stands there, or None."""
    same = row is not None and _is_of(row, file) and row.stamp == file.stamp
    same = same and row.settings == options.settings
    ours = size is not None and _is_ours(row, size, file)
    if size is None:
        if same and row.status == LARGER and options.skip_larger:
            plan.settled.append(row)
        else:
            plan.tasks.append(Task(file, output))
    elif storage.is_same(file.path, storage.join(options.target, output)):
        plan.refused.append((file.path, "would be its own output"))
    elif not (options.force or ours):
        plan.refused.append((file.path, f"{output} exists already (-f overwrites it)"))
    elif same and row.status == DONE and row.bytes_out == size and not options.delete_source:
        plan.settled.append(row)
    else:
        done = row is not None and row.status == DONE and row.bytes_out == size
        before = row if done and row.settings == options.settings else None
        plan.tasks.append(Task(file, output, size, ours, before))


def _is_ours(row: Row | None, size: int, file: File) -> bool:
    """Whether an output of `size` bytes is of an earlier run, and of this file."""
    if row is None or row.foreign or not (row.status == STARTED or row.bytes_out == size):
        return False
    if _is_of(row, file):
        return True
    # Of the same name, size and time, but from elsewhere: what stands there may be the only copy,
    # unless it is of just these bytes.
    return row.stamp == file.stamp and storage.digest(file.path) == row.digest is not None


def _is_of(row: Row, file: File) -> bool:
    """Whether a row is of this file, and not of one elsewhere, or one that was deleted before it
    came."""
    return row.input == file.path and not row.deleted
