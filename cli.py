"""The command `nic`: parsing, messages and exit codes; the library does the rest.

Each handler imports what it needs, so that `nic info` and every refusal answer at once.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from nic import files
from nic.errors import InputError, NicError, OutputError

if TYPE_CHECKING:
    from nic.container import Header
    from nic.models import Model

EPILOG = """\
exit codes:
    0  done
    1  unforeseen error, out of memory
    2  unusable argument, image or folder
    3  not a .nic file, cut short or malformed
    4  damaged .nic file: a checksum does not match
    5  the .nic file needs a newer version of nic
    6  the .nic file needs another model (--weights)
    7  larger than the format allows
    8  the output cannot be written, or exists already (-f)
  130  interrupted   141  reader of the output gone   143  terminated

`-` stands for standard input or output. A file name that begins with a dash
follows `--`:  nic encode -q 30 -- -odd.png
"""


class Parser(argparse.ArgumentParser):
    """Refuses in one line, and fills itself in only when its subcommand is the one asked for."""

    def __init__(self, *args, fill: Callable[[argparse.ArgumentParser], None] | None = None, **kw):
        super().__init__(*args, **kw, allow_abbrev=False)
        self.fill = fill

    def parse_known_args(self, args=None, namespace=None):
        fill, self.fill = self.fill, None
        if fill:
            fill(self)
        return super().parse_known_args(args, namespace)

    def error(self, message: str):
        raise InputError(f"{message} (see {self.prog} --help)")


def encode_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("input", metavar="IN", help="image in any format that Pillow reads")
    parser.add_argument(
        "-o", "--output", metavar="OUT", help="default: IN with the extension .nic, beside it"
    )
    parser.add_argument(
        "-q",
        "--quality",
        type=_quality,
        default=50.0,
        metavar="Q",
        help="0 (smallest file) to 100 (best picture), any real number (default: %(default)g)",
    )
    parser.add_argument(
        "--verify",
        action="store_true",
        help="decode the result before it is written, and print its PSNR in dB",
    )
    _coding_arguments(parser)


def decode_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("input", metavar="IN", help=".nic file")
    parser.add_argument(
        "-o", "--output", metavar="OUT", help="default: IN with the extension .png, beside it"
    )
    parser.add_argument(
        "--format",
        metavar="NAME",
        help="image format, such as png, jpeg or webp (default: by OUT's extension, or else png)",
    )
    _coding_arguments(parser)


def _coding_arguments(parser: argparse.ArgumentParser) -> None:
    _force_argument(parser)
    parser.add_argument(
        "--weights", type=Path, metavar="PATH", help="weight file (default: the one shipped)"
    )
    volume = parser.add_mutually_exclusive_group()
    volume.add_argument("-v", "--verbose", action="store_true", help="print sizes, bits, seconds")
    volume.add_argument("--quiet", action="store_true", help="print nothing but errors")


def _force_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-f", "--force", action="store_true", help="overwrite the output")


def _quality(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 100:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to 100")
    return value


def encode(args: argparse.Namespace) -> None:
    """`nic encode`."""
    from nic import images

    pixels, notes = images.load(sys.stdin.buffer if args.input == files.STREAM else args.input)
    output = args.output or files.default_output(args.input, ".nic")
    files.check_output(output, args.input, args.force)
    for note in notes:
        _say(args, f"warning: {args.input}: {note}")
    from nic import codec

    model, report = _model(args), {}
    with _progress(args, "encoding") as progress:
        data = codec.encode_pixels(
            pixels, args.quality, model=model, report=report, progress=progress
        )
    if args.verify:
        with _progress(args, "verifying") as progress:
            decoded = codec.decode_pixels(data, model=model, progress=progress)
        from nic.evaluation.metrics import psnr

        _say(args, f"verified: PSNR {psnr(pixels, decoded):.2f} dB")
    files.write(output, data, args.force)
    height, width = pixels.shape[:2]
    bpp = 8 * len(data) / (width * height)
    _say(args, f"{output}: {width}x{height}, {len(data)} bytes, {bpp:.4f} bpp")
    _say_report(args, report)


def decode(args: argparse.Namespace) -> None:
    """`nic decode`."""
    from nic import container, images

    output = args.output or files.default_output(
        args.input, f".{(args.format or 'png').lstrip('.')}"
    )
    with _about(args.input):
        data = files.read(args.input)
        container.read(data)  # a broken file is refused before anything heavy is loaded
    format = images.format_for(args.format or ("png" if output == files.STREAM else output))
    files.check_output(output, args.input, args.force)
    from nic import codec

    model, report = _model(args), {}
    with _about(args.input), _progress(args, "decoding") as progress:
        pixels = codec.decode_pixels(data, model=model, report=report, progress=progress)
    files.write(output, images.to_bytes(pixels, format), args.force)
    height, width = pixels.shape[:2]
    _say(args, f"{output}: {width}x{height}, {format}")
    _say_report(args, report)


def info_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", nargs="+", metavar="FILE", help=".nic file")
    parser.add_argument("--json", action="store_true", help="one JSON object per file and line")


def info(args: argparse.Namespace) -> int:
    """`nic info`: all files are reported, and the first error is the exit code."""
    code = 0
    for name in args.files:
        try:
            with _about(name):
                _print_info(name, args.json)
        except NicError as error:
            _complain(error)
            code = code or error.exit_code
    return code


def _print_info(name: str, as_json: bool) -> None:
    from nic import container

    data = files.read(name)
    header = container.read_header(data)
    bpp = 8 * len(data) / (header.width * header.height)
    if as_json:
        print(json.dumps({"file": name, "bytes": len(data), "bpp": bpp, **_plain(header)}))
    else:
        whole = ("file size", f"{len(data)} bytes", f"{bpp:.4f} bpp")
        print(_line(name))
        for field, value, meaning in [*container.describe(header), whole]:
            print(f"  {field:<13} {value:<24} {meaning}")
    container.read(data)  # says what is wrong with the rest, the header being sound


def _plain(header: Header) -> dict:
    """A header as JSON knows it: numbers, text, booleans."""
    return {
        "width": header.width,
        "height": header.height,
        "gray": header.gray,
        "quality": round(header.quality_step / 2.55, 2),
        "quality_step": header.quality_step,
        "lanes": header.lanes,
        "version": "{}.{}".format(*header.version),
        "model": header.fingerprint.hex(),
        "latents_crc": f"{header.latents_crc:08x}",
        "header_bytes": header.size,
        "chunk_bytes": dict(header.chunks),
    }


def export_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="from `nic train`")
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="WEIGHTS",
        help="weight file (default: CHECKPOINT with the extension .safetensors)",
    )
    _force_argument(parser)


def export(args: argparse.Namespace) -> None:
    """`nic export`."""
    output = args.output or args.checkpoint.with_suffix(".safetensors")
    if not args.checkpoint.is_file():
        raise InputError(f"{args.checkpoint}: no such file")
    files.check_target(output, args.force)
    from nic.training.export import export

    export(args.checkpoint, output, args.force)


def _of_module(name: str) -> tuple[Callable, Callable]:
    """A subcommand that a module declares and runs; it is imported when it is asked for."""
    return (
        lambda parser: importlib.import_module(name).add_arguments(parser),
        lambda args: importlib.import_module(name).main(args),
    )


COMMANDS = {
    "encode": ("image -> .nic", encode_arguments, encode),
    "decode": (".nic -> image", decode_arguments, decode),
    "info": ("print the header of .nic files", info_arguments, info),
    "eval": ("rate and quality on a folder of images", *_of_module("nic.evaluation.runner")),
    "bench": ("time the parts of the codec", *_of_module("nic.evaluation.bench")),
    "models": ("list models, their size and cost", *_of_module("nic.listing")),
    "train": ("train a model", *_of_module("nic.training.command")),
    "export": ("training checkpoint -> weight file", export_arguments, export),
}
"""Subcommand -> (help, declares its arguments, runs it)."""


class Version(argparse.Action):
    """Prints version and model, which is looked up only then."""

    def __call__(self, parser, namespace, values, option_string=None):
        import nic
        from nic import models

        try:
            model = models.load()
            name = f"{model.config.name} ({model.fingerprint.hex()})"
        except InputError as error:
            name = f"none ({error})"
        print(f"nic {nic.__version__}\nmodel {name}")
        parser.exit()


def make_parser() -> Parser:
    """The whole command line; subcommands declare their arguments when they are parsed."""
    parser = Parser(
        prog="nic",
        description="A learned image codec: photo.png -> photo.nic -> photo.png.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--version", action=Version, nargs=0, help="print version and model, and exit"
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True, title="commands")
    for name, (help, fill, run) in COMMANDS.items():
        command = commands.add_parser(name, help=help, description=help, fill=fill)
        command.set_defaults(run=run)
    return parser


def _model(args: argparse.Namespace) -> Model | None:
    """The model of `--weights`; None, for the one shipped, without it."""
    if args.weights is None:
        return None
    from nic import models

    return models.load(args.weights)


@contextlib.contextmanager
def _about(name: str) -> Iterator[None]:
    """Says of which file an error speaks."""
    try:
        yield
    except NicError as error:
        error.add_note(name)
        raise


@contextlib.contextmanager
def _progress(args: argparse.Namespace, task: str) -> Iterator[Callable[[int, int], None]]:
    """A bar for work of more than half a second; yields what takes (steps done, steps in all)."""
    from tqdm import tqdm

    off = args.quiet or None  # None: off where standard error is no terminal
    with tqdm(desc=task, unit="step", delay=0.5, leave=False, disable=off) as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield progress


def _line(text: object) -> str:
    """One printable line: names and messages from files may hold anything."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(text))


