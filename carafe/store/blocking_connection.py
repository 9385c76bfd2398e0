"""A connection to Postgres for code without an event loop. It is made by psycopg, and has the methods and the errors of an
asyncpg connection.

Its methods are coroutine functions whose coroutines never suspend: they block until Postgres has answered. So everything
that is written for an asyncpg connection runs on it, driven by `carafe.client.driving.finished`.

Guarantees: a parameter gets the type that Postgres infers for it, as with asyncpg. An error is the one that asyncpg would
raise. A connection never waits longer than its timeout. Must never: be used in a process other than the one that made it.
"""

import itertools
import math
import os
import select
import struct
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Any, TypeVar, cast
from uuid import UUID

import asyncpg
import psycopg
from psycopg.adapt import Buffer, Dumper, Loader
from psycopg.pq import ConnStatus, Format, TransactionStatus
from psycopg.rows import dict_row

from carafe.postgres_url import WRITABLE, NotWritable, read, settings_of
from carafe.timestamps import from_micros, to_micros

T = TypeVar("T")

CANCELLING = 0.5
"""Seconds for sending the request to cancel a statement that takes too long, and as many again for its end. After that the
connection is closed."""

LOOK = 0.1
"""The maximum number of seconds between two checks of a statement's deadline."""

_TIMESTAMPTZ = 1184
"""The object id of Postgres's type ``timestamptz``."""


