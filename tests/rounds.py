"""``python -m tests.rounds SOCKET -m MODULE ARGUMENT…``: what ``python -m MODULE ARGUMENT…`` does.

The module is one of `benchmarks` or `chaos`. Their processes of `carafe` are forked by the server at the socket
(`tests.forked`); nothing else differs.
"""

import importlib
import runpy
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tests import forked


def popen(command: Sequence[str], *, env: Mapping[str, str], preexec_fn: object = None, **given: Any) -> forked.Process:
    """As `subprocess.Popen`. What is forked ends with its server, whatever `preexec_fn` would do about that."""
    return forked.popen(_of_this_python(command), env=env, **given)


def run(
    command: Sequence[str],
    *,
    cwd: Path,
    env: Mapping[str, str],
    timeout: float,
    check: bool,
    capture_output: bool,
    text: bool,
) -> "subprocess.CompletedProcess[str]":
    """As `subprocess.run`."""
    assert (check, capture_output, text) == (True, True, True)
    code, out, errors = forked.run(_of_this_python(command), folder=cwd, environment=env, within=timeout)
    done = subprocess.CompletedProcess(command, code, out, errors)
    done.check_returncode()
    return done


def _of_this_python(command: Sequence[str]) -> list[str]:
    """The command, with the one name of this Python."""
    program, *rest = command
    same = Path(program).name == "python" and Path(program).parent == Path(sys.executable).parent
    return [sys.executable if same else program, *rest]


def main() -> None:
    _, path, _, module, *arguments = sys.argv
    forked.reach(path)
    started = SimpleNamespace(**vars(subprocess) | {"Popen": popen, "run": run})
    for starting in (
        ("chaos.processes",) if module.startswith("chaos") else ("benchmarks.processes", "benchmarks.measurements")
    ):
        importlib.import_module(starting).subprocess = started  # type: ignore[attr-defined]
    sys.argv[:] = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
