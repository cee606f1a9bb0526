"""`nic batch` when it is killed, or a worker of it: nothing is lost, half-written or done twice."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from batch_files import rows, save, tree
from hypothesis import given, settings
from hypothesis import strategies as st

import nic
from nic import files
from nic.batch import manifest, plan, processes, storage, work
from nic.batch.manifest import Manifest, Row
from nic.batch.run import run
from nic.batch.work import Options, Task

ROOT = Path(__file__).parents[1]


class Killed(BaseException):
    """Stands in for `kill -9`: nothing after it is done."""


@pytest.mark.parametrize("delete", [False, True])
@settings(max_examples=40)
@given(steps=st.lists(st.integers(0, 12), max_size=4), chance=st.randoms(use_true_random=False))
def test_runs_that_die_anywhere_add_up_to_a_whole_one(tmp_path_factory, delete, steps, chance):
    """Each run dies after some step: a line of the manifest, an output, a deletion."""
    folder = tmp_path_factory.mktemp("batch")
    names = ("a.png", "b.png", "c.png")
    (folder / "in").mkdir()
    for name in names:
        (folder / "in" / name).write_bytes(name.encode())
    options = Options(False, f"{folder}/out", ".nic", {}, "", delete_source=delete)
    for limit in [*steps, 1000]:
        alive = iter(range(limit))
        with pytest.MonkeyPatch.context() as patch:
            for owner, name in ((Manifest, "_write"), (storage, "write"), (os, "unlink")):
                patch.setattr(owner, name, mortal(getattr(owner, name), alive, chance))
            try:
                one_run(folder, options)
            except Killed:
                pass
    assert tree(folder / "out") == {"a.nic", "b.nic", "c.nic"}
    assert all((folder / f"out/{n[0]}.nic").read_bytes() == n.encode() for n in names)
    assert tree(folder / "in") == (set() if delete else set(names))


def mortal(function, alive, chance):
    """The function, until `alive` has run out: it then dies, just before or just after."""

    def call(*args, **options):
        last = next(alive, None) is None
        if last and chance.random() < 0.5:
            raise Killed
        result = function(*args, **options)
        if last:
            raise Killed
        return result

    return call


def one_run(folder: Path, options: Options) -> None:
    """A run in which encoding is copying."""

    def engine(tasks):
        for task in tasks:
            data = Path(task.file.path).read_bytes()
            storage.write(f"{options.target}/{task.output}", data, task.standing is not None)
            facts = {"digest": hashlib.sha256(data).hexdigest(), "bytes_out": len(data)}
            yield task.row(options, manifest.DONE, **facts)

    storage.make_folder(options.target)
    with Manifest(f"{options.target}/{manifest.NAME}") as record:
        found = storage.find(str(folder / "in"), {".png"}, options.target, False)
        planned = plan.make(found, options, record.rows)
        assert planned.refused == []
        assert all(row.error is None for row in run(planned.tasks, options, engine, record))


def start(*argv: str) -> subprocess.Popen:
    """The command as a process group of its own, whose interrupts are not ignored."""
    script = (
        "import signal, sys, cli; signal.signal(signal.SIGINT, signal.default_int_handler);"
        "sys.exit(cli.main(sys.argv[1:]))"
    )
    return subprocess.Popen(
        [sys.executable, "-c", script, "batch", *argv],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def done(folder: Path) -> int:
    return sum(row.status == "done" for row in rows(folder).values())


def at_work(folder: Path) -> bool:
    return any(row.status == "started" for row in rows(folder).values())


def children(pid: int) -> list[int]:
    return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def wait_for(condition) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def test_killed_twice_and_resumed(source, model):
    """kill -9 of the parent, Ctrl-C at the terminal, and then to the end."""
    for i in range(40):
        save(source / f"{i}.png", i)
    out = Path("out")
    first = start("in", "out", "-j1")
    wait_for(lambda: done(out) >= 3 and at_work(out))
    workers = children(first.pid)
    first.kill()
    assert b"Traceback" not in first.communicate()[1]
    wait_for(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in workers))
    # What a worker leaves that is killed as it writes.
    (out / files.PARTIAL.format("0" * 16)).write_bytes(b"half")
    before = done(out)

    second = start("in", "out", "-j1")
    wait_for(lambda: done(out) >= before + 3)
    os.killpg(second.pid, signal.SIGINT)  # as a terminal does
    assert second.communicate()[1] == b"nic: interrupted\n" and second.returncode == 130
    assert done(out) < 40

    third = start("in", "out", "-j1")
    assert third.communicate()[1] == b"" and third.returncode == 0
    assert tree(out) == {f"{i}.nic" for i in range(40)} and done(out) == 40
    assert all(nic.open(out / f"{i}.nic").size == (24, 24) for i in range(40))
    statuses = [json.loads(line)["status"] for line in (out / manifest.NAME).open()]
    assert statuses.count("done") == 40  # nothing was done twice


def test_partials_of_others_stay(source, model):
    """Where no process of this batch was killed, what is half-written is another's."""
    (source / "bad.png").write_bytes(b"no image")
    others = Path("out") / files.PARTIAL.format("0" * 16)
    others.parent.mkdir()
    others.write_bytes(b"half")
    for _ in range(2):
        assert start("in", "out", "-j1").wait() == 9
        assert others.read_bytes() == b"half"