class BlockingConnection:
    """A connection as this module describes. Only one thread at a time may use it. `timeout` is how many seconds a statement
    may take (None: unbounded)."""

    def __init__(self, driver: "psycopg.Connection[Any]", timeout: float | None) -> None:
        self.driver: _Driver = driver  # type: ignore[assignment]  # `connect` makes no others
        self._timeout = timeout
        self._savepoints = itertools.count(1)
        self.used_at = time.monotonic()
        """When the connection was last given back to its pool, on the monotonic clock."""
        self.until: float | None = None
        """The time, on the monotonic clock, after which no statement may wait any more. None: there is no such time."""

    async def fetch(self, query: str, *values: Any, timeout: float | None = None) -> list[Mapping[str, Any]]:  # noqa: ASYNC109
        """Run a statement, and return all rows. `timeout` in seconds; None: that of the connection."""
        with self._within(timeout):
            cursor = psycopg.RawCursor(self.driver, row_factory=dict_row)
            cursor.execute(query, [sent(value) for value in values], binary=True)
            return [*cursor.fetchall()] if cursor.description is not None else []

    async def fetchrow(
        self,
        query: str,
        *values: Any,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> Mapping[str, Any] | None:
        """Run a statement, and return its first row, or None."""
        rows = await self.fetch(query, *values, timeout=timeout)
        return rows[0] if rows else None

    async def fetchval(self, query: str, *values: Any, timeout: float | None = None) -> Any:  # noqa: ASYNC109
        """Run a statement, and return the first column of its first row, or None."""
        row = await self.fetchrow(query, *values, timeout=timeout)
        return None if row is None else next(iter(row.values()))

    async def execute(self, query: str, *values: Any, timeout: float | None = None) -> None:  # noqa: ASYNC109
        """Run one statement with values, or several statements without."""
        with self._within(timeout):
            psycopg.RawCursor(self.driver).execute(query, [sent(value) for value in values] or None)

    def is_in_transaction(self) -> bool:
        """Whether a transaction is open."""
        return self.driver.pgconn.transaction_status in (TransactionStatus.INTRANS, TransactionStatus.INERROR)

    def transaction(self) -> "_Transaction":
        """A transaction, or a savepoint if a transaction is open. It starts with ``start`` or ``async with``."""
        return _Transaction(self, self._savepoints)

    def terminate(self) -> None:
        """Close the connection at once, without waiting for anything."""
        self.driver.pgconn.finish()

    def keep_set(self, settings: str) -> None:
        """Set these Postgres settings (given as SQL statements) on this connection. Does nothing if the connection leads to
        a transaction pooler, whose connection to the server another client uses next."""
        with self._within(None):
            cursor = psycopg.RawCursor(self.driver)
            row = cursor.execute("select pg_backend_pid()").fetchone()
            if row is not None and row[0] == self.driver.pgconn.backend_pid:
                cursor.execute(settings)

    def usable(self) -> bool:
        """Whether the connection can be used for other statements: it is open, and no transaction is."""
        return self.driver.pgconn.transaction_status == TransactionStatus.IDLE

    def still_there(self) -> bool:
        """Whether an idle connection has not ended meanwhile, as far as this machine knows. Does not ask the server."""
        if self.driver.pgconn.status != ConnStatus.OK:
            return False
        poll = select.poll()
        poll.register(self.driver.pgconn.socket, select.POLLIN)
        # A server that has nothing to answer hardly says more than that it ends the connection.
        return not poll.poll(0)

    @contextmanager
    def _within(self, timeout: float | None) -> Generator[None]:
        seconds = self._timeout if timeout is None else timeout
        if self.until is not None:
            left = max(0.0, self.until - time.monotonic())
            seconds = left if seconds is None else min(seconds, left)
        self.driver.begin(seconds)
        try:
            yield
        except psycopg.Error as error:
            if self.driver.overdue:
                raise TimeoutError from error
            raise as_asyncpg(error) from error


class _Transaction:
    """A transaction of a `BlockingConnection`, as asyncpg's."""

    def __init__(self, connection: BlockingConnection, numbers: "itertools.count[int]") -> None:
        self._connection = connection
        self._numbers = numbers
        self._savepoint: str | None = None

    async def start(self) -> None:
        """Begin the transaction, or make the savepoint."""
        if self._connection.is_in_transaction():
            self._savepoint = f"carafe_{next(self._numbers)}"
            await self._connection.execute(f"savepoint {self._savepoint}")
        else:
            await self._connection.execute("begin")

    async def commit(self) -> None:
        """Commit the transaction, or release the savepoint."""
        await self._connection.execute("commit" if self._savepoint is None else f"release savepoint {self._savepoint}")

    async def rollback(self) -> None:
        """Roll back what was done since `start`."""
        back = "" if self._savepoint is None else f" to {self._savepoint}"
        await self._connection.execute(f"rollback{back}")

    async def __aenter__(self) -> None:
        await self.start()

    async def __aexit__(self, kind: object, error: object, traceback: object) -> None:
        await (self.commit() if kind is None else self.rollback())


class _Driver(psycopg.Connection[Any]):
    """psycopg's connection, with a deadline for each statement."""

    _seconds: float | None = None
    overdue = False

    def begin(self, seconds: float | None) -> None:
        """Let the next statement take this many seconds (None: any time)."""
        self._seconds, self.overdue = seconds, False

    def wait(self, gen: Generator[Any, Any, T], *arguments: Any, **options: Any) -> T:
        """Run psycopg's generator `gen` to its end, or to the deadline."""
        if self._seconds is None:
            return super().wait(gen, *arguments, **options)
        return super().wait(self._limited(gen, self._seconds), interval=max(0.001, min(LOOK, self._seconds)))

    def _limited(self, gen: Generator[Any, Any, T], seconds: float) -> Generator[Any, Any, T]:
        deadline = time.monotonic() + seconds
        try:
            wanted = next(gen)
            while True:
                ready = yield wanted
                if not ready and time.monotonic() > deadline:
                    if self.overdue:
                        self.pgconn.finish()
                        raise psycopg.OperationalError("the statement did not end after it was cancelled")
                    self.overdue = True
                    with suppress(psycopg.Error):
                        self.cancel_safe(timeout=CANCELLING)
                    deadline = time.monotonic() + CANCELLING
                wanted = gen.send(ready)
        except StopIteration as stop:
            self.overdue = False  # it has ended in spite of all
            result: T = stop.value
            return result

    def __del__(self, *_: Any) -> None:
        """Does nothing: a script may end without closing its connections."""


def connect(
    url: str, *, name: str, timeout: float | None = None, server_settings: Mapping[str, str] | None = None
) -> BlockingConnection:
    """A connection to that host in `url` which accepts writes. What `carafe.postgres_url.connect` is for asyncpg, this is
    for code without an event loop; the hosts are tried one after the other.

    ``pg_stat_activity`` shows `name`. `timeout` is how many seconds a statement may take. Raises `NotWritable` when a host
    answers but none accepts writes, `UrlFault` for a bad URL, and otherwise the errors that asyncpg would raise.
    """
    found = read(url)
    given = {**settings_of(found, name), **(server_settings or {})}
    application_name, own = given.pop("application_name"), given.pop("options", "")
    # libpq sends settings in one text, in which a blank ends a setting.
    options = " ".join([f"-c {setting}={_escaped(value)}" for setting, value in given.items()] + [own] * bool(own))
    read_only, fault = False, None
    for dsn in found.dsns:
        try:
            driver = _Driver.connect(
                dsn,
                autocommit=True,
                application_name=application_name,
                options=options,
                connect_timeout=max(2, math.ceil(found.connect_timeout)),
                client_encoding="utf8",
            )
        except psycopg.Error as error:
            fault = fault or as_asyncpg(error)
            continue
        _adapt(driver)
        connection = BlockingConnection(driver, timeout)
        driver.begin(found.connect_timeout)
        try:
            if _may_write(connection):
                return connection
            read_only = True
        except psycopg.Error as error:
            fault = fault or as_asyncpg(error)
        connection.terminate()
    if read_only:
        raise NotWritable
    assert fault is not None
    raise fault


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace(" ", "\\ ")


def _may_write(connection: BlockingConnection) -> bool:
    """Whether the server accepts writes, by what it says when a connection begins, or else by a query."""
    told = [
        connection.driver.pgconn.parameter_status(name) for name in (b"in_hot_standby", b"default_transaction_read_only")
    ]
    if None not in told:
        return told == [b"off", b"off"]
    cursor = psycopg.RawCursor(connection.driver)
    row = cursor.execute(WRITABLE, ["false"]).fetchone()
    return bool(row and row[0])


# Values on their way to Postgres and back.


def sent(value: Any) -> Any:
    """What psycopg is given for a parameter. A text has no type of its own, so Postgres infers the parameter's type from the
    statement, as it does for asyncpg.

    Raises ``TypeError`` for a type that no statement of Carafe's has.
    """
    if value is None or isinstance(value, str | datetime):
        return value
    if isinstance(value, list | tuple):
        return "{" + ",".join(["NULL" if item is None else _quoted(_text(item)) for item in value]) + "}"
    return _text(value)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return str(value)
    if isinstance(value, int | float | UUID):
        return repr(value) if isinstance(value, float) else str(value)
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"a value of type {type(value).__name__} cannot be sent to Postgres")


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


