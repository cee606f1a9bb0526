"""Coverage-guided fuzzing, with atheris: `python -m fuzz TARGET FOLDER [libFuzzer's options]`.

The folder keeps what was found worth keeping; inputs that fail are written beside it.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["nic"]):
    from fuzz import seeds, targets
    from nic import models

LIMITS = ["-timeout=10", "-rss_limit_mb=4096"]
"""Seconds that one input may take, and memory: tracing comparisons takes a kilobyte for each input
and never gives it back, which is the most of it after an hour."""


def main() -> None:
    models.SHIPPED = seeds.NIC_1
    name, folder, *options = sys.argv[1:]
    root = Path(folder)
    seeds.write_seeds(name, root / name)
    size = max(path.stat().st_size for path in (root / name).iterdir())
    limits = [*LIMITS, f"-max_len={2 * size}", f"-artifact_prefix={root / name}-"]
    atheris.Setup([sys.argv[0], *limits, *options, str(root / name)], targets.TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
