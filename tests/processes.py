"""The command in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def start(*argv: str, script: str = "tests/lossless_codec.py", **options) -> subprocess.Popen:
    """The command in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": ""}
    environment |= options.pop("env", {})
    options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, **options}
    command = [sys.executable, str(ROOT / script), *argv]
    return subprocess.Popen(command, stderr=subprocess.PIPE, env=environment, **options)
