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
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from nic import arguments, files
from nic.device import DEVICES
from nic.effort import DEFAULT_EFFORT
from nic.errors import InputError, NicError, OutputError

if TYPE_CHECKING:
    from nic.container import Header
    from nic.models import Model
    from nic.picture import Picture
    from nic.stored import Stored

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

    def error(self, message: str):
        raise InputError(f"{message} (see {self.prog} --help)")


def encode_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("input", metavar="IN", help="image in any format that Pillow reads")
    parser.add_argument(
        "-o", "--output", metavar="OUT", help="default: IN with the extension .nic, beside it"
    )
    target = parser.add_mutually_exclusive_group()
    target.add_argument(
        "-q",
        "--quality",
        type=arguments.quality,
        metavar="Q",
        help="0 (smallest file) to 100 (best picture), any real number (default: 50)",
    )
    target.add_argument(
        "--size",
        type=arguments.size,
        metavar="BYTES",
        help="largest size of the file, such as 50k or 1.5M (k: 1000 bytes); at most 1%% is unused",
    )
    target.add_argument(
        "--bpp", type=arguments.positive, metavar="BITS", help="the same, in bits per pixel"
    )
    target.add_argument(
        "--psnr",
        type=arguments.positive,
        metavar="DB",
        help="PSNR of the result, met within 0.05 dB",
    )
    arguments.add_effort(parser)
    parser.add_argument(
        "--alpha-quality",
        type=arguments.quality,
        default=100.0,
        metavar="Q",
        help="of transparency, 0 to 100, which loses nothing (default: %(default)g)",
    )
    parser.add_argument(
        "--exact",
        action="store_true",
        help="keep the colours of wholly transparent pixels too; costs bytes",
    )
    parser.add_argument(
        "--frame", type=int, metavar="N", help="of a file of several pictures take this, from 0"
    )
    _strip_argument(parser)
    parser.add_argument(
        "--lanes",
        type=_lanes,
        default=1,
        metavar="N",
        help="substreams that a GPU can decode at once, a power of two up to 128, or auto: as many"
        " as add less than 1%% (default: %(default)s)",
    )
    parser.add_argument(
        "--verify",
        action="store_true",
        help="decode the result before it is written, and print its PSNR in dB",
    )
    _coding_arguments(parser)


def decode_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("inputs", nargs="+", metavar="IN", help=".nic file; several go faster")
    parser.add_argument(
        "-o",
        "--output",
        metavar="OUT",
        help="file or, for several inputs, folder (default: IN with the extension .png, beside it)",
    )
    parser.add_argument(
        "--format",
        metavar="NAME",
        help="image format, such as png, jpeg or webp (default: by OUT's extension, or else png)",
    )
    parser.add_argument(
        "--crop",
        type=_crop,
        metavar="X,Y,W,H",
        help="decode only this part, in stored pixels from the upper left corner",
    )
    parser.add_argument(
        "--keep-going",
        action="store_true",
        help="fill damaged tiles of a large image with gray, and say which, instead of failing",
    )
    parser.add_argument(
        "--any-ratio",
        action="store_true",
        help="decode even so many pixels from so few bytes that the file looks like a trap",
    )
    _strip_argument(parser)
    _coding_arguments(parser)


def _crop(text: str) -> tuple[int, int, int, int]:
    try:
        x, y, width, height = map(int, text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not four whole numbers: X,Y,W,H") from None
    return x, y, width, height


def _lanes(text: str) -> int | str:
    return int(text) if text.isdecimal() else text


def _coding_arguments(parser: argparse.ArgumentParser) -> None:
    _force_argument(parser)
    parser.add_argument(
        "--weights", type=Path, metavar="PATH", help="weight file (default: the one shipped)"
    )
    parser.add_argument(
        "--device",
        choices=DEVICES,
        default="auto",
        help="where to code; auto: on an NVIDIA GPU where there is one and enough to do for it",
    )
    volume = parser.add_mutually_exclusive_group()
    volume.add_argument("-v", "--verbose", action="store_true", help="print sizes, bits, seconds")
    volume.add_argument("--quiet", action="store_true", help="print nothing but errors")


def _strip_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--strip",
        action="store_true",
        help="drop ICC profile, EXIF and XMP; the picture is turned upright, its colours to sRGB",
    )


def _force_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-f", "--force", action="store_true", help="overwrite the output")


