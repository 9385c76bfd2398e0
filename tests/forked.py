"""Processes of `carafe` and `celery` that do not pay for their imports, a second or two of a processor each: they are forked
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

MODULES = ("carafe", "celery", "chaos.broken", "benchmarks.producer")
"""What is forked: ``python -m`` one of these."""

_IMPORTED = (
    "alembic.command",
    "billiard.pool",
    "carafe.cli.commands",
    "carafe.cli.serving",
    "carafe.dashboard.standalone",
    "carafe.dev.run",
    "carafe.engine.application",
    "carafe.engine.consumer",
    "carafe.engine.worker",
    "carafe.process.metrics",
    "carafe.steward.hosted",
    "carafe.steward.process",
    "carafe.web.application",
    "carafe.web.server",
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
    "uvicorn.lifespan.on",
    "uvloop",
)
"""What a process imports sooner or later, ours and others': none that the settings name. A module that is missing here costs
each process its import, nothing else; grpc must not be here, since it does not survive a fork."""

_SHARED = "TESTS_FORKED_BY"
"""The variable of the environment by which all processes of a run (`make test`) find the one server that forks."""


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
    """The other side of `tests.fork_server`, started at its first use: by this process, or by the run's first."""

    def __init__(self, modules: Sequence[str]) -> None:
        self._modules = modules
        self._lock = threading.Lock()
        self._path: str | None = None

    @property
    def path(self) -> str:
        """The path of the socket by which processes ask it."""
        with self._lock:
            if self._path is None:
                self._path = os.environ.get(_SHARED) or self._started()
            return self._path

    def fork(
        self,
        module: str,
        arguments: Sequence[str],
        *,
        folder: Path,
        environment: Mapping[str, str],
        standard: Sequence[int],
        session: bool = False,
    ) -> Forked:
        """A new process, with these for its input, output and errors."""
        request = {
            "module": module,
            "arguments": list(arguments),
            "folder": str(folder.absolute()),
            "environment": dict(environment),
            "session": session,
        }
        body = json.dumps(request).encode()
        told, telling = os.pipe()
        try:
            with self._asked() as server:
                socket.send_fds(server, [LENGTH.pack(len(body))], [*standard, telling])
                server.sendall(body)
                (pid,) = LENGTH.unpack(server.recv(LENGTH.size, socket.MSG_WAITALL))
        finally:
            os.close(telling)
        return Forked(pid, told)

    def wait(self) -> None:
        """Until it has imported what it imports. The first `fork` would wait too."""
        with self._asked() as server:
            server.shutdown(socket.SHUT_WR)
            assert server.recv(len(READY)) == READY, "the server that forks ended at its start: see its errors"

    def share(self) -> None:
        """Let it fork for the processes that this one starts, too. They end before this one does."""
        os.environ[_SHARED] = self.path

    def reach(self, path: str) -> None:
        """Use the server of another process, whose socket this is."""
        self._path = path

    def _asked(self) -> socket.socket:
        server = socket.socket(socket.AF_UNIX)
        server.connect(self.path)
        return server

    def _started(self) -> str:
        starter, other = socket.socketpair()
        folder = tempfile.TemporaryDirectory(prefix="fork-")
        path = os.path.join(folder.name, "asked")
        with other:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.fork_server", str(other.fileno()), path, *self._modules],
                cwd=ROOT,
                env=os.environ | {"PYTHONPATH": str(ROOT)},
                pass_fds=[other.fileno()],
            )

        def end() -> None:
            starter.close()
            process.wait()
            folder.cleanup()

        atexit.register(end)
        assert starter.recv(len(READY)) == READY, "the server that forks ended at its start: see its errors"
        return path


_server = ForkServer(_IMPORTED)


def reach(path: str) -> None:
    """Fork from the server of another process, whose socket this is."""
    _server.reach(path)


def path() -> str:
    """What `reach` takes in another process."""
    return _server.path


def prepare() -> None:
    """Let the server import what it imports, so that it need not be waited for within a running loop."""
    _server.wait()


def share() -> None:
    """Start the server now, for this process and those of the tests that it starts."""
    _server.share()


def start(
    command: Sequence[str],
    *,
    folder: Path,
    environment: Mapping[str, str],
    output: IO[bytes],
    errors: IO[bytes] | None = None,
    session: bool = False,
) -> Process:
    """Starts a command in `folder`, with nothing to read; it writes to `output`, and its errors to `errors` or there too.
    With `session` it leads a new one."""
    module, *arguments = command[2:] if len(command) > 2 else [""]
    if tuple(command[:2]) != CARAFE[:2] or module not in MODULES or asks_for_a_python_of_its_own(environment):
        return subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT if errors is None else errors,
            start_new_session=session,
        )
    with open(os.devnull, "rb") as nothing:
        standard = (nothing.fileno(), output.fileno(), (errors or output).fileno())
        return _server.fork(module, arguments, folder=folder, environment=environment, standard=standard, session=session)


def popen(
    command: Sequence[str],
    *,
    cwd: Path,
    env: Mapping[str, str],
    stdin: int,
    stdout: IO[bytes],
    stderr: int,
    start_new_session: bool,
) -> Process:
    """`start`, called as `subprocess.Popen` by those that know nothing of it."""
    assert (stdin, stderr) == (subprocess.DEVNULL, subprocess.STDOUT)
    return start(command, folder=cwd, environment=env, output=stdout, session=start_new_session)


def warm(module: str = "carafe") -> tuple[str, ...]:
    """The words of a shell that do what ``python -m module`` does: these, then its arguments. Not for what is to get a
    signal."""
    return (sys.executable, "-I", "-S", str(ROOT / "tests" / "warm.py"), _server.path, module)


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
