"""A worker as a process: started, asked, signalled, and its log read."""

import http.client
import json
import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from carafe.settings.settings import Settings
from tests.forked import CARAFE, start
from tests.waiting import eventually

ROOT = Path(__file__).parent.parent.parent

SERVE = (*CARAFE, "serve", "--worker")


def bare_environment() -> dict[str, str]:
    """This process's environment without any setting of Carafe, and with the repository importable."""
    names = {name.upper() for name in Settings.model_fields}
    kept = {name: value for name, value in os.environ.items() if name not in names}
    return kept | {"PYTHONPATH": str(ROOT)}


class WorkerProcess:
    """One worker. Its log goes to a file in `folder`, which is its current folder too."""

    def __init__(self, environment: Mapping[str, str], folder: Path, command: Sequence[str] = SERVE) -> None:
        self._log = folder / "worker.log"
        with open(self._log, "wb") as log:
            self.process = start(command, folder=folder, environment={**bare_environment(), **environment}, output=log)
        self._port: int | None = None
        self._read, self._lines = 0, list[dict[str, Any]]()

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def log(self) -> str:
        """Everything it has written."""
        return self._log.read_text(errors="replace")

    def events(self, event: str, **fields: object) -> list[dict[str, Any]]:
        """The log lines of this event whose fields have these values."""
        wanted = {"event": event, **fields}
        return [line for line in self._all() if all(line.get(name) == value for name, value in wanted.items())]

    def events_like(self, words: str) -> list[dict[str, Any]]:
        """The log lines whose event begins with these words."""
        return [line for line in self._all() if str(line.get("event")).startswith(words)]

    def _all(self) -> list[dict[str, Any]]:
        """Every line of the log that is JSON. Each is read once: who waits for one asks again and again."""
        with open(self._log, "rb") as log:
            log.seek(self._read)
            whole, newline, _ = log.read().rpartition(b"\n")
        self._read += len(whole + newline)
        for text in whole.decode(errors="replace").splitlines():
            try:
                self._lines.append(json.loads(text))
            except ValueError:
                continue
        return self._lines

    async def ready(self, within: float = 30.0) -> "WorkerProcess":
        """Wait until it says that it takes jobs. Returns itself."""
        await eventually(self._is_ready, within)
        return self

    def _is_ready(self) -> bool:
        if self.process.poll() is not None:
            raise RuntimeError(f"the worker ended with {self.process.returncode}:\n{self.log}")
        return self.probe("/readyz")[0] == 200

    def probe(self, path: str) -> tuple[int, str]:
        """Status and words of a probe; 0 when there is no answer."""
        if self._port is None:
            started = self.events("worker starting")
            if not started:
                return 0, "not started"
            self._port = int(started[0]["probes"])
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=10)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read().decode().strip()
        except OSError as error:
            return 0, str(error)
        finally:
            connection.close()

    def signal(self, number: signal.Signals = signal.SIGTERM) -> None:
        self.process.send_signal(number)

    async def drains(self) -> None:
        """Wait until it says that it drains."""
        await eventually(lambda: self.probe("/readyz") == (503, "draining"))

    async def ended(self, within: float = 30.0) -> int:
        """Wait for its end; its exit code."""
        await eventually(lambda: self.process.poll() is not None, within)
        code = self.process.returncode
        assert code is not None
        return code

    async def stop(self) -> None:
        """End it in order, and see that it does so without an error."""
        if self.process.poll() is None:
            self.signal()
            code = await self.ended()
            assert code == 0, self.log
        self.kill()

    def kill(self) -> None:
        """End it at once. Harmless when it has ended."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
