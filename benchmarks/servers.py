"""The servers that all systems share in a run: embedded Postgres (fsync and synchronous_commit on) and Valkey.

Valkey has no append-only file and no snapshots: the fastest it can be for those whose jobs live in it, and nothing of
theirs is durable. Each measurement starts on an empty Valkey and on a database copied from the system's template.
"""

import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import psycopg
import redis

from benchmarks.environments import ENVIRONMENTS
from benchmarks.size import SMALLEST
from carafe.dev.embedded import EmbeddedPostgres, EmbeddedServerError, EmbeddedValkey

_DATABASE = "bench"


class Servers:
    """Start both, stop both, and make them empty again. Use as a context manager."""

    def __init__(self, postgres: Path | None = None) -> None:
        """`postgres`: the folder of another PostgreSQL's programs, such as ``/usr/lib/postgresql/15/bin``."""
        self._binaries = postgres

    def __enter__(self) -> Self:
        ENVIRONMENTS.mkdir(exist_ok=True)
        _end_servers_left_behind()
        # Beside the environments, not in a temporary folder: that may be memory, where fsync is free. A smallest round
        # measures nothing.
        self._folder = Path(tempfile.mkdtemp(prefix="servers-", dir=None if SMALLEST else ENVIRONMENTS))
        self._folder.chmod(0o755)
        self._postgres = EmbeddedPostgres(self._folder / "postgres", durable=True, binaries=self._binaries)
        self._valkey = EmbeddedValkey(self._folder / "valkey", persist=False)
        try:
            with ThreadPoolExecutor() as pool:
                starts = (self._postgres.start, self._valkey.start)
                list(pool.map(lambda start: start(), starts))
            self._admin = psycopg.connect(self._postgres.url, autocommit=True)
            self._redis = redis.Redis.from_url(self._valkey.url)
            self._refuse_soft_settings()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._admin.close()
        self._redis.close()
        self._stop()

    def _stop(self) -> None:
        self._postgres.stop()
        self._valkey.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _refuse_soft_settings(self) -> None:
        for setting in ("fsync", "synchronous_commit", "full_page_writes"):
            if (value := self._one(self._admin, f"show {setting}")[0]) != "on":
                raise RuntimeError(f"Postgres runs with {setting} = {value}: its numbers would say nothing")

    @property
    def redis_url(self) -> str:
        return self._valkey.url

    def database_url(self, name: str = _DATABASE) -> str:
        return f"{self._postgres.url.rsplit('/', 1)[0]}/{quote(name)}"

    def empty(self, template: str | None) -> None:
        """An empty Valkey, and the database as the template has it (None: no tables)."""
        self._redis.flushall()
        self.drop(_DATABASE)
        self.create(_DATABASE, template)
        self.settle()

    def configure(self, **values: str) -> None:
        """Restart Postgres with these settings. Databases stay; its address may change."""
        for name, value in values.items():
            self._execute(self._admin, f"alter system set {name} = '{value}'")
        self._admin.close()
        self._postgres.stop()
        self._postgres.start()
        self._admin = psycopg.connect(self._postgres.url, autocommit=True)

    def create(self, name: str, template: str | None = None) -> None:
        # A copy of files is quicker than one through the log, and safe: `settle` follows.
        copied = f' template "{template}" strategy file_copy' if template else ""
        self._execute(self._admin, f'create database "{name}"{copied}')

    def drop(self, name: str) -> None:
        self._execute(self._admin, f'drop database if exists "{name}" with (force)')

    def settle(self) -> None:
        """What was written before a measurement is not paid for within it."""
        self._execute(self._admin, "checkpoint")

    def exists(self, name: str) -> bool:
        return bool(self._admin.execute("select from pg_database where datname = %s", [name]).fetchall())

    def analyze(self) -> None:
        """Statistics of all tables as they are now."""
        with self.connect() as connection:
            connection.execute("analyze")

    def wal(self) -> int:
        """Bytes that Postgres has written to its log so far."""
        return int(self._one(self._admin, "select pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')")[0])

    def redis_bytes(self) -> int:
        """Bytes that Redis uses."""
        return int(self._redis.info("memory")["used_memory"])

    def connect(self, name: str = _DATABASE) -> psycopg.Connection[Any]:
        return psycopg.connect(self.database_url(name), autocommit=True)

    def ends(self, query: str) -> tuple[int, float]:
        """How many jobs have ended by the database, and when the last did (seconds since the epoch)."""
        with self.connect() as connection:
            count, last = self._one(connection, query)
        return int(count), float(last or 0.0)

    @staticmethod
    def _execute(connection: psycopg.Connection[Any], statement: str) -> None:
        connection.execute(statement)

    @staticmethod
    def _one(connection: psycopg.Connection[Any], query: str) -> Any:
        return connection.execute(query).fetchone()


def _end_servers_left_behind() -> None:
    """A run that was killed outright could not stop its servers; the next one takes them over to end them."""
    for folder in ENVIRONMENTS.glob("servers-*"):
        try:
            for server in (
                EmbeddedPostgres(folder / "postgres", durable=True),
                EmbeddedValkey(folder / "valkey", persist=False),
            ):
                server.start()
                server.stop()
        except EmbeddedServerError as error:
            if not isinstance(error.__cause__, OSError):
                continue  # another run's, alive
            # Killed in the midst of removing it: nothing runs there.
        shutil.rmtree(folder, ignore_errors=True)
