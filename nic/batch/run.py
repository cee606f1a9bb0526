"""The run of a batch: hands out tasks, records what becomes of them, deletes verified sources."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace

from nic import files
from nic.batch import storage
from nic.batch.manifest import DONE, Manifest, Row
from nic.batch.work import Options, Task
from nic.errors import OutputError

Engine = Callable[[Iterator[Task]], Generator[Row, None, None]]
"""Tasks -> their rows in any order, taking each task no sooner than it can be begun."""


def run(tasks: list[Task], options: Options, engine: Engine, manifest: Manifest) -> Iterator[Row]:
    """Convert all tasks; yields their rows as they come, when they stand in the manifest.

    Errors: OutputError where the manifest cannot be written; those of a file stand in its row.
    """
    by_output = {task.output: task for task in tasks}
    remove_partials(manifest, options)
    rows = engine(_handed_out(tasks, options, manifest))
    try:
        for row in rows:
            manifest.append(row)
            if options.delete_source and row.status == DONE and not row.error:
                row = _delete_source(by_output[row.output], row, manifest)
            yield row
    finally:
        rows.close()  # ends the workers: nothing is being written any more
        remove_partials(manifest, options)


def _handed_out(tasks: list[Task], options: Options, manifest: Manifest) -> Iterator[Task]:
    """Tasks, each recorded as started when it is asked for."""
    for task in tasks:
        manifest.append(task.started(options))
        yield task


def _delete_source(task: Task, row: Row, manifest: Manifest) -> Row:
    """Delete the source of a verified output, and only when it is on record that this is so."""
    row = replace(row, deleted=True)
    manifest.append(row, durable=True)
    try:
        storage.remove(task.file.path, task.file.stamp)
    except OutputError as error:
        row = replace(row, deleted=False, error=f"source kept: {error}")
        manifest.append(row)
    return row


def remove_partials(manifest: Manifest, options: Options) -> None:
    """Clear up what killed workers left, in the folders where they were at work."""
    if storage.is_url(options.target):
        return
    paths = {storage.join(options.target, name) for name in manifest.unfinished()}
    for folder in {os.path.dirname(os.path.realpath(path)) for path in paths}:
        files.remove_partials(folder)
