"""A batch on this machine: worker processes, each with the model and one thread.

Every worker has a pipe of its own, so that one killed by the system takes no other file with it. A
pool's threads can fail where memory is short, and leave everybody waiting.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING, NamedTuple

from nic.batch.manifest import Row
from nic.batch.work import Options, Task, convert

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess

    from nic.models import Model


class Worker(NamedTuple):
    """A process that converts one task after the other."""

    process: BaseProcess
    connection: Connection
    """Takes tasks and gives rows; it ends where the process does."""


def results(tasks: Iterator[Task], options: Options, jobs: int) -> Iterator[Row]:
    """Rows of all tasks as they come; a task is taken from `tasks` when a worker is free for it.

    A file whose worker was killed gets a second attempt at the end, with the machine to itself.
    When the generator is closed, the workers are killed.
    """
    # Spawning starts it otherwise, which lets Ctrl-C through to the first worker.
    resource_tracker.ensure_running()
    lost: list[Task] = []
    yield from _share(tasks, options, jobs, lost)
    lost_again: list[Task] = []
    yield from _share(iter(lost), options, 1, lost_again)
    yield from (task.killed(options) for task in lost_again)


def _share(tasks: Iterator[Task], options: Options, jobs: int, lost: list[Task]) -> Iterator[Row]:
    """Rows of the tasks, but for those whose worker was killed: they go to `lost`."""
    started: list[Worker] = []
    idle: list[Worker] = []
    running: dict[Connection, tuple[Worker, Task]] = {}
    try:
        while True:
            with _uninterrupted():
                for _, task in zip(range(jobs - len(running)), tasks):
                    if not idle:
                        started.append(_start(options))
                        idle.append(started[-1])
                    worker = idle.pop()
                    running[worker.connection] = worker, task
                    with suppress(OSError):  # killed while idle: its pipe has ended
                        worker.connection.send(task)
            if not running:
                break
            for connection in wait(list(running)):
                worker, task = running.pop(connection)
                try:
                    row = connection.recv()
                except (EOFError, OSError):
                    lost.append(task)
                    connection.close()
                else:
                    idle.append(worker)
                    yield row
    except BaseException:
        for worker in started:
            worker.process.kill()
        raise
    finally:
        for worker in started:
            worker.connection.close()
            worker.process.join()


def _start(options: Options) -> Worker:
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=_work, args=(theirs, options, convert), daemon=True)
    process.start()
    theirs.close()
    return Worker(process, ours)


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Puts off Ctrl-C, for good in processes started meanwhile: they hear of it from this one."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _work(connection: Connection, options: Options, convert: Callable) -> None:
    """In a worker: tasks -> rows, until the pipe ends."""
    try:
        model = _begin(options)
    except MemoryError:
        sys.exit(1)  # the row will say so, and no traceback is wanted
    with suppress(EOFError):
        while True:
            connection.send(convert(connection.recv(), options, model))


def _begin(options: Options) -> Model:
    """In a worker: load the model, and arrange for the end."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    from threadpoolctl import threadpool_limits

    from nic import models

    model = models.load(options.weights, options.device)
    threadpool_limits(1, "blas")
    return model


def _end_with_parent() -> None:
    # A parent that was killed takes no row; nor is anything to be written after its end.
    multiprocessing.parent_process().join()
    os._exit(1)
