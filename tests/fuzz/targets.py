"""What hostile bytes are thrown at. Each target returns, whatever it is given: a result or a
`NicError` is an outcome, and anything else that is raised is a bug."""

from __future__ import annotations

import contextlib
import io
import os
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest import mock

import numpy as np
from fuzz.repair import repaired
from PIL import Image, UnidentifiedImageError

import cli
import nic.pillow
from nic import codec, container, models, streams, tiles
from nic.errors import NicError
from nic.picture import Picture
from nic.symbols import SymbolReader, SymbolWriter

MAX_PIXELS = 2**16
"""Of an image that is decoded: larger ones only take longer."""

COMMANDS = [
    ("info", "--json", "in.nic"),
    ("decode", "in.nic", "-o", "out.webp", "-f"),
    ("decode", "in.nic", "-o", "out.jpg", "-f", "--strip"),
    ("decode", "in.nic", "-o", "out.bmp", "-f", "--keep-going"),
    ("thumbnail", "in.nic", "out.png"),
]

REFUSED = {2, 3, 4, 5, 6, 7}
"""Exit codes of the command line that say what is wrong with a file."""


def read_container(data: bytes) -> None:
    """Header, chunks, table of tiles, and the header in words."""
    for file in (data, repaired(data, bytes(8))):
        with contextlib.suppress(NicError):
            header, chunks = container.read(file)
            assert header.file_size == len(file)
            container.describe(header)
            tiles.verify(tiles.unpack(header, chunks))


def read_symbols(data: bytes) -> None:
    """The range decoder, by tables that the first bytes choose; what it accepts is canonical."""
    tables = models.load().prior.residual_tables
    choice, stream = data[:2].ljust(2, b"\0"), data[2:]
    lanes = container.LANES[choice[0] % len(container.LANES)]
    indices = (np.arange(64) * 7 + choice[1]) % len(tables.lows)
    with contextlib.suppress(NicError):
        reader, writer = SymbolReader(stream, lanes), SymbolWriter(lanes)
        for _ in range(4):
            writer.write(tables, indices, reader.read(tables, indices))
        reader.finish()
        assert writer.finish() == stream


def decode(data: bytes) -> None:
    """The whole decoder."""
    with contextlib.suppress(NicError), any_latents():
        data = sealed(data)
        header, picture = nic.info(data), codec.decode(data)
        assert picture.pixels.shape[:2] == (header.height, header.width)


def run_commands(data: bytes) -> None:
    """The command line: a picture, or no output and one line that says why."""
    with TemporaryDirectory() as folder, contextlib.chdir(folder), any_latents():
        Path("in.nic").write_bytes(sealed(data))
        for argv in COMMANDS:
            out, err = io.StringIO(), io.StringIO()
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                code = cli.main(list(argv))
            made = [name for name in os.listdir() if name != "in.nic"]
            if code:
                assert code in REFUSED and err.getvalue() and not made, (argv, err.getvalue())
            for name in made:
                with Image.open(name) as image:
                    image.verify()
                os.unlink(name)


def open_in_pillow(data: bytes) -> None:
    """Pillow's plugin, whose errors are Pillow's."""
    with contextlib.suppress(UnidentifiedImageError, OSError), any_latents():
        with Image.open(io.BytesIO(sealed(data)), formats=[nic.pillow.FORMAT]) as image:
            image.load()


def read_weights(data: bytes) -> None:
    """A weight file; a sound one serves to code."""
    with TemporaryDirectory() as folder, contextlib.suppress(NicError):
        path = Path(folder) / "hostile.safetensors"
        path.write_bytes(data)
        model = models.read(path)
        coded = codec.encode(Picture(np.zeros((9, 7), np.uint8)), 50, effort=4, model=model)
        codec.decode(coded, model=model)


TARGETS = {
    "container": read_container,
    "symbols": read_symbols,
    "decode": decode,
    "commands": run_commands,
    "pillow": open_in_pillow,
    "weights": read_weights,
}


def sealed(data: bytes) -> bytes:
    """The file with right checksums, for the model in use; nothing where the image is large."""
    data = repaired(data, models.load().fingerprint)
    with contextlib.suppress(NicError):
        header = container.read_header(data)
        return data if header.width * header.height <= MAX_PIXELS else b""
    return data


def any_latents() -> contextlib.AbstractContextManager:
    """Decoded latents match every checksum, so that they reach the synthesis."""
    return mock.patch.object(streams, "latents_crc", lambda _: mock.ANY)
