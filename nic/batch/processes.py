"""A batch on this machine: worker processes, each with the model and one thread.

Every worker is a pool of its own, so that one killed by the system takes no other file with it.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import TYPE_CHECKING

from nic.batch.manifest import Row
from nic.batch.work import Options, Task, convert

if TYPE_CHECKING:
    from nic.models import Model

_options: Options
_model: Model
"""In a worker: what it works by."""


def results(tasks: Iterator[Task], options: Options, jobs: int) -> Iterator[Row]:
    """Rows of all tasks as they come; a task is taken from `tasks` when a worker is free for it.

    A file whose worker was killed gets a second attempt at the end, with the machine to itself.
    When the generator is closed, the workers are killed.
    """
    lost: list[Task] = []
    yield from _share(tasks, options, jobs, lost)
    lost_again: list[Task] = []
    yield from _share(iter(lost), options, 1, lost_again)
    yield from (task.killed(options) for task in lost_again)


def _share(tasks: Iterator[Task], options: Options, jobs: int, lost: list[Task]) -> Iterator[Row]:
    """Rows of the tasks, but for those whose worker was killed: they go to `lost`."""
    others = multiprocessing.active_children()
    idle = [_worker(options) for _ in range(jobs)]
    running: dict[Future, tuple[ProcessPoolExecutor, Task]] = {}
    try:
        while True:
            with _uninterrupted():
                for worker, task in zip(tuple(idle), tasks):
                    idle.remove(worker)
                    future, worker = _submit(worker, task, options)
                    running[future] = worker, task
            if not running:
                break
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                worker, task = running.pop(future)
                if isinstance(future.exception(), BrokenProcessPool):
                    lost.append(task)
                    idle.append(_worker(options))
                else:
                    idle.append(worker)
                    yield future.result()
    except BaseException:
        for child in set(multiprocessing.active_children()).difference(others):
            child.kill()
        raise
    finally:
        for worker in [*idle, *(worker for worker, _ in running.values())]:
            worker.shutdown()


def _worker(options: Options) -> ProcessPoolExecutor:
    """A pool of one process, which starts at the first task."""
    spawn = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(1, spawn, initializer=_begin, initargs=(options,))


def _submit(
    worker: ProcessPoolExecutor, task: Task, options: Options
) -> tuple[Future, ProcessPoolExecutor]:
    """A task's future and the worker that has it: another one, if this was killed while idle."""
    try:
        return worker.submit(_convert, task), worker
    except BrokenProcessPool:
        worker = _worker(options)
        return worker.submit(_convert, task), worker


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Puts off Ctrl-C, for good in processes started meanwhile: they hear of it from this one."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin(options: Options) -> None:
    """In a worker: load the model, and arrange for the end."""
    global _options, _model
    threading.Thread(target=_end_with_parent, daemon=True).start()
    from threadpoolctl import threadpool_limits

    from nic import models

    _options, _model = options, models.load(options.weights, options.device)
    threadpool_limits(1, "blas")


def _end_with_parent() -> None:
    # A pool's process would wait for ever for the next task of a parent that was killed.
    multiprocessing.parent_process().join()
    os._exit(1)


def _convert(task: Task) -> Row:
    return convert(task, _options, _model)