def encode(args: argparse.Namespace) -> None:
    """`nic encode`."""
    from nic import images

    source = sys.stdin.buffer if args.input == files.STREAM else args.input
    picture, notes = images.load(source, strip=args.strip, frame=args.frame)
    output = args.output or files.default_output(args.input, ".nic")
    files.check_output(output, args.input, args.force)
    for note in notes:
        _say(args, f"warning: {args.input}: {note}")
    from nic import codec

    model = _model(args, picture.width * picture.height)
    report = {} if args.verbose else None
    with _progress(args, "encoding") as progress:
        data = codec.encode(
            picture,
            args.quality,
            size=args.size,
            bpp=args.bpp,
            psnr=args.psnr,
            effort=DEFAULT_EFFORT if args.effort is None else args.effort,
            alpha_quality=args.alpha_quality,
            exact=args.exact,
            lanes=args.lanes,
            model=model,
            report=report,
            progress=progress,
        )
    if args.verify:
        with _progress(args, "verifying") as progress:
            decoded = codec.decode(data, any_ratio=True, model=model, progress=progress)
        from nic.fidelity import psnr, visible_psnr

        if args.exact:
            fidelity = psnr(picture.pixels, decoded.pixels)
        else:
            fidelity = visible_psnr(picture, decoded)
        _say(args, f"verified: PSNR {fidelity:.2f} dB")
    files.write(output, data, args.force)
    bpp = 8 * len(data) / (picture.width * picture.height)
    _say(args, f"{output}: {picture.width}x{picture.height}, {len(data)} bytes, {bpp:.4f} bpp")
    _say_report(args, report)


def decode(args: argparse.Namespace) -> int:
    """`nic decode`: all files are tried, and the first error is the exit code."""
    if len(args.inputs) == 1 and not os.path.isdir(args.output or ""):
        _decode_one(args, args.inputs[0])
        return 0
    return _decode_several(args)


def _decode_one(args: argparse.Namespace, name: str) -> None:
    from nic import codec, images

    output = args.output or _decoded_name(args, name)
    report = {} if args.verbose else None
    with _sound(name, partly=bool(args.crop)) as (data, header):
        format = images.format_for(args.format or ("png" if output == files.STREAM else output))
        files.check_output(output, name, args.force)
        model = _model(args, header.width * header.height)
        with _about(name), _progress(args, "decoding") as progress:
            picture = codec.decode(
                data,
                crop=args.crop,
                keep_going=args.keep_going,
                any_ratio=args.any_ratio,
                model=model,
                report=report,
                progress=progress,
            )
    _write_picture(args, picture, name, output, format)
    _say_report(args, report)


def _decode_several(args: argparse.Namespace) -> int:
    """Files in lockstep; an error ends none but its own."""
    from tqdm import tqdm

    from nic import codec, images

    folder, errors = args.output, []
    if folder is not None and not os.path.isdir(folder):
        raise OutputError(f"{folder}: no such folder; several files need one")
    if files.STREAM in args.inputs:
        raise InputError("standard input is read alone, not with other files")
    under_way: deque[tuple[str, str, str]] = deque()
    outputs: set[str] = set()

    def fail(error: NicError) -> None:
        _complain(error)
        errors.append(error.exit_code)

    def whole_files() -> Iterator[bytes]:
        for name in args.inputs:
            try:
                output = _decoded_name(args, name, folder)
                format = images.format_for(args.format or output)
                files.check_output(output, name, args.force)
                if output in outputs:
                    raise OutputError(f"{output}: made from another file already")
                with _sound(name) as (data, _):
                    pass
            except NicError as error:
                fail(error)
            else:
                outputs.add(output)
                under_way.append((name, output, format))
                yield data

    results = codec.decode_batch(
        whole_files(),
        crop=args.crop,
        keep_going=args.keep_going,
        any_ratio=args.any_ratio,
        model=_model(args, sum(map(_pixels, args.inputs))),
    )
    bar = tqdm(total=len(args.inputs), unit="file", disable=args.quiet or None, leave=False)
    for result in results:
        name, output, format = under_way.popleft()
        try:
            with _about(name):
                if isinstance(result, NicError):
                    raise result
                _write_picture(args, result, name, output, format)
        except NicError as error:
            fail(error)
        bar.update()
    bar.close()
    return errors[0] if errors else 0


def _decoded_name(args: argparse.Namespace, name: str, folder: str | None = None) -> str:
    output = files.default_output(name, f".{(args.format or 'png').lstrip('.')}")
    return os.path.join(folder, os.path.basename(output)) if folder else output


@contextlib.contextmanager
def _sound(name: str, partly: bool = False) -> Iterator[tuple[bytes | Stored, Header]]:
    """A file that is not broken: one that is, is refused before anything heavy is loaded."""
    from nic import container

    with contextlib.ExitStack() as stack:
        with _about(name):
            data = stack.enter_context(files.opened(name, partly))
            header, _ = container.read(data)
        yield data, header


