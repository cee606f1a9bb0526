"""The command `nic`: parsing, exit codes, streams and signals.

A subcommand is a module, which is imported when it is the one asked for.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator

from nic.commands.shared import complain
from nic.errors import InputError, NicError, OutputError

EPILOG = """\
exit codes:
    0  done
    1  unforeseen error, out of memory
    2  unusable argument, image or folder
    3  not a .nic file, cut short or malformed
    4  damaged .nic file: a checksum does not match
    5  the .nic file needs a newer version of nic
    6  the .nic file needs another model (--weights)
    7  larger than the format allows, or too many pixels for its bytes (--any-ratio)
    8  the output cannot be written, or exists already (-f)
    9  some files of a batch failed; the others are done
  130  interrupted   141  reader of the output gone   143  terminated

`-` stands for standard input or output. A file name that begins with a dash
follows `--`:  nic encode -q 30 -- -odd.png
"""


class Parser(argparse.ArgumentParser):
    """Refuses in one line, and fills itself in only when its subcommand is the one asked for."""

    def __init__(self, *args, fill: Callable[[argparse.ArgumentParser], None] | None = None, **kw):
        super().__init__(*args, **kw, allow_abbrev=False)
        self.fill = fill

    def fill_in(self) -> None:
        fill, self.fill = self.fill, None
        if fill:
            fill(self)

    def parse_known_args(self, args=None, namespace=None):
        self.fill_in()
        return super().parse_known_args(args, namespace)

    def parse_args(self, args=None, namespace=None):
        namespace, rest = self.parse_known_args(args, namespace)
        if rest:
            prog = f"{self.prog} {namespace.command}"
            raise InputError(f"unknown arguments: {' '.join(rest)} (see {prog} --help)")
        return namespace

    def error(self, message: str):
        raise InputError(f"{message} (see {self.prog} --help)")


COMMANDS = {
    "encode": ("image -> .nic", "nic.commands.encode"),
    "decode": (".nic -> image", "nic.commands.decode"),
    "info": ("print the header of .nic files", "nic.commands.info"),
    "batch": ("convert whole folders, in any number of runs", "nic.batch.command"),
    "eval": ("rate and quality on a folder of images", "nic.evaluation.runner"),
    "compare": ("one image beside other codecs, as a page", "nic.evaluation.compare"),
    "bench": ("time the parts of the codec", "nic.evaluation.bench"),
    "models": ("list models, their size and cost", "nic.commands.models"),
    "train": ("train a model", "nic.training.command"),
    "export": ("training checkpoint -> weight file", "nic.commands.export"),
    "thumbnail": ("small PNG of a .nic file, for file managers", "nic.commands.thumbnail"),
    "completions": ("print a shell's completion script", "nic.commands.completions"),
}
"""Subcommand -> (help, module that declares its arguments and runs it)."""


class Version(argparse.Action):
    """Prints version, model and device, which are looked up only then."""

    def __call__(self, parser, namespace, values, option_string=None):
        import nic
        from nic import models
        from nic.device import driver_devices
        from nic.evaluation.machine import cpu_name

        gpus = f", {driver_devices()} GPU" if driver_devices() else ""
        try:
            model = models.load()
            name = f"{model.config.name} ({model.fingerprint.hex()})"
        except InputError as error:
            name = f"none ({error})"
        print(f"nic {nic.__version__}\nmodel {name}\ndevice CPU ({cpu_name()}){gpus}")
        parser.exit()


def _of_module(name: str) -> tuple[Callable, Callable]:
    """A subcommand that a module declares and runs; it is imported when it is asked for."""
    return (
        lambda parser: importlib.import_module(name).add_arguments(parser),
        lambda args: importlib.import_module(name).main(args),
    )


def make_parser(filled: bool = False) -> Parser:
    """The whole command line; subcommands declare their arguments when they are parsed, or all of
    them at once where the parser is to come `filled`."""
    parser = Parser(
        prog="nic",
        description="A learned image codec: photo.png -> photo.nic -> photo.png.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--version", action=Version, nargs=0, help="print version, model and device, and exit"
    )
    parser.set_defaults(make_parser=make_parser)  # nic completions describes the whole
    commands = parser.add_subparsers(
        metavar="COMMAND", dest="command", required=True, title="commands"
    )
    for name, (help, module) in COMMANDS.items():
        fill, run = _of_module(module)
        command = commands.add_parser(name, help=help, description=help, fill=fill)
        command.set_defaults(run=run)
        if filled:
            command.fill_in()
    return parser


class Terminated(BaseException):
    """SIGTERM, as an exception: what is half written gets removed on the way out."""


def _terminate(*_) -> None:
    raise Terminated


def _silence_stdout() -> None:
    """Nothing more is written, not even by the interpreter's own flush at the end."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _prepare_streams() -> None:
    """To read data from a closed stream or write any to it is an error; messages go nowhere, and
    above all not into a file that was opened in the stream's place. What the terminal's encoding
    lacks is escaped."""
    sys.stdin = sys.stdin or open(os.devnull, "w")
    sys.stdout = sys.stdout or open(os.devnull)
    sys.stderr = sys.stderr or open(os.devnull, "w")
    with contextlib.suppress(AttributeError):  # a stream that a program has put in its place
        sys.stdout.reconfigure(errors="backslashreplace")


@contextlib.contextmanager
def _warnings_as_lines(quiet: bool) -> Iterator[None]:
    """Each once, with the name of the file that it speaks of, if it is of one; or none."""
    said = set()

    def show(message, *_, **__) -> None:
        if (text := str(message)) not in said:
            said.add(text)
            complain(f"warning: {text}")

    with warnings.catch_warnings():
        # By default, Python leaves out equal ones before they have a name.
        warnings.simplefilter("ignore" if quiet else "always", UserWarning)
        warnings.showwarning = show
        yield


def _run(argv: list[str] | None) -> int:
    try:
        args = make_parser().parse_args(argv)
    except SystemExit:  # --help and --version, printed
        sys.stdout.flush()
        return 0
    with _warnings_as_lines(getattr(args, "quiet", False)):
        code = args.run(args) or 0
    sys.stdout.flush()
    return code


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns its exit code, after one line on standard error if not 0."""
    _prepare_streams()
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        return _run(argv)
    except NicError as error:
        complain(error)
        return error.exit_code
    except KeyboardInterrupt:
        complain("interrupted")
        return 130
    except Terminated:
        complain("terminated")
        return 143
    except BrokenPipeError:
        _silence_stdout()
        return 141
    except OSError as error:
        _silence_stdout()
        complain(f"{error.filename or 'standard output'}: {error.strerror or error}")
        return OutputError.exit_code
    except MemoryError:
        complain("out of memory")
        return 1
    except Exception as error:
        complain(f"internal error: {type(error).__name__}: {error}")
        return 1
    finally:
        signal.signal(signal.SIGTERM, before)


if __name__ == "__main__":
    sys.exit(main())
