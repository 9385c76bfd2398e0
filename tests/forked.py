"""Processes of the command `carafe` that do not pay for their imports, a second or two of a processor each: they are forked
from a process that has them (`tests.fork_server`).

    process = start([sys.executable, "-m", "carafe", "serve"], folder=…, environment=…, output=…)

Each is a process as any other, of ``python -m carafe`` from its first line on; only its modules are there already. A test
about starting or importing starts a real one (`subprocess`). Other commands are started as they are.
"""

import atexit
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Protocol

from tests.fork_server import CODE, LENGTH, READY

ROOT = Path(__file__).parent.parent

CARAFE = (sys.executable, "-m", "carafe")

_WORKER = (
    "billiard.pool",
    "carafe.cli.serving",
    "carafe.engine.application",
    "carafe.engine.consumer",
    "carafe.engine.worker",
    "carafe.steward.hosted",
    "carafe.vitals",
    "celery.app.amqp",
    "celery.app.control",
    "celery.app.events",
    "celery.app.log",
    "celery.backends.base",
    "celery.events",
    "celery.fixups.django",
    "celery.worker.autoscale",
    "celery.worker.components",
    "celery.worker.consumer",
    "celery.worker.strategy",
    "kombu.pidbox",
    "psycopg",
    "sqlalchemy.dialects.postgresql.asyncpg",
    "sqlalchemy.ext.asyncio",
)
_OTHERS = (
    "alembic.command",
    "carafe.cli.commands",
    "carafe.cli.serving",
    "carafe.steward.hosted",
    "carafe.steward.process",
    "carafe.vitals",
    "carafe.web.application",
    "carafe.web.dashboard.beside",
    "carafe.web.server",
    "sqlalchemy.dialects.postgresql.asyncpg",
    "sqlalchemy.ext.asyncio",
    "uvicorn.lifespan.on",
    "uvloop",
)
"""What a process imports sooner or later, ours and others': none that the settings name. A module that is missing here costs
each process its import, nothing else; grpc must not be here, since it does not survive a fork."""


class Process(Protocol):
    """What tests use of a `subprocess.Popen`."""

    @property
    def pid(self) -> int: ...
    @property
    def returncode(self) -> int | None: ...
    def poll(self) -> int | None: ...
    def wait(self, timeout: float | None = None) -> int: ...
    def send_signal(self, sig: int, /) -> None: ...
    def kill(self) -> None: ...


class Forked:
    """A process that was forked; as `subprocess.Popen`."""

    def __init__(self, pid: int, told: int) -> None:
        self.pid, self._told = pid, told
        self.returncode: int | None = None
        self._lock = threading.Lock()

    def poll(self) -> int | None:
        return self._ask(0)

    def wait(self, timeout: float | None = None) -> int:
        code = self._ask(timeout)
        if code is None:
            assert timeout is not None
            raise subprocess.TimeoutExpired("carafe", timeout)
        return code

    def _ask(self, timeout: float | None) -> int | None:
        with self._lock:
            if self.returncode is None and select.select([self._told], [], [], timeout)[0]:
                found = os.read(self._told, CODE.size)
                # Nothing: the server that would know has ended, and has killed it.
                self.returncode = CODE.unpack(found)[0] if found else -signal.SIGKILL
                os.close(self._told)
            return self.returncode

    def send_signal(self, sig: int, /) -> None:
        if self.poll() is None:
            os.kill(self.pid, sig)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class ForkServer:
    """The other side of `tests.fork_server`, started at its first use."""

    def __init__(self, modules: Sequence[str]) -> None:
        self._modules = modules
        self._lock = threading.Lock()
        self._ready = False
        self._connection: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def fork(
        self, arguments: Sequence[str], *, folder: Path, environment: Mapping[str, str], standard: Sequence[int]
    ) -> Forked:
        """A new process, with these for its input, output and errors."""
        request = {"arguments": list(arguments), "folder": str(folder.absolute()), "environment": dict(environment)}
        body = json.dumps(request).encode()
        told, telling = os.pipe()
        try:
            with self._lock:
                connection = self._answering()
                socket.send_fds(connection, [LENGTH.pack(len(body))], [*standard, telling])
                connection.sendall(body)
                (pid,) = LENGTH.unpack(connection.recv(LENGTH.size, socket.MSG_WAITALL))
        finally:
            os.close(telling)
        return Forked(pid, told)

    def start(self) -> None:
        """Let it import what it imports."""
        with self._lock:
            self._started()

    def wait(self) -> None:
        """Until it has. The first `fork` would wait too."""
        with self._lock:
            self._answering()

    def _answering(self) -> socket.socket:
        connection = self._started()
        if not self._ready:
            assert connection.recv(len(READY)) == READY, "the server that forks ended at its start"
            self._ready = True
        return connection

    def _started(self) -> socket.socket:
        if self._connection is None:
            self._connection, other = socket.socketpair()
            with other:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "tests.fork_server", str(other.fileno()), *self._modules],
                    cwd=ROOT,
                    env=os.environ | {"PYTHONPATH": str(ROOT)},
                    pass_fds=[other.fileno()],
                )
            atexit.register(self._end)
        return self._connection

    def _end(self) -> None:
        assert self._connection is not None
        assert self._process is not None
        self._connection.close()
        self._process.wait()


_workers, _others, _dev = ForkServer(_WORKER), ForkServer(_OTHERS), ForkServer((*_WORKER, *_OTHERS, "carafe.dev"))


def prepare() -> None:
    """Start what forks workers and web processes, so that it need not be waited for within a running loop."""
    for server in (_workers, _others):
        server.start()
    for server in (_workers, _others):
        server.wait()


def start(
    command: Sequence[str],
    *,
    folder: Path,
    environment: Mapping[str, str],
    output: IO[bytes],
    errors: IO[bytes] | None = None,
) -> Process:
    """Starts a command in `folder`, with nothing to read; it writes to `output`, and its errors to `errors` or there too."""
    arguments = tuple(command)[len(CARAFE) :]
    if tuple(command) != (*CARAFE, *arguments) or asks_for_a_python_of_its_own(environment):
        return subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT if errors is None else errors,
        )
    server = {("serve", "--worker"): _workers, ("dev",): _dev}.get(arguments, _others)
    with open(os.devnull, "rb") as nothing:
        standard = (nothing.fileno(), output.fileno(), (errors or output).fileno())
        return server.fork(arguments, folder=folder, environment=environment, standard=standard)


def asks_for_a_python_of_its_own(environment: Mapping[str, str]) -> bool:
    """Whether there are variables that Python reads at its start alone (`PYTHONPROFILEIMPORTTIME`)."""
    own = {name for name in environment if name.startswith("PYTHON")} - {"PYTHONPATH", "PYTHONUNBUFFERED"}
    return any(environment[name] != os.environ.get(name) for name in own)


def run(command: Sequence[str], *, folder: Path, environment: Mapping[str, str], within: float) -> tuple[int, str, str]:
    """The exit code of a command, its output and its errors. Raises `subprocess.TimeoutExpired` after `within` seconds."""
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        process = start(command, folder=folder, environment=environment, output=output, errors=errors)
        try:
            code = process.wait(within)
        finally:
            process.kill()
        output.seek(0)
        errors.seek(0)
        return code, output.read().decode(), errors.read().decode()