def _pixels(name: str) -> int:
    """Of a file, by its header; 0 where that cannot be read."""
    import nic

    try:
        header = nic.info(name)
    except NicError:
        return 0
    return header.width * header.height


def _write_picture(
    args: argparse.Namespace, picture: Picture, name: str, output: str, format: str
) -> None:
    from nic import images
    from nic.appearance import stripped

    if args.strip:
        picture, notes = stripped(picture)
        for note in notes:
            _say(args, f"warning: {name}: {note}")
    files.write(output, images.to_bytes(picture, format), args.force)
    _say(args, f"{output}: {picture.width}x{picture.height}, {format}")


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
    from nic import container, tiles

    data = files.read(name)
    header = container.read_header(data)
    bpp = 8 * len(data) / (header.width * header.height)
    if as_json:
        print(json.dumps({"file": name, "bytes": len(data), "bpp": bpp, **_plain(header)}))
    else:
        whole = ("file size", f"{len(data)} bytes", f"{bpp:.4f} bpp")
        print(files.printable(name))
        for field, value, meaning in [*container.describe(header), whole]:
            print(f"  {field:<13} {value:<24} {meaning}")
    # What is wrong with the rest, the header being sound.
    tiles.verify(tiles.unpack(*container.read(data)))


def _plain(header: Header) -> dict:
    """A header as JSON knows it: numbers, text, booleans."""
    return {
        "width": header.width,
        "height": header.height,
        "gray": header.gray,
        "alpha": header.alpha,
        "tiles": header.tiles,
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


def completions_arguments(parser: argparse.ArgumentParser) -> None:
    from nic.completions import SHELLS

    parser.add_argument("shell", choices=SHELLS, help="the shell to print a script for")


def completions(args: argparse.Namespace) -> None:
    """`nic completions`."""
    from nic.completions import script

    print(script(make_parser(filled=True), args.shell))


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
    "batch": ("convert whole folders, in any number of runs", *_of_module("nic.batch.command")),
    "eval": ("rate and quality on a folder of images", *_of_module("nic.evaluation.runner")),
    "compare": ("one image beside other codecs, as a page", *_of_module("nic.evaluation.compare")),
    "bench": ("time the parts of the codec", *_of_module("nic.evaluation.bench")),
    "models": ("list models, their size and cost", *_of_module("nic.listing")),
    "train": ("train a model", *_of_module("nic.training.command")),
    "export": ("training checkpoint -> weight file", export_arguments, export),
    "thumbnail": ("small PNG of a .nic file, for file managers", *_of_module("nic.thumbnail")),
    "completions": ("print a shell's completion script", completions_arguments, completions),
}
"""Subcommand -> (help, declares its arguments, runs it)."""


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
    commands = parser.add_subparsers(metavar="COMMAND", required=True, title="commands")
    for name, (help, fill, run) in COMMANDS.items():
        command = commands.add_parser(name, help=help, description=help, fill=fill)
        command.set_defaults(run=run)
        if filled:
            command.fill_in()
    return parser


def _model(args: argparse.Namespace, pixels: int) -> Model:
    """The model of `--weights`, or the one shipped, on the device for so many pixels."""
    from nic import models
    from nic.device import choose

    return models.load(args.weights, choose(args.device, pixels))


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


def _say(args: argparse.Namespace, text: str) -> None:
    if not args.quiet:
        print(f"nic: {files.printable(text)}", file=sys.stderr)


def _say_report(args: argparse.Namespace, report: dict | None) -> None:
    """Every entry of a codec's report, those of nested dicts too."""
    for key, value in (report or {}).items():
        if isinstance(value, dict):
            _say_report(args, {f"{key}: {part}": number for part, number in value.items()})
        else:
            _say(args, f"{key}: {value:.4f}" if isinstance(value, float) else f"{key}: {value}")


def _complain(error: object) -> None:
    about = getattr(error, "__notes__", [])
    print("nic:", files.printable(": ".join([*about, str(error)])), file=sys.stderr)


class Terminated(BaseException):
    """SIGTERM, as an exception: what is half written gets removed on the way out."""


def _terminate(*_) -> None:
    raise Terminated


def _silence_stdout() -> None:
    """Nothing more is written, not even by the interpreter's own flush at the end."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _replace_closed_streams() -> None:
    """To read data from a closed stream or write any to it is an error; messages go nowhere, and
    above all not into a file that was opened in the stream's place."""
    sys.stdin = sys.stdin or open(os.devnull, "w")
    sys.stdout = sys.stdout or open(os.devnull)
    sys.stderr = sys.stderr or open(os.devnull, "w")


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
    _replace_closed_streams()
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
