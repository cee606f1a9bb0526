"""`nic models`: what models there are, their size and cost, and which is shipped."""

from __future__ import annotations

import argparse
import json

from nic import models
from nic.architecture import complexity
from nic.config import CONFIGS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `nic models`."""
    parser.epilog = (
        "Parameters are weights and biases. kMAC/pixel counts thousands of multiply-accumulates: "
        "g_a, h_a and the prior to encode, the prior and g_s to decode."
    )
    parser.add_argument("--json", action="store_true", help="one JSON object per model and line")


def main(args: argparse.Namespace) -> int:
    """Run `nic models`; returns the exit code."""
    rows = [describe(name) for name in CONFIGS]
    if args.json:
        for row in rows:
            print(json.dumps(row))
        return 0
    print(f"{'model':<22} {'parameters':>10}  {'kMAC/pixel':>14}  fingerprint")
    print(f"{'':<22} {'':>10}  {'encode':>6} {'decode':>7}")
    for row in rows:
        name, parameters, encode, decode, fingerprint = row.values()
        print(
            f"{name:<22} {parameters / 1e6:>8.2f} M  {encode:>6.1f} {decode:>7.1f}"
            f"  {fingerprint or 'not shipped'}"
        )
    return 0


def describe(name: str) -> dict[str, str | float | None]:
    """A model's name, parameters, thousands of multiply-accumulates a pixel, and the fingerprint of
    its shipped weight file, None without one."""
    cost = complexity(CONFIGS[name])
    shipped = models.WEIGHTS / f"{name}.safetensors"
    return {
        "model": name,
        "parameters": cost.parameters,
        "encode_kmac_per_pixel": round(cost.encode_macs / 1000, 3),
        "decode_kmac_per_pixel": round(cost.decode_macs / 1000, 3),
        "fingerprint": models.fingerprint(shipped.read_bytes()).hex() if shipped.exists() else None,
    }
