"""The first process of the containers under `tilt up`: it starts the command again at SIGHUP, and otherwise changes
nothing."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

RESTART = Path(__file__).resolve().parents[2] / "deploy/tilt/restart.py"

SLEEPER = """
import os, signal, sys
def end(number, frame):
    print("told", number, flush=True)
    sys.exit(3)
signal.signal(signal.SIGTERM, end)
signal.signal(signal.SIGINT, end)
print("up", os.getpid(), flush=True)
while True:
    signal.pause()
"""


@contextmanager
def running(code: str) -> Iterator["subprocess.Popen[str]"]:
    process = subprocess.Popen(
        [sys.executable, RESTART, sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=30)


def said(process: "subprocess.Popen[str]") -> str:
    assert process.stdout
    return process.stdout.readline().strip()


@pytest.mark.process
def test_a_hangup_ends_the_command_and_starts_it_again() -> None:
    with running(SLEEPER) as process:
        first = said(process)
        process.send_signal(signal.SIGHUP)
        assert said(process) == f"told {signal.SIGTERM:d}"
        second = said(process)
        assert first.startswith("up ")
        assert second.startswith("up ")
        assert first != second
        assert process.poll() is None


@pytest.mark.process
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_other_signals_reach_the_command_and_its_end_is_the_end(number: signal.Signals) -> None:
    with running(SLEEPER) as process:
        said(process)
        process.send_signal(number)
        assert said(process) == f"told {number:d}"
        assert process.wait(30) == 3


@pytest.mark.process
@pytest.mark.parametrize(("code", "expected"), [("raise SystemExit(5)", 5), ("import os; os.kill(os.getpid(), 9)", 137)])
def test_a_command_that_ends_by_itself_gives_its_exit_code(code: str, expected: int) -> None:
    with running(code) as process:
        assert process.wait(30) == expected
