"""Libraries that only some commands need."""

from __future__ import annotations

import os
from importlib.util import find_spec

from nic.errors import InputError


def require(extra: str, *modules: str) -> None:
    """Raise InputError, naming the extra to install, when one of its libraries is missing; to be
    called before they are imported."""
    missing = [name for name in modules if find_spec(name) is None]
    if "torch" in modules:
        # Its threads would wait for each other busily after each of thousands of small operations:
        # beside another program, refinement took ten times as long. Asleep they cost a twentieth.
        os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    if missing:
        raise InputError(f"{', '.join(missing)} not installed; try: pip install 'nic[{extra}]'")
