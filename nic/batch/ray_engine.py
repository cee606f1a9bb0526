"""A batch on a Ray cluster: the same plan, as many files at a time as there are processors.

The nodes need nic and access to the paths of sources and target: a shared folder, or URLs.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

from nic.batch.manifest import Row
from nic.batch.work import Options, Task, convert
from nic.errors import InputError
from nic.extras import require

if TYPE_CHECKING:
    from nic.models import Model

GPU_SHARE = 0.25
"""Of a GPU, for each file that is coded on one: each also keeps a processor busy."""

RETRIES = 1
"""Further attempts at a file whose worker died."""


def results(
    tasks: Iterator[Task], options: Options, jobs: int | None, address: str | None
) -> Iterator[Row]:
    """Rows of all tasks as they come; a task is taken from `tasks` when there is room for it.

    jobs: how many at a time, by default one a processor; address: of the cluster, or "auto" for the
    one running here; None starts one, for as long as the batch lasts. Errors: InputError.
    """
    require("ray", "ray")
    import ray

    from nic import models

    with _cluster(address, jobs):
        # Shipped once to every node, so that all work with the model of the manifest.
        model = ray.put(models.load(options.weights))
        gpus = GPU_SHARE if options.device == "cuda" else 0
        work = ray.remote(num_cpus=1, num_gpus=gpus, max_retries=RETRIES)(_convert)
        room = jobs or int(ray.cluster_resources()["CPU"])
        running = {}
        while True:
            for _, task in zip(range(room - len(running)), tasks):
                # In a list, a reference is handed on as such: the worker fetches it once.
                running[work.remote(task, options, [model])] = task
            if not running:
                break
            for reference in ray.wait(list(running))[0]:
                task = running.pop(reference)
                try:
                    row = ray.get(reference)
                except ray.exceptions.RayError:
                    row = task.killed(options)
                yield row


@contextmanager
def _cluster(address: str | None, jobs: int | None) -> Iterator[None]:
    """Connected to a cluster, and cut off from it at the end."""
    import ray

    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # tell nobody of it, unless asked to
    on_terminate = signal.getsignal(signal.SIGTERM)
    own = {"num_cpus": jobs, "include_dashboard": False} if address is None else {}
    try:
        ray.init(address or "local", logging_level="ERROR", log_to_driver=False, **own)
    except Exception as error:  # a node that does not start in time makes Ray raise just that
        raise InputError(f"no Ray cluster at {address or 'this machine'}: {error}") from error
    signal.signal(signal.SIGTERM, on_terminate)  # Ray puts a handler of its own there
    try:
        yield
    finally:
        ray.shutdown()


def _convert(task: Task, options: Options, model: list) -> Row:
    return convert(task, options, _fetched(model[0], options.device))


@cache
def _fetched(model, device: str) -> Model:
    """The model, fetched once by each worker."""
    import ray
    from threadpoolctl import threadpool_limits

    threadpool_limits(1, "blas")
    return replace(ray.get(model), device=device)
