"""`nic decode`: .nic files -> images, one or several in lockstep."""

from __future__ import annotations

import argparse
import contextlib
import os
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING

import nic
from nic import container, files
from nic.commands import arguments
from nic.commands.shared import (
    about,
    complain,
    load_model,
    progress_bar,
    say,
    say_report,
    warnings_about,
)
from nic.errors import InputError, NicError, OutputError

if TYPE_CHECKING:
    from nic.picture import Picture
    from nic.stored import Stored


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `nic decode`."""
    parser.add_argument(
        "inputs",
        nargs="+",
        metavar="IN",
        help=".nic file; several are decoded together, which is faster",
    )
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
        help="decode even if the file claims suspiciously many pixels for its size",
    )
    arguments.add_strip(parser)
    arguments.add_coding(parser)


def _crop(text: str) -> tuple[int, int, int, int]:
    try:
        x, y, width, height = map(int, text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not four whole numbers: X,Y,W,H") from None
    return x, y, width, height


def main(args: argparse.Namespace) -> int:
    """Run `nic decode`: all files are tried, and the first error is the exit code."""
    if len(args.inputs) > 1:
        return _decode_several(args)
    _decode_one(args, args.inputs[0])
    return 0


def _decode_one(args: argparse.Namespace, name: str) -> None:
    from nic import codec, images

    output = args.output
    if output is None or os.path.isdir(output):
        if output and name == files.STREAM:
            raise InputError("standard input has no name for a file in a folder: name one with -o")
        output = _decoded_name(args, name, output)
    report = {} if args.verbose else None
    with _sound(args, name) as (data, header):
        format = images.format_for(args.format or ("png" if output == files.STREAM else output))
        files.check_output(output, name, args.force)
        model = load_model(args, header.pixels)
        with about(name), progress_bar(args, "decoding") as progress:
            picture = codec.decode(
                data,
                crop=args.crop,
                keep_going=args.keep_going,
                any_ratio=args.any_ratio,
                model=model,
                report=report,
                progress=progress,
            )
    with warnings_about(lambda: name):
        _write_picture(args, picture, name, output, format)
    say_report(args, report)


def _decode_several(args: argparse.Namespace) -> int:
    """Files in lockstep; an error ends none but its own."""
    from tqdm import tqdm

    from nic import codec, images

    folder, errors = args.output, []
    if folder is not None and not os.path.isdir(folder):
        raise OutputError(f"{folder}: no such folder; several files need one")
    if files.STREAM in args.inputs:
        raise InputError("standard input is read alone, not with other files")
    if args.verbose:
        raise InputError("--verbose is for one file at a time")
    under_way: deque[tuple[str, str, str]] = deque()
    outputs: set[str] = set()

    def fail(error: NicError) -> None:
        complain(error)
        errors.append(error.exit_code)

    def whole_files() -> Iterator[bytes]:
        for name in args.inputs:
            try:
                output = _decoded_name(args, name, folder)
                format = images.format_for(args.format or output)
                files.check_output(output, name, args.force)
                if output in outputs:
                    raise OutputError(f"{output}: made from another file already")
                with about(name):
                    _check(data := files.read(name), args.keep_going)
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
        model=load_model(args, sum(map(_pixels, args.inputs))),
    )
    bar = tqdm(total=len(args.inputs), unit="file", disable=args.quiet or None, leave=False)
    with warnings_about(lambda: under_way[0][0]):
        for result in results:
            name, output, format = under_way[0]
            try:
                if isinstance(result, NicError):
                    result.add_note(name)
                    raise result
                _write_picture(args, result, name, output, format)
            except NicError as error:
                fail(error)
            under_way.popleft()
            bar.update()
    bar.close()
    return errors[0] if errors else 0


def _decoded_name(args: argparse.Namespace, name: str, folder: str | None = None) -> str:
    output = files.default_output(name, f".{(args.format or 'png').lstrip('.')}")
    return os.path.join(folder, os.path.basename(output)) if folder else output


def _check(data: bytes | Stored, keep_going: bool) -> container.Header:
    """The header of a file that is whole; if what is damaged may be left out, this is not looked
    at yet."""
    return container.read_header(data) if keep_going else container.read(data)[0]


@contextlib.contextmanager
def _sound(
    args: argparse.Namespace, name: str
) -> Iterator[tuple[bytes | Stored, container.Header]]:
    """A file that is not broken: one that is, is refused before anything heavy is loaded."""
    with contextlib.ExitStack() as stack:
        with about(name):
            data = stack.enter_context(files.opened(name, partly=bool(args.crop)))
            header = _check(data, args.keep_going)
        yield data, header


def _pixels(name: str) -> int:
    """Of a file, by its header; 0 where that cannot be read, or could not be read again."""
    try:
        header = nic.info(name) if os.path.isfile(name) else None
    except NicError:
        return 0
    return header.pixels if header else 0


def _write_picture(
    args: argparse.Namespace, picture: Picture, name: str, output: str, format: str
) -> None:
    from nic import images
    from nic.appearance import stripped

    if args.strip:
        picture, notes = stripped(picture)
        for note in notes:
            say(args, f"warning: {name}: {note}")
    files.write(output, images.to_bytes(picture, format), args.force)
    say(args, f"{output}: {picture.width}x{picture.height}, {format}")
