"""Stands in for nic.codec where only the command line is under test: lossless, and needs no model.

As a script it runs `nic` with itself as the codec; with SLOW set it says so and never returns, in
encoding ("encode") or in the middle of writing the output ("write").
"""

from __future__ import annotations

import os
import signal
import sys
import time
import zlib
from collections.abc import Iterator

import numpy as np

from nic import container, metadata
from nic.errors import NicError
from nic.picture import Picture


def encode(picture, quality, *, model=None, report=None, progress=None, **options) -> bytes:
    if os.environ.get("SLOW") == "encode":
        _hang()
    progress(1, 2)
    progress(2, 2)
    data = zlib.compress(picture.pixels.tobytes())
    if report is not None:
        report["bits"] = {"latents": 8 * len(data), "estimated": 8.0 * len(data)}
        report["seconds"] = {"analysis": 0.125}
    alpha = [] if picture.alpha is None else [("A", picture.alpha.tobytes())]
    return container.write(
        [*metadata.pack(picture), ("H", b""), ("L", data), *alpha],
        fingerprint=bytes(8),
        quality_step=int((50 if quality is None else quality) * 255 / 100 + 0.5),
        gray=picture.gray,
        lanes=1,
        width=picture.width,
        height=picture.height,
        latents_crc=0,
    )


def decode(data, *, model=None, report=None, progress=None, **options) -> Picture:
    header, chunks = container.read(data)
    pixels = np.frombuffer(zlib.decompress(chunks["L"]), np.uint8)
    size = header.height, header.width
    alpha = np.frombuffer(chunks["A"], np.uint8).reshape(size) if header.alpha else None
    pixels = pixels.reshape(size + (() if header.gray else (3,)))
    return Picture(pixels, alpha, **metadata.unpack(chunks))


def decode_batch(files, **options) -> Iterator[Picture | NicError]:
    for data in files:
        try:
            yield decode(data, **options)
        except NicError as error:
            yield error


def _hang(*_) -> None:
    print("waiting", file=sys.stderr, flush=True)
    time.sleep(60)


if __name__ == "__main__":
    import cli

    sys.modules["nic.codec"] = sys.modules["__main__"]
    # A parent in the background hands on an ignored interrupt.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if os.environ.get("SLOW") == "write":
        os.fsync = _hang
    sys.exit(cli.main())
