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

import numpy as np

from nic import container


def encode_pixels(pixels, quality, *, model=None, lanes=1, report=None, progress=None) -> bytes:
    if os.environ.get("SLOW") == "encode":
        _hang()
    progress(1, 2)
    progress(2, 2)
    data = zlib.compress(pixels.tobytes())
    report["bits"] = {"latents": 8 * len(data), "estimated": 8.0 * len(data)}
    report["seconds"] = {"analysis": 0.125}
    return container.write(
        [("H", b""), ("L", data)],
        fingerprint=bytes(8),
        quality_step=int(quality * 2.55 + 0.5),
        gray=pixels.ndim == 2,
        lanes=lanes,
        width=pixels.shape[1],
        height=pixels.shape[0],
        latents_crc=0,
    )


def decode_pixels(data, *, model=None, report=None, progress=None) -> np.ndarray:
    header, chunks = container.read(data)
    pixels = np.frombuffer(zlib.decompress(chunks["L"]), np.uint8)
    shape = (header.height, header.width) + (() if header.gray else (3,))
    return pixels.reshape(shape)


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
