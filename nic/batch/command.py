"""`nic batch`: arguments, progress, messages and exit code."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from functools import partial

from nic import files
from nic.batch import manifest, plan, storage
from nic.batch.manifest import Manifest, Row
from nic.batch.report import Report
from nic.batch.work import Options
from nic.commands import arguments
from nic.effort import DEFAULT_EFFORT
from nic.errors import InputError
from nic.extras import require

SOME_FAILED = 9
"""Exit code."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `nic batch`."""
    parser.description = (
        "Convert images to .nic files, or back with --decode. The tree of a folder is kept. The"
        " same command again goes on where it stopped, and converts what is new or changed since."
    )
    parser.add_argument(
        "sources",
        nargs="+",
        metavar="SRC",
        help="folder with all below it, file, glob pattern or URL (s3://...); of several, each"
        " keeps its own name in DST",
    )
    parser.add_argument("target", metavar="DST", help="folder or URL to write to")
    parser.add_argument("--decode", action="store_true", help=".nic files -> images")
    _encoding_arguments(parser)
    parser.add_argument("--strip", action="store_true", help="drop ICC profile, EXIF and XMP")
    parser.add_argument("--format", metavar="NAME", help="of decoded images (default: png)")
    arguments.add_weights(parser)
    arguments.add_device(parser)
    parser.add_argument(
        "-f", "--force", action="store_true", help="overwrite files that no earlier batch wrote"
    )
    parser.add_argument(
        "--delete-source",
        action="store_true",
        help="delete a source once its output has been read back, decoded and found to match; keep"
        " it if anything was lost",
    )
    parser.add_argument("--dry-run", action="store_true", help="print the plan, and write nothing")
    _engine_arguments(parser)
    volume = parser.add_mutually_exclusive_group()
    volume.add_argument("-v", "--verbose", action="store_true", help="print every file's notes")
    volume.add_argument("--quiet", action="store_true", help="print nothing but errors")


def _encoding_arguments(parser: argparse.ArgumentParser) -> None:
    """Those of `nic encode`; None where not given, so that --decode can refuse them."""
    parser.add_argument(
        "-q", "--quality", type=arguments.quality, metavar="Q", help="0 to 100 (default: 50)"
    )
    arguments.add_effort(parser)
    parser.add_argument(
        "--alpha-quality",
        type=arguments.quality,
        metavar="Q",
        help="quality of the transparency, 0 to 100, which is lossless (default: 100)",
    )
    parser.add_argument(
        "--exact",
        action="store_true",
        default=None,
        help="keep the colours of wholly transparent pixels too",
    )
    parser.add_argument(
        "--skip-larger",
        action="store_true",
        default=None,
        help="write no .nic that is larger than its source",
    )


ENCODING = {"quality": 50.0, "effort": DEFAULT_EFFORT, "alpha_quality": 100.0, "exact": False}
"""Options of `codec.encode`, where they are not given."""


def _engine_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-j",
        "--jobs",
        type=arguments.count,
        metavar="N",
        help="files at a time, each in a process with one thread (default: one a processor; 1"
        " on this machine's GPU)",
    )
    parser.add_argument(
        "--engine",
        choices=("local", "ray"),
        default="local",
        help="processes on this machine, or a Ray cluster (default: %(default)s)",
    )
    parser.add_argument(
        "--address",
        help="of the Ray cluster; auto: the one running here (default: one is started)",
    )
    parser.add_argument(
        "--manifest",
        metavar="PATH",
        help=f"record of what is done (default: {manifest.NAME} in DST; must be given if DST is a"
        " URL)",
    )


def main(args: argparse.Namespace) -> int:
    """Run `nic batch`; returns the exit code."""
    options = _options(args)
    record = _manifest_path(args, options)
    found = plan.find([path.removeprefix("file://") for path in args.sources], options)
    if args.dry_run:
        planned = plan.make(found, options, manifest.read(record))
        print("\n".join(map(files.printable, _describe(planned, options))))
        return SOME_FAILED if planned.refused else 0
    storage.make_folder(os.path.dirname(record))
    with Manifest(record) as rows:
        planned = plan.make(found, options, rows.rows)
        report = Report(unchanged=len(planned.settled), failed=len(planned.refused))
        try:
            _run(args, planned, options, rows, report, found.links)
        finally:
            if not args.quiet and (counts := str(report)):
                print(counts, flush=True)
    return SOME_FAILED if report.failed else 0


