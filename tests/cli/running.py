"""`carafe serve`, `serve --worker` and `dev` as processes: their output can be waited for, and they always end."""

import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.cli.conftest import ROOT, bare_environment
from tests.forked import CARAFE, Process, start


class Running:
    """A process of the command, and what it has said so far (both streams)."""

    def __init__(self, process: Process, output: Path) -> None:
        self._process, self._output = process, output

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def output(self) -> str:
        return self._output.read_text(errors="replace")

    def says(self, pattern: str, within: float = 40.0) -> re.Match[str]:
        """Waits until the output matches. Raises AssertionError at the deadline, or when the process has ended."""
        deadline = time.monotonic() + within
        while True:
            ended = self._process.poll()
            found = re.search(pattern, self.output)
            if found:
                return found
            assert ended is None, f"ended with {ended} and did not say {pattern!r}:\n{self.output}"
            assert time.monotonic() < deadline, f"did not say {pattern!r} within {within:g} s:\n{self.output}"
            try:
                self._process.wait(0.02)
            except subprocess.TimeoutExpired:
                pass

    def end(self, number: signal.Signals = signal.SIGTERM, within: float = 40.0) -> int:
        """Sends the signal; the exit code."""
        self._process.send_signal(number)
        return self.wait(within)

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def wait(self, within: float = 40.0) -> int:
        """The exit code, once it has ended by itself."""
        try:
            return self._process.wait(within)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"has not ended within {within:g} s:\n{self.output}") from None


@contextmanager
def running(*arguments: str, folder: Path, **environment: str) -> Iterator[Running]:
    """The command as a process, killed at the end if it still runs."""
    with started(
        [*CARAFE, *arguments],
        folder=folder,
        environment=bare_environment() | {"PYTHONPATH": str(ROOT)} | environment,
    ) as process:
        yield process


@contextmanager
def started(command: Sequence[str], *, folder: Path, environment: Mapping[str, str]) -> Iterator[Running]:
    """Any command as a process, killed at the end if it still runs."""
    with tempfile.NamedTemporaryFile(suffix=".log") as output:
        process = start(command, folder=folder, environment={"PYTHONUNBUFFERED": "1", **environment}, output=output)
        try:
            yield Running(process, Path(output.name))
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
