"""`nic completions`: a script that completes commands, options and file names in a shell."""

from __future__ import annotations

import argparse
from pathlib import Path

import shtab

SHELLS = ("bash", "zsh", "fish")

# Where nothing else fits, Bash completes files itself, and unlike shtab's function knows quotes.
FILE = {shell: function for shell, function in shtab.FILE.items() if shell != "bash"}
BASH_FILES = "complete -o bashdefault -o default -F _shtab_nic nic\n"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `nic completions`."""
    parser.add_argument("shell", choices=SHELLS, help="the shell to print a script for")


def main(args: argparse.Namespace) -> None:
    """Run `nic completions`."""
    print(script(args.make_parser(filled=True), args.shell))


def script(parser: argparse.ArgumentParser, shell: str) -> str:
    """The script for one of SHELLS; every subcommand must have its arguments already."""
    _mark_files(parser)
    text = shtab.complete(parser, shell)
    return f"{text}\n{BASH_FILES}" if shell == "bash" else text


def _mark_files(parser: argparse.ArgumentParser) -> None:
    """Says of every argument that names a file that it does: text or path, but no other name."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                _mark_files(command)
        elif (
            action.nargs != 0
            and not action.choices
            and action.type in (None, Path)
            and action.metavar not in ("NAME", "NAMES")
        ):
            action.complete = FILE