def _options(args: argparse.Namespace) -> Options:
    """What the arguments ask for. Errors: InputError, OutputError."""
    from nic import models

    given = {k: getattr(args, k) for k in (*ENCODING, "skip_larger")}
    given = {key: value for key, value in given.items() if value is not None}
    if args.decode and given:
        raise InputError(f"--{next(iter(given)).replace('_', '-')} is not for --decode")
    if args.format and not args.decode:
        raise InputError("--format is for --decode")
    if args.address and args.engine != "ray":
        raise InputError("--address is for --engine ray")
    if args.engine == "ray":
        require("ray", "ray")
    target = args.target.removeprefix("file://")
    if not storage.is_url(target):
        target = os.path.abspath(target)
    storage.check_folder(target)
    format = (args.format or "png").lstrip(".")
    if args.decode:
        coding = {"format": _format_for(format)}
    else:
        coding = {key: given.get(key, default) for key, default in ENCODING.items()}
    return Options(
        decode=args.decode,
        target=target,
        extension=f".{format}" if args.decode else ".nic",
        coding=coding,
        model=models.load(args.weights, args.device).fingerprint.hex(),
        device=args.device,
        weights=args.weights and args.weights.absolute(),
        strip=args.strip,
        force=args.force,
        skip_larger=bool(args.skip_larger),
        delete_source=args.delete_source,
    )


def _format_for(name: str) -> str:
    from nic import images

    try:
        return images.format_for(name)
    except InputError as error:
        raise InputError(f"--format {error}") from error


def _manifest_path(args: argparse.Namespace, options: Options) -> str:
    if args.manifest:
        return os.path.abspath(args.manifest)
    if storage.is_url(options.target):
        # Object stores know no appending, without which a crash would lose what is on record.
        raise InputError("where DST is a URL, name a local file with --manifest")
    return storage.join(options.target, manifest.NAME)


def _describe(planned: plan.Plan, options: Options) -> Iterator[str]:
    """The plan, a line for every file and one for all."""
    for task in planned.tasks:
        yield f"{task.file.path} -> {storage.join(options.target, task.output)}"
    for path, reason in planned.refused:
        yield f"refused: {path}: {reason}"
    yield (
        f"{len(planned.tasks)} to do, {len(planned.settled)} unchanged,"
        f" {len(planned.refused)} refused"
    )


def _run(
    args: argparse.Namespace,
    planned: plan.Plan,
    options: Options,
    rows: Manifest,
    report: Report,
    links: list[str],
) -> None:
    """Convert what is planned, with a bar of progress and a line for every trouble."""
    from tqdm import tqdm

    from nic.batch.run import run

    # The largest first: one of them at the end would keep all others waiting.
    tasks = sorted(planned.tasks, key=lambda task: task.file.size, reverse=True)
    off = args.quiet or None  # None: off where standard error is no terminal
    with tqdm(total=len(tasks), unit="img", disable=off) as bar:

        def say(text: str) -> None:
            bar.write(f"nic: {files.printable(text)}", file=sys.stderr)

        if not args.quiet:
            for link in links:
                say(f"warning: {link}: link to a folder, not followed")
        for path, reason in planned.refused:
            say(f"{path}: {reason}")
        for row in run(tasks, options, _engine(args, options, len(tasks)), rows):
            report.add(row)
            bar.update()
            saved = (report.bytes_in - report.bytes_out) / 1e6
            bar.set_postfix_str(f"{saved:.1f} MB saved")
            _say_row(row, say, args.verbose)


def _say_row(row: Row, say, verbose: bool) -> None:
    if row.error:
        say(f"{row.input}: {row.error}")
    for note in row.notes if verbose else ():
        say(f"warning: {row.input}: {note}")


def _engine(args: argparse.Namespace, options: Options, tasks: int):
    """What does the work, by --engine."""
    if args.engine == "ray":
        from nic.batch import ray_engine

        return partial(ray_engine.results, options=options, jobs=args.jobs, address=args.address)
    from nic.batch import processes

    # On a GPU, every process has a context of its own, which takes some hundred MB of its memory.
    jobs = args.jobs or (1 if options.device == "cuda" else len(os.sched_getaffinity(0)))
    return partial(processes.results, options=options, jobs=min(jobs, tasks) or 1)