def _say(args: argparse.Namespace, text: str) -> None:
    if not args.quiet:
        print(f"nic: {_line(text)}", file=sys.stderr)


def _say_report(args: argparse.Namespace, report: dict) -> None:
    """Every entry of a codec's report, those of nested dicts too, with `--verbose`."""
    for key, value in report.items():
        if isinstance(value, dict):
            _say_report(args, {f"{key}: {part}": number for part, number in value.items()})
        elif args.verbose:
            _say(args, f"{key}: {value:.4f}" if isinstance(value, float) else f"{key}: {value}")


def _complain(error: object) -> None:
    about = getattr(error, "__notes__", [])
    print("nic:", _line(": ".join([*about, str(error)])), file=sys.stderr)


class Terminated(BaseException):
    """SIGTERM, as an exception: what is half written gets removed on the way out."""


def _terminate(*_) -> None:
    raise Terminated


def _silence_stdout() -> None:
    """Nothing more is written, not even by the interpreter's own flush at the end."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run(argv: list[str] | None) -> int:
    try:
        args = make_parser().parse_args(argv)
    except SystemExit:  # --help and --version, printed
        sys.stdout.flush()
        return 0
    quiet = getattr(args, "quiet", False)
    with warnings.catch_warnings():
        if quiet:
            warnings.simplefilter("ignore")
        warnings.showwarning = lambda message, *_, **__: _complain(f"warning: {message}")
        code = args.run(args) or 0
    sys.stdout.flush()
    return code


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns its exit code, after one line on standard error if not 0."""
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        return _run(argv)
    except NicError as error:
        _complain(error)
        return error.exit_code
    except KeyboardInterrupt:
        _complain("interrupted")
        return 130
    except Terminated:
        _complain("terminated")
        return 143
    except BrokenPipeError:
        _silence_stdout()
        return 141
    except OSError as error:
        _silence_stdout()
        _complain(f"{error.filename or 'standard output'}: {error.strerror or error}")
        return OutputError.exit_code
    except MemoryError:
        _complain("out of memory")
        return 1
    except Exception as error:
        _complain(f"internal error: {type(error).__name__}: {error}")
        return 1
    finally:
        signal.signal(signal.SIGTERM, before)


if __name__ == "__main__":
    sys.exit(main())
