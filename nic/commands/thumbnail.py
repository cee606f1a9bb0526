"""`nic thumbnail`: a small PNG of a .nic file, as file managers ask for it."""

from __future__ import annotations

import argparse

from nic import files
from nic.commands import arguments
from nic.commands.shared import about


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `nic thumbnail`."""
    parser.add_argument("input", metavar="IN", help=".nic file")
    parser.add_argument("output", metavar="OUT", help="PNG to write; overwritten if it exists")
    parser.add_argument(
        "--size",
        type=arguments.count,
        default=256,
        metavar="N",
        help="pixels of the longer side at most (default: %(default)d)",
    )


def main(args: argparse.Namespace) -> None:
    """Run `nic thumbnail`."""
    from PIL import Image

    from nic import codec, images
    from nic.appearance import stripped

    with about(args.input):
        data = files.read(args.input)
    files.check_output(args.output, args.input, overwrite=True)
    with about(args.input):
        picture = codec.decode(data)
    image = images.to_pil(stripped(picture)[0])
    image.thumbnail((args.size, args.size), Image.Resampling.LANCZOS)
    small, _ = images.from_pil(image)
    files.write(args.output, images.to_bytes(small, "PNG"), overwrite=True)
