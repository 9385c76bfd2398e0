"""The worker processes of one measurement, and their certain end.

Guarantees: when the context is left, however it is left, no process of the workers' sessions is alive; a worker whose
harness is killed dies with it.
"""

import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

_LIBC = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1


class WorkerFailed(Exception):
    """A worker that exited by itself; the text ends with what it said."""


@dataclass(frozen=True, slots=True)
class Memory:
    """Of all processes together, in MB (10^6 bytes). PSS counts a page shared by n processes 1/n times in each."""

    rss: float
    pss: float


def _die_with_the_harness() -> None:
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class Workers:
    """Start each command in a session of its own; end every process of those sessions at exit."""

    def __init__(self, commands: Sequence[tuple[Sequence[str], Mapping[str, str]]], *, folder: Path, log: Path) -> None:
        self._commands = commands
        self._folder = folder
        self._log = log
        self._started: list[subprocess.Popen[bytes]] = []
        self.started_at = 0.0

    def __enter__(self) -> Self:
        self.started_at = time.time()
        try:
            for command, variables in self._commands:
                with self._log.open("ab") as log:
                    self._started.append(
                        subprocess.Popen(
                            command,
                            cwd=self._folder,
                            env=dict(variables),
                            stdin=subprocess.DEVNULL,
                            stdout=log,
                            stderr=subprocess.STDOUT,
                            start_new_session=True,
                            preexec_fn=_die_with_the_harness if os.uname().sysname == "Linux" else None,
                        )
                    )
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._end()

    def check(self) -> None:
        """Raises `WorkerFailed` when a worker is gone."""
        for process in self._started:
            if process.poll() is not None:
                raise WorkerFailed(f"a worker exited with {process.returncode}: {self.said()}")

    def said(self) -> str:
        """The last lines of the workers' output."""
        return " / ".join(self._log.read_text(errors="replace").strip().splitlines()[-4:])

    def memory(self) -> Memory:
        """What the workers' processes hold now."""
        rss, pss = 0, 0
        for process in self._processes():
            info = process.memory_full_info()
            rss, pss = rss + info.rss, pss + info.pss
        return Memory(rss / 1e6, pss / 1e6)

    def cpu(self) -> float:
        """Processor seconds that the workers' processes have spent, in user and kernel mode."""
        return sum(sum(process.cpu_times()[:2]) for process in self._processes())

    def _processes(self) -> list[psutil.Process]:
        sessions = {process.pid for process in self._started}
        found = []
        for process in psutil.process_iter():
            try:
                if os.getsid(process.pid) in sessions and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except (ProcessLookupError, psutil.NoSuchProcess):
                continue
        return found

    def _end(self) -> None:
        # Killed, not asked: what is left undone belongs to a database that is dropped next.
        deadline = time.monotonic() + 10
        while alive := self._processes():
            for process in alive:
                try:
                    process.kill()
                except psutil.NoSuchProcess:
                    continue
            for started in self._started:
                started.poll()
            if time.monotonic() > deadline:
                raise RuntimeError(f"processes that do not die: {alive}")
            time.sleep(0.01)
        for started in self._started:
            started.wait(timeout=5)
