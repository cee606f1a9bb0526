"""`nic info`: the headers of .nic files, in words or as JSON, and whether the files are sound."""

from __future__ import annotations

import argparse
import json

from nic import container, files, tiles
from nic.commands.shared import about, complain
from nic.errors import NicError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `nic info`."""
    parser.add_argument("files", nargs="+", metavar="FILE", help=".nic file")
    parser.add_argument("--json", action="store_true", help="one JSON object per file and line")


def main(args: argparse.Namespace) -> int:
    """Run `nic info`: all files are reported, and the first error is the exit code."""
    code = 0
    for name in args.files:
        try:
            with about(name):
                _print_info(name, args.json)
        except NicError as error:
            complain(error)
            code = code or error.exit_code
    return code


def _print_info(name: str, as_json: bool) -> None:
    data = files.read(name)
    header = container.read_header(data)
    bpp = 8 * len(data) / header.pixels
    if as_json:
        print(json.dumps({"file": name, "bytes": len(data), "bpp": bpp, **_plain(header)}))
    else:
        whole = ("file size", f"{len(data)} bytes", f"{bpp:.4f} bpp")
        print(files.printable(name))
        for field, value, meaning in [*container.describe(header), whole]:
            print(f"  {field:<13} {value:<24} {meaning}")
    # What is wrong with the rest, the header being sound.
    tiles.verify(tiles.unpack(*container.read(data)))


def _plain(header: container.Header) -> dict:
    """A header as JSON knows it: numbers, text, booleans."""
    return {
        "width": header.width,
        "height": header.height,
        "gray": header.gray,
        "alpha": header.alpha,
        "tiles": header.tiles,
        "quality": round(header.quality, 2),
        "quality_step": header.quality_step,
        "lanes": header.lanes,
        "version": "{}.{}".format(*header.version),
        "model": header.fingerprint.hex(),
        "latents_crc": f"{header.latents_crc:08x}",
        "header_bytes": header.size,
        "chunk_bytes": dict(header.chunks),
    }
