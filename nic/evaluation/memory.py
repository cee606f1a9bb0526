"""`nic bench --memory MP`: peak memory of whole `nic` processes on one large image.

The image is the bundled photograph, mirrored and repeated. Linux only: the peak is the kernel's.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from PIL import Image, ImageOps

from nic.errors import NicError

# Not the resource usage of a child, which starts with what its parent has used.
PROBE = """
import sys, cli
code = cli.main(sys.argv[1:])
print(*(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
sys.exit(code)
"""


class Peak(NamedTuple):
    """What one process took."""

    task: str
    gigabytes: float
    seconds: float


def measure(megapixels: float, photo: Path) -> list[Peak]:
    """Encode, decode and crop an image of so many million pixels, at quality 50."""
    with TemporaryDirectory() as folder:
        source, coded, out = (f"{folder}/{name}" for name in ("a.png", "a.nic", "b.png"))
        side = round((megapixels * 1e6) ** 0.5)
        _mosaic(photo, side).save(source, compress_level=1)
        crop = f"{side // 2},{side // 2},{min(side // 2, 512)},{min(side // 2, 512)}"
        return [
            _run("encode", source, "-o", coded),
            _run("decode", coded, "-o", out),
            _run("decode", coded, "-o", out, "-f", "--crop", crop),
        ]


def _mosaic(photo: Path, side: int) -> Image.Image:
    """A square image, every second copy of the photograph in each direction mirrored."""
    tile = Image.open(photo).convert("RGB")
    image = Image.new("RGB", (side, side))
    for row in range(-(-side // tile.height)):
        for column in range(-(-side // tile.width)):
            part = ImageOps.mirror(tile) if column % 2 else tile
            part = ImageOps.flip(part) if row % 2 else part
            image.paste(part, (column * tile.width, row * tile.height))
    return image


def _run(*argv: str) -> Peak:
    start = time.perf_counter()
    command = [sys.executable, "-c", PROBE, *argv, "--quiet"]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        raise NicError(f"nic {argv[0]} failed: {result.stderr.strip()}")
    task = f"{argv[0]}{' --crop' * ('--crop' in argv)}"
    return Peak(task, int(result.stdout) * 1024 / 1e9, time.perf_counter() - start)