class _Moment(Dumper):
    """Sends a time as Postgres stores it, also one for which Python has no datetime (`carafe.timestamps`)."""

    format = Format.BINARY
    oid = _TIMESTAMPTZ

    def dump(self, obj: datetime) -> bytes:
        return struct.pack("!q", to_micros(obj if obj.tzinfo is not None else obj.astimezone(UTC)))


class _StoredMoment(Loader):
    """Reads any time that Postgres stores, in UTC."""

    format = Format.BINARY

    def load(self, data: Buffer) -> datetime:
        return from_micros(int.from_bytes(data, "big", signed=True))


class _Json(Loader):
    """Reads JSON as its text, as asyncpg does."""

    format = Format.BINARY

    def load(self, data: Buffer) -> str:
        return bytes(data).decode()


class _Jsonb(_Json):
    """Reads JSON of the type ``jsonb``, whose first byte is the number of its format."""

    def load(self, data: Buffer) -> str:
        return super().load(bytes(data)[1:])


def _adapt(driver: "psycopg.Connection[Any]") -> None:
    driver.adapters.register_dumper(datetime, _Moment)
    driver.adapters.register_loader("timestamptz", _StoredMoment)
    driver.adapters.register_loader("json", _Json)
    driver.adapters.register_loader("jsonb", _Jsonb)


# Errors.

_REFUSALS: Sequence[tuple[str, str]] = (
    ("password authentication failed", "28P01"),
    ("no password supplied", "28P01"),
    ("pg_hba.conf", "28000"),
    ('role "', "28000"),
    ('database "', "3D000"),
    ("too many clients", "53300"),
    ("remaining connection slots", "53300"),
    ("starting up", "57P03"),
    ("shutting down", "57P03"),
    ("recovery mode", "57P03"),
    ("not accepting connections", "57P03"),
)
"""Texts with which Postgres refuses a connection, and the SQLSTATEs that it sends with them. libpq only passes on the
texts."""


def as_asyncpg(error: psycopg.Error) -> Exception:
    """The error that asyncpg would raise where psycopg raises `error`."""
    text = str(error).strip()
    if error.sqlstate is not None:
        return _of_server(error.sqlstate, error.diag.message_primary or text, error.diag.constraint_name)
    if isinstance(error, psycopg.errors.ConnectionTimeout):
        return TimeoutError(text)
    if isinstance(error, psycopg.OperationalError):
        if "FATAL" in text:
            for words, sqlstate in _REFUSALS:
                if words in text:
                    return _of_server(sqlstate, text, None)
        return ConnectionError(text)
    if isinstance(error, psycopg.InterfaceError):
        return cast(Exception, asyncpg.InterfaceError(text))
    if isinstance(error, psycopg.DataError):
        return ValueError(text)
    return error


def _of_server(sqlstate: str, message: str, constraint: str | None) -> Exception:
    made: Any = asyncpg.PostgresError
    return cast(Exception, made.new({"C": sqlstate, "M": message, "n": constraint}))


def close_copies(connections: Sequence[BlockingConnection]) -> None:
    """In a forked process: close this process's copies of the parent's sockets. The parent's connections are not affected,
    since nothing is sent."""
    for connection in connections:
        with suppress(psycopg.Error, OSError):
            os.close(connection.driver.pgconn.socket)
