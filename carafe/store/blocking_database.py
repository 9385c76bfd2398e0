"""One process's access to Postgres for code without an event loop: a pool of blocking connections.

Guarantees: no thread and no event loop runs for it. A forked process opens connections of its own and never uses the
parent's. A script may end without closing it. A call that cannot use Postgres fails within seconds (`Unavailable`); while
Postgres does not answer, only one call every half second waits for it, and the others fail at once.
"""

import os
import threading
import time
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from carafe.errors import Unavailable
from carafe.postgres_away import details
from carafe.store.blocking_connection import BlockingConnection, close_copies, connect
from carafe.store.database import ANSWERED, AWAY, DISCONNECTED, Database, Refused
from carafe.telemetry.loggers import get_logger

log = get_logger("carafe.store.database")

CLOSED_FOR = 0.5
"""Seconds after a connection could not be made in which no other call tries it."""

IDLE = 300.0
"""Seconds after which a connection that nobody has used is closed instead of used again, unless another time is given."""


class _Pool:
    """The connections of one process. `all` has every open one, `idle` those that nobody uses, the last used one last."""

    def __init__(self, size: int) -> None:
        self.room = threading.BoundedSemaphore(size)
        self.idle: list[BlockingConnection] = []
        self.all: weakref.WeakSet[BlockingConnection] = weakref.WeakSet()
        self.generation = 0
        self.closed_until = 0.0
        self.fault: BaseException | None = None


class BlockingDatabase(Database):
    """Access to Postgres as this module describes. Threads may share it. Its coroutines never suspend, except those of
    sessions and hooks, which need `asynchronous`."""

    def __init__(self, like: Database, *, idle: float = IDLE) -> None:
        """Access to the Postgres of `like`, with its options; `like` itself is not used. Opens no connection yet. A
        connection that nobody has used for `idle` seconds is not used again; with 0 it is closed at once."""
        super().__init__(like.url, **like.made_with)
        self._idle = idle
        self._pools: dict[int, _Pool] = {}
        self._limits = threading.local()
        self._finalizer = weakref.finalize(self, _close_idle, self._pools)
        _databases.add(self)

    def asynchronous(self) -> Database:
        """Access to the same Postgres for an event loop, which needs sessions or runs hooks. Close it on that loop."""
        return Database(self.url, **{**self.made_with, "pool_size": 2})

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Any]:
        """A connection of the pool, as `Database.connection`."""
        pool = self._pool_here()
        self.require()
        if not pool.room.acquire(timeout=self._connect_timeout):
            raise Unavailable("all connections of this process to the database are busy")
        try:
            connection = self._taken(pool)
            generation = pool.generation
            connection.until = self._until
            try:
                yield connection
            except AWAY as error:
                if not isinstance(error, ANSWERED):
                    connection.terminate()
                    self._lost(error)
                raise
            finally:
                if self._idle > 0 and connection.usable() and generation == pool.generation and not self._closed:
                    connection.used_at = time.monotonic()
                    pool.idle.append(connection)
                else:
                    connection.terminate()
        finally:
            pool.room.release()

    def require(self) -> None:
        """Raises `Unavailable` if a connection could not be made a moment ago."""
        pool = self._pool_here()
        if pool.fault is not None and time.monotonic() < pool.closed_until:
            raise Unavailable(pool.fault) from pool.fault

    @property
    def away(self) -> bool:
        """Whether the last try to connect has failed."""
        return self._pool_here().fault is not None

    def within(self, seconds: float | None) -> Any:
        """Bounds the time that the block's statements and pauses take. Raises ``TimeoutError``."""
        return _within(self._limits, seconds)

    async def pause(self, seconds: float) -> None:
        """Block for some seconds. Raises ``TimeoutError`` at the end of a block of `within`."""
        left = None if self._until is None else self._until - time.monotonic()
        time.sleep(seconds if left is None else min(seconds, max(0.0, left)))  # noqa: ASYNC251  # no loop runs
        if left is not None and left <= seconds:
            raise TimeoutError

    async def close(self) -> None:
        """Close every connection. One that is in use is closed when it is given back."""
        self._closed = True
        self._finalizer()

    @property
    def _until(self) -> float | None:
        """The end of this thread's block of `within`, on the monotonic clock. None if there is none."""
        until: float | None = getattr(self._limits, "until", None)
        return until

    def _pool_here(self) -> _Pool:
        pid = os.getpid()
        pool = self._pools.get(pid)
        return pool if pool is not None else self._pools.setdefault(pid, _Pool(self._pool_size))

    def _taken(self, pool: _Pool) -> BlockingConnection:
        while pool.idle:
            try:
                connection = pool.idle.pop()
            except IndexError:  # another thread was faster
                break
            if time.monotonic() - connection.used_at < self._idle and connection.still_there():
                return connection
            connection.terminate()
        if pool.fault is not None:
            # This call looks whether Postgres is back; the others need not wait with it.
            pool.closed_until = time.monotonic() + self._connect_timeout + CLOSED_FOR
        try:
            connection = self._made()
        except DISCONNECTED as error:
            if isinstance(error, ValueError):
                raise
            if pool.fault is None:
                log.warning("Postgres cannot be used", error=details(error))
            pool.fault, pool.closed_until = error, time.monotonic() + CLOSED_FOR
            raise self._lost(error) from error
        pool.fault = None
        pool.all.add(connection)
        return connection

    def _made(self) -> BlockingConnection:
        options = self._options
        try:
            connection = connect(
                self.url,
                name=options["name"],
                timeout=options["command_timeout"],
                server_settings=options["server_settings"],
            )
        except asyncpg.PostgresError as error:
            if isinstance(error, DISCONNECTED):
                raise
            raise Refused(f"{type(error).__name__}: {error}") from error
        try:
            if self._set:
                connection.keep_set(self._set)
        except BaseException:
            connection.terminate()
            raise
        return connection

    def _lost(self, error: BaseException) -> Unavailable:
        """Record that a connection was lost. The idle ones lead to the same server, so they are closed too."""
        pool = self._pool_here()
        pool.generation += 1
        _close_idle(self._pools)
        return Unavailable(error)


@asynccontextmanager
async def _within(limits: threading.local, seconds: float | None) -> AsyncIterator[None]:
    outer: float | None = getattr(limits, "until", None)
    until = outer if seconds is None else time.monotonic() + seconds
    limits.until = until if outer is None or until is None else min(outer, until)
    try:
        yield
    except Unavailable as error:
        if isinstance(error.cause, TimeoutError) and limits.until is not None and time.monotonic() >= limits.until:
            raise TimeoutError from error
        raise
    finally:
        limits.until = outer


def _close_idle(pools: dict[int, _Pool]) -> None:
    """Close this process's connections that nobody uses. Python calls this at its end, in every process."""
    pool = pools.get(os.getpid())
    while pool is not None and pool.idle:
        try:
            pool.idle.pop().terminate()
        except IndexError:
            return


_databases: "weakref.WeakSet[BlockingDatabase]" = weakref.WeakSet()


def _forked() -> None:
    """In a forked process: close its copies of the parent's sockets. Otherwise Postgres would not notice the parent's
    death."""
    for database in list(_databases):
        for pool in database._pools.values():
            close_copies(list(pool.all))
            # What is forked from here has other files under these numbers.
            pool.all.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
