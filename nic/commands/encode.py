"""`nic encode`: an image -> a .nic file."""

from __future__ import annotations

import argparse
import sys

from nic import files
from nic.commands import arguments
from nic.commands.shared import load_model, progress_bar, say, say_report
from nic.effort import DEFAULT_EFFORT, work


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `nic encode`."""
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
        help="quality of the transparency, 0 to 100, which is lossless (default: %(default)g)",
    )
    parser.add_argument(
        "--exact",
        action="store_true",
        help="keep the colours of wholly transparent pixels too; costs bytes",
    )
    parser.add_argument(
        "--frame",
        type=int,
        metavar="N",
        help="which picture of a file of several to encode, counted from 0",
    )
    arguments.add_strip(parser)
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
    arguments.add_coding(parser)


def _lanes(text: str) -> int | str:
    return int(text) if text.isdecimal() else text


def main(args: argparse.Namespace) -> None:
    """Run `nic encode`."""
    from nic import images

    source = sys.stdin.buffer if args.input == files.STREAM else args.input
    picture, notes = images.load(source, strip=args.strip, frame=args.frame)
    output = args.output
    if output is None:
        output = files.default_output(args.input, ".nic")
    files.check_output(output, args.input, args.force)
    for note in notes:
        say(args, f"warning: {args.input}: {note}")
    from nic import codec

    effort = DEFAULT_EFFORT if args.effort is None else args.effort
    model = load_model(args, picture.width * picture.height * work(effort))
    report = {} if args.verbose else None
    with progress_bar(args, "encoding") as progress:
        data = codec.encode(
            picture,
            args.quality,
            size=args.size,
            bpp=args.bpp,
            psnr=args.psnr,
            effort=effort,
            alpha_quality=args.alpha_quality,
            exact=args.exact,
            lanes=args.lanes,
            model=model,
            report=report,
            progress=progress,
        )
    if args.verify:
        with progress_bar(args, "verifying") as progress:
            decoded = codec.decode(data, any_ratio=True, model=model, progress=progress)
        from nic.fidelity import psnr, visible_psnr

        if args.exact:
            fidelity = psnr(picture.pixels, decoded.pixels)
        else:
            fidelity = visible_psnr(picture, decoded)
        say(args, f"verified: PSNR {fidelity:.2f} dB")
    files.write(output, data, args.force)
    bpp = 8 * len(data) / (picture.width * picture.height)
    say(args, f"{output}: {picture.width}x{picture.height}, {len(data)} bytes, {bpp:.4f} bpp")
    say_report(args, report)
