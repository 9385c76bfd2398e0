"""Programs for commands of the documentation: `carafe`, `python` and `pytest` as those of this very test."""

import shlex
import sys
from pathlib import Path

from tests.forked import warm

CARAFE = """
case "$1" in
    dev|serve) exec {python} -m carafe "$@" ;;
    *) exec {warm} "$@" ;;
esac
"""


def programs(folder: Path) -> Path:
    """A folder like .venv/bin, whose programs are those of this test."""
    bin_ = folder / ".venv" / "bin"
    bin_.mkdir(parents=True)
    python = shlex.quote(sys.executable)
    for name, line in (
        ("carafe", CARAFE.format(python=python, warm=shlex.join(warm()))),
        ("python", f'exec {python} "$@"'),
        ("pytest", f'exec {python} -m pytest "$@"'),
    ):
        (bin_ / name).write_text(f"#!/bin/sh\n{line}\n")
        (bin_ / name).chmod(0o755)
    return bin_
