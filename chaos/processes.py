"""One place for a process (a worker, a web process): started, killed, frozen, replaced; its log is kept across its lives."""

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


class Place:
    """A process that should run. It is started in a group of its own, so that its children can be killed with it."""

    def __init__(self, name: str, command: Sequence[str], environment: Mapping[str, str], folder: Path) -> None:
        self.name = name
        self.wanted = False
        self.process: subprocess.Popen[bytes] | None = None
        self.leaving: list[subprocess.Popen[bytes]] = []
        self.log = folder / f"{name}.log"
        self._command, self._environment, self._folder = command, environment, folder
        self._offset = 0
        self._said: dict[str, dict[str, Any]] = {}

    def start(self) -> None:
        """Start it, unless it runs."""
        self.wanted = True
        if self.process is not None and self.process.poll() is None:
            return
        with open(self.log, "ab") as log:
            self._offset = log.tell()
            self._said = {}
            self.process = subprocess.Popen(
                self._command,
                cwd=self._folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def running(self) -> bool:
        """Whether there is a process, frozen or not."""
        return self.process is not None and self.process.poll() is None

    def signal(self, number: signal.Signals, *, group: bool = False) -> None:
        """Send a signal; harmless when it has ended."""
        if self.process is not None and self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                (os.killpg if group else os.kill)(self.process.pid, number)

    def kill(self, *, group: bool = True) -> None:
        """SIGKILL, and no new one until `start`."""
        self.wanted = False
        self.signal(signal.SIGKILL, group=group)
        if self.process is not None:
            self.process.wait()

    def replace(self) -> subprocess.Popen[bytes]:
        """SIGTERM to the old one, and a new one beside it, as a rollout does. Returns the old one."""
        old = self.process
        assert old is not None
        self.signal(signal.SIGTERM)
        self.leaving.append(old)
        self.process = None
        self.start()
        return old

    def end(self) -> None:
        """SIGKILL to whatever is left of it, children included."""
        self.wanted = False
        for process in (*self.leaving, *([self.process] if self.process else [])):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def said(self, event: str) -> dict[str, Any] | None:
        """The first log line of this event since the last start."""
        if event not in self._said:
            if not self.log.exists():
                return None
            with open(self.log, "rb") as log:
                log.seek(self._offset)
                for line in log:
                    if event.encode() not in line:
                        continue
                    with contextlib.suppress(ValueError):
                        found = json.loads(line)
                        if found.get("event") == event:
                            self._said[event] = found
                            break
        return self._said.get(event)


def exit_code(process: subprocess.Popen[bytes], within: float) -> int | None:
    """The exit code of a process that was told to end; None when it has not within this many seconds. Blocks."""
    try:
        return process.wait(max(0.0, within))
    except subprocess.TimeoutExpired:
        return None


def now() -> float:
    """The wall clock, which the servers of this machine share."""
    return time.time()
