"""Measuring nic: metrics, BD-rate, other codecs, plots, benchmark and demonstration."""

from __future__ import annotations

from importlib.util import find_spec

from nic.errors import InputError


def require(*modules: str) -> None:
    """Raise InputError when a library of the extra `eval` is missing."""
    missing = [name for name in modules if find_spec(name) is None]
    if missing:
        raise InputError(f"{', '.join(missing)} not installed; try: pip install 'nic[eval]'")
