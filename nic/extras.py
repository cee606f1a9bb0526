"""Libraries that only some commands need."""

from __future__ import annotations

from importlib.util import find_spec

from nic.errors import InputError


def require(extra: str, *modules: str) -> None:
    """Raise InputError, naming the extra to install, when one of its libraries is missing."""
    missing = [name for name in modules if find_spec(name) is None]
    if missing:
        raise InputError(f"{', '.join(missing)} not installed; try: pip install 'nic[{extra}]'")