def test_terminated(source, model):
    for i in range(40):
        save(source / f"{i}.png", i)
    process = start("in", "out", "-j1")
    wait_for(lambda: done(Path("out")) >= 1)
    process.terminate()
    assert process.communicate()[1] == b"nic: terminated\n" and process.returncode == 143
    assert done(Path("out")) < 40 and not list(Path("out").glob(".*"))


def tasks_and_options(source: Path, n: int) -> tuple[list[Task], Options]:
    for i in range(n):
        save(source / f"{i:02}.png", i)
    options = Options(False, str(source.parent / "out"), ".nic", {"quality": 50.0}, "")
    return plan.make(plan.find([str(source)], options), options, {}).tasks, options


def test_a_killed_worker_costs_no_file(source, model):
    tasks, options = tasks_and_options(source, 8)

    def murderous():
        for i, task in enumerate(tasks):
            if i == 4:
                for child in multiprocessing.active_children():
                    child.kill()
            yield task

    got = list(processes.results(murderous(), options, jobs=2))
    assert sorted(row.output for row in got) == [f"{i:02}.nic" for i in range(8)]
    assert {row.status for row in got} == {"done"}


def test_a_file_that_kills_every_worker_fails_alone(source, model, monkeypatch):
    tasks, options = tasks_and_options(source, 3)
    monkeypatch.setattr(processes, "convert", deadly)
    got = {row.output: row for row in processes.results(iter(tasks), options, jobs=1)}
    assert got["01.nic"].error and got["01.nic"].status == "started"
    assert got["00.nic"].error is got["02.nic"].error is None


def test_a_second_attempt_finds_what_the_first_wrote(source, model):
    """As when a worker is killed between writing and saying so; but not what is of others."""
    [task], options = tasks_and_options(source, 1)
    first = work.convert(task, options, model)
    assert first.status == "done" and work.convert(task, options, model) == first
    Path("out/00.nic").write_bytes(b"by someone else")
    assert "exists already" in work.convert(task, options, model).error


def deadly(task: Task, *args) -> Row:
    """In a worker: one file is its end."""
    if task.output == "01.nic":
        os.kill(os.getpid(), signal.SIGKILL)
    return work.convert(task, *args)


def test_ray_goes_on_when_workers_are_killed(source, model, monkeypatch):
    """One file is the end of its first worker, another of every worker."""
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'nic[ray]'")
    from nic.batch import ray_engine

    tasks, options = tasks_and_options(source, 8)
    convert, first = ray_engine._convert, source.parent / "first"

    def deadly(task, options, model):
        once = task.output == "02.nic" and not first.exists()
        if once:
            first.touch()
        if once or task.output == "05.nic":
            os.kill(os.getpid(), signal.SIGKILL)
        return convert(task, options, model)

    monkeypatch.setattr(ray_engine, "_convert", deadly)
    got = {r.output: r for r in ray_engine.results(iter(tasks), options, jobs=2, address=None)}
    assert got.keys() == {f"{i:02}.nic" for i in range(8)} and first.exists()
    assert "killed" in got.pop("05.nic").error
    assert {row.status for row in got.values()} == {"done"}
