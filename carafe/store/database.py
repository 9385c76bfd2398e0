"""Connections to Postgres: an asyncpg pool for Carafe's own statements, a SQLAlchemy engine for sessions and hooks.

Guarantees: a call that cannot use Postgres fails within seconds (`Unavailable`). A server that answers but does not accept
writes counts as away, like one that does not answer. Must never: commit on a caller's session.
"""

import asyncio
import random
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, suppress
from contextvars import Context
from secrets import token_hex
from typing import TYPE_CHECKING, Any, TypeVar, cast

import asyncpg

from carafe.errors import (
    AnotherLoop,
    Busy,
    CarafeError,
    NotMigrated,
    OutcomeUnknown,
    StatementFailed,
    TransactionEnded,
    Unavailable,
)
from carafe.locks import advisory_holders, watched
from carafe.postgres_away import chain, details
from carafe.postgres_url import NotWritable, connect, read
from carafe.postgres_url import plain_dsn as plain_dsn
from carafe.store.revisions import LIBRARY, MigrationFailed, Revisions
from carafe.telemetry.loggers import get_logger
from carafe.timestamps import read_any

log = get_logger("carafe.store.database")

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy
    from sqlalchemy.engine import ExceptionContext
    from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker

Record = asyncpg.Record
Executor = "asyncpg.Connection[Record] | PoolConnectionProxy[Record]"

T = TypeVar("T")

SAID_NO: tuple[type[BaseException], ...] = (
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.PostgresSystemError,
    NotWritable,
)
"""Errors (with their SQLSTATEs) of a server that answers but cannot work now: it was demoted (25006), is full, short of
memory or connections (53), or its disk fails (58). The statement was not executed."""

DISCONNECTED: tuple[type[BaseException], ...] = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.DatabaseDroppedError,
    asyncpg.IdleSessionTimeoutError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    *SAID_NO,
)
"""asyncpg's errors when Postgres cannot be used: it is down, shutting down, full, silent, or read-only. After such an error
the connection must not be used again."""

PASSING: tuple[type[BaseException], ...] = (
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
    asyncpg.QueryCanceledError,
    asyncpg.LockNotAvailableError,
)
"""Errors after which the same statement may succeed: another transaction was in the way, or the statement was too slow. The
connection can still be used, and nothing was done."""

CONFLICTS = (asyncpg.DeadlockDetectedError, asyncpg.SerializationError)
"""Errors with which Postgres asks that the whole transaction be tried again."""

CONFLICT_TRIES = 5
"""How many times a transaction is tried that conflicts with others."""

OLDER_SCHEMA: tuple[type[Exception], ...] = (
    asyncpg.UndefinedTableError,
    asyncpg.InvalidSchemaNameError,
    asyncpg.UndefinedColumnError,
    asyncpg.UndefinedFunctionError,
    asyncpg.InvalidColumnReferenceError,  # no unique index for an ``on conflict``
)
"""Errors of a statement of Carafe's in a database that `carafe migrate` has not upgraded to this release."""

_OLDER_SCHEMA_STATES = frozenset(vars(kind)["sqlstate"] for kind in OLDER_SCHEMA)

BY_INDEX = "set {scope} enable_seqscan = off; set {scope} enable_bitmapscan = off"
AS_USUAL = "set local enable_seqscan to default; set local enable_bitmapscan to default"
"""Settings for planning Carafe's own statements (`BY_INDEX`), and back to the usual ones (`AS_USUAL`). `BY_INDEX` makes
Postgres find live jobs by id or along an index, and never read the whole table. Without it, a plan that was made while the
table was small would read the whole table, and a connection keeps its plans. docs/plans.md says why the form of a statement
is not enough."""


AWAY: tuple[type[BaseException], ...] = (Unavailable, *DISCONNECTED)
"""All errors that say that Postgres is away: the driver's (`DISCONNECTED`), and the one that `Database` raises."""

ANSWERED: tuple[type[BaseException], ...] = (ValueError, Busy, NotMigrated)
"""The errors among `AWAY` after which a connection can still be used. ``ValueError`` is asyncpg's word for a value that it
cannot encode."""


def lost(error: BaseException) -> bool:
    """Whether this SQLAlchemy error means that Postgres cannot be reached, or that the connection was lost.

    If a connection is lost while it is being made, SQLAlchemy does not mark it as invalidated, so the driver's error
    decides. A session that is used after the loss of its connection raises PendingRollbackError with the code 8s2b; after a
    failed flush, the error has a different code.
    """
    from sqlalchemy.exc import DBAPIError, PendingRollbackError
    from sqlalchemy.exc import TimeoutError as PoolTimeout

    if isinstance(error, DBAPIError):
        return error.connection_invalidated or _ended_by(error.orig) is not None
    return isinstance(error, PoolTimeout) or (isinstance(error, PendingRollbackError) and error.code == "8s2b")


def _ended_by(error: BaseException | None) -> BaseException | None:
    """Returns `error`, or the error that it wraps, if that is an error of asyncpg which means that the connection must not
    be used again. Otherwise returns None."""
    for found in (error, getattr(error, "__cause__", None)):
        # A ValueError is asyncpg's word for a value that it cannot encode: nothing is wrong with the connection.
        if isinstance(found, DISCONNECTED) and not isinstance(found, ValueError):
            return found
    return None


def postgres_error(error: BaseException | None) -> asyncpg.PostgresError | None:
    """Returns `error` if Postgres raised it, or the error of Postgres that it wraps (SQLAlchemy wraps such errors). Returns
    None if there is neither."""
    while error is not None:
        if isinstance(error, asyncpg.PostgresError):
            return error
        error = getattr(error, "orig", None) or error.__cause__
    return None


def conflict(error: BaseException) -> BaseException | None:
    """Returns the error of Postgres in `error` if it asks that the transaction be tried again. Otherwise returns None."""
    found = postgres_error(error)
    return found if isinstance(found, CONFLICTS) else None


def meaning(error: BaseException, *, commits: bool = False) -> Unavailable | None:
    """The library's error for an error that a session has raised, in a statement or, with `commits`, in its commit. Returns
    None if the fault is in the statement itself and Postgres can be used."""
    from sqlalchemy.exc import SQLAlchemyError

    cause: BaseException | None = error
    if isinstance(error, SQLAlchemyError):
        cause = _ended_by(getattr(error, "orig", None)) or (error if lost(error) else None)
    elif not isinstance(error, DISCONNECTED) or isinstance(error, ValueError):
        cause = None
    if cause is not None:
        return OutcomeUnknown(cause) if commits and not isinstance(cause, SAID_NO) else Unavailable(cause)
    found = postgres_error(error)
    return Busy(found) if isinstance(found, PASSING) else None


@contextmanager
def told(*, commits: bool = False, action: bool = True) -> Iterator[None]:
    """Translates Postgres's errors in this block into the library's: `Unavailable`, `Busy` and `NotMigrated`. With
    `commits`, the block is a commit, in which a lost connection becomes `OutcomeUnknown` (`action`: whether the change is
    anything but an enqueue). A conflict is not translated, so that `retried` can try again."""
    try:
        yield
    except DISCONNECTED as error:
        if isinstance(error, ValueError):
            raise  # asyncpg's word for a value that it cannot encode
        if commits and not isinstance(error, SAID_NO):
            raise OutcomeUnknown(error, action=action) from error
        raise Unavailable(error) from error
    except CONFLICTS:
        raise
    except PASSING as error:
        raise Busy(error) from error
    except OLDER_SCHEMA as error:
        raise NotMigrated(error) from error


@contextmanager
def migrated() -> Iterator[None]:
    """Raises `NotMigrated` if a statement of Carafe's in this block does not find its tables. The statement runs on a
    caller's own connection, of whatever driver, so all other errors are raised unchanged."""
    try:
        yield
    except Exception as error:
        states = {getattr(found, "sqlstate", None) or getattr(found, "pgcode", None) for found in chain(error)}
        # A session flushes the application's objects first; SQLAlchemy's errors say which statement has failed.
        ours = "carafe." in (getattr(error, "statement", None) or "carafe.")
        if ours and states & _OLDER_SCHEMA_STATES:
            raise NotMigrated(error) from error
        raise


async def retried(work: Callable[[], Awaitable[T]], pause: Callable[[float], Awaitable[None]]) -> T:
    """Runs `work`, which is a whole transaction, and runs it again if it conflicts with another transaction. Returns its
    result. `pause` waits for some seconds between two tries. Raises `Busy` after `CONFLICT_TRIES` conflicts."""
    for tries in range(1, CONFLICT_TRIES + 1):
        try:
            return await work()
        except CONFLICTS as error:
            if tries == CONFLICT_TRIES:
                raise Busy(error) from error
            await pause(random.uniform(0.005, 0.02) * 2**tries)
    raise AssertionError("not reached")


@asynccontextmanager
async def committed(connection: Any, *, action: bool = True) -> AsyncIterator[None]:
    """A transaction on an asyncpg connection that is committed after the block. Raises `Unavailable` if the connection was
    lost before the commit (nothing was done), and `OutcomeUnknown` if it was lost during the commit."""
    transaction = connection.transaction()
    with told():
        await transaction.start()
        try:
            yield
        except BaseException as error:
            if not isinstance(error, AWAY) or isinstance(error, ANSWERED):
                await transaction.rollback()
            raise
    with told(commits=True, action=action):
        await transaction.commit()


_generations: Counter[str] = Counter()
"""For each URL: how many times this process has replaced all its connections to that server."""


class Refused(ConnectionError):
    """Postgres answers but refuses our connection: the user, the password, the database name or a parameter is wrong."""


class Database:
    """One process's access to Postgres. Open it inside the event loop that uses it."""

    _setup: Any = None
    """A coroutine function that is called with each connection before the pool gives it to a caller, or None."""

    _connection_class: type[Any] = asyncpg.Connection
    """The class of the pool's connections. It is `_Set` if Carafe sets Postgres settings of its own on them."""

    def __init__(
        self,
        url: str,
        *,
        pool_size: int = 10,
        name: str = "carafe",
        command_timeout: float | None = 30.0,
        server_settings: Mapping[str, str] | None = None,
        read_only: bool = False,
        any_timestamp: bool = True,
        by_index: bool = False,
        lock_timeout: float | None = None,
    ) -> None:
        """Opens no connection yet. Raises `UrlFault` for a bad URL.

        - `pool_size`: the maximum number of connections for Carafe's own statements, and again as many for sessions.
        - `name`: shown by ``pg_stat_activity``.
        - `command_timeout`: seconds that a statement of the pool may take (None: unbounded).
        - `server_settings`: settings of Postgres for each connection.
        - `read_only`: transactions cannot write, and a server that does not accept writes may be used.
        - `any_timestamp`: whether timestamps are read for which Python has no datetime (`carafe.timestamps`); false where
          each microsecond counts.
        - `by_index`: whether statements are planned on the pool's connections as `BY_INDEX` says; in sessions they never
          are.
        - `lock_timeout`: seconds that a statement of the pool waits for a lock. Keep it below `command_timeout`, so that
          Postgres itself reports that a lock was in the way and that nothing was done.
        """
        self.url = url
        self.made_with: Mapping[str, Any] = {
            "pool_size": pool_size,
            "name": name,
            "command_timeout": command_timeout,
            "server_settings": server_settings,
            "read_only": read_only,
            "any_timestamp": any_timestamp,
            "by_index": by_index,
            "lock_timeout": lock_timeout,
        }
        """The options of this object, for another that is to be like it."""
        self.read_only = read_only
        self._connect_timeout = read(url).connect_timeout
        self._pool_size = pool_size
        self._any_timestamp = any_timestamp
        self._set = "; ".join(
            [BY_INDEX.format(scope="session")] * by_index
            + [f"set session lock_timeout = {int((lock_timeout or 0) * 1000)}"] * (lock_timeout is not None)
        )
        settings = {**(server_settings or {}), **({"default_transaction_read_only": "on"} if read_only else {})}
        self._options: dict[str, Any] = {
            "name": name,
            "command_timeout": command_timeout,
            "server_settings": settings,
            "writable": not read_only,
        }
        self._pool_generation = self._generation
        self._pool: asyncpg.Pool[Record] | None = None
        self._opening = asyncio.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._away: BaseException | None = None
        self._probe: asyncio.Task[None] | None = None
        self._in_use: set[Any] = set()
        self._hooked: dict[Any, HookedTransaction] = {}
        self._closed = False
        self._engine: AsyncEngine | None = None

    async def pool(self) -> "asyncpg.Pool[Record]":
        """The pool of connections, opened at first use. Raises `Unavailable` if it cannot be opened, and at once while
        Postgres is known to be away."""
        self.require()
        self._at_home()
        if self._pool is not None:
            return self._pool
        async with self._opening:
            if self._pool is None:
                pool = asyncpg.create_pool(
                    min_size=0,
                    max_size=self._pool_size,
                    setup=self._setup,
                    max_inactive_connection_lifetime=300,
                    connect=self._connect,
                    connection_class=_Set if self._set else self._connection_class,
                    init=self._prepare,
                )
                try:
                    await pool
                except DISCONNECTED as error:
                    raise self._lost(error) from error
                self._pool = pool
        return self._pool

    async def _connect(self, *_: Any, connection_class: Any = asyncpg.Connection, **__: Any) -> "asyncpg.Connection[Record]":
        """A new connection to the server. Raises `Refused` when the server refuses us, for instance because of a wrong
        password or parameter: such a server cannot be used either."""
        try:
            return await connect(self.url, **self._options, connection_class=connection_class)
        except asyncpg.PostgresError as error:
            if isinstance(error, DISCONNECTED):
                raise
            raise Refused(f"{type(error).__name__}: {error}") from error

    async def _connect_for_sessions(self) -> "asyncpg.Connection[Record]":
        connection = await self._connect(connection_class=Lent)
        if self._any_timestamp:
            # Carafe's own statements run on these connections too, where a kind has hooks.
            try:
                await read_any(connection)
            except BaseException:
                connection.terminate()
                raise
        return connection

    async def _prepare(self, connection: "asyncpg.Connection[Record]") -> None:
        if self._any_timestamp:
            await read_any(connection)
        if self._set:
            await _keep_set(connection, self._set)
        _as_made(connection)

    @asynccontextmanager
    async def connection(self) -> "AsyncIterator[PoolConnectionProxy[Record]]":
        """A connection of the pool. Raises `Unavailable` when none can be had. Errors inside the block are raised unchanged.

        While Postgres is known to be away, `Unavailable` is raised at once, until a probe reaches the server again.
        """
        pool = await self.pool()
        if self._pool_generation != self._generation:
            self._pool_generation = self._generation
            await pool.expire_connections()
        try:
            connection = await pool.acquire(timeout=self._connect_timeout)
        except DISCONNECTED as error:
            if isinstance(error, ValueError):
                raise  # a parameter of the URL, or of libpq's environment, that the driver does not take
            if len(self._in_use) >= self._pool_size:
                raise Unavailable("all connections of this process to the database are busy") from error
            raise self._lost(error) from error
        self._in_use.add(connection)
        try:
            yield connection
        except AWAY as error:
            if isinstance(error, ANSWERED):
                raise
            # This connection must not be used again, and to reset it for the pool could take forever.
            _terminate(connection)
            self._lost(error)
            raise
        finally:
            self._in_use.discard(connection)
            try:
                await pool.release(connection, timeout=2)
            except DISCONNECTED:
                pass  # lost after its work was done: asyncpg has closed it, and the caller's result is valid

    def _at_home(self) -> None:
        """Raises `AnotherLoop` on any event loop other than the one that first used this object. A connection only works on
        the loop on which it was made, but a pool would give it to code on any loop."""
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = loop
        elif loop is not self._loop:
            raise AnotherLoop

    def within(self, seconds: float | None) -> AbstractAsyncContextManager[object]:
        """Bounds the time that the block takes. Raises ``TimeoutError`` after this many seconds (None: unbounded)."""
        return asyncio.timeout(seconds)

    async def pause(self, seconds: float) -> None:
        """Wait for some seconds."""
        await asyncio.sleep(seconds)

    def require(self) -> None:
        """Raises `Unavailable` at once while Postgres is known to be away; otherwise does nothing."""
        if self._away is not None:
            raise Unavailable(self._away) from self._away

    @property
    def away(self) -> bool:
        """Whether Postgres is known to be away at this moment."""
        return self._away is not None

    def mark_suspect(self, error: BaseException) -> None:
        """Record that another part of the process has met `error` because Postgres does not answer, and start to probe the
        server. Call this on the pool's own event loop."""
        self._lost(error)

    def _lost(self, error: BaseException) -> Unavailable:
        """Record that a connection has failed, and start to probe whether Postgres is away. Returns the error to raise."""
        if isinstance(error, SAID_NO) or isinstance(error.__cause__, SAID_NO):
            # The other connections lead to the same server, and new ones may lead to another.
            self._renew()
        if not self._closed and (self._probe is None or self._probe.done()):
            # In an empty context, not that of a handler or hook: the probe is for everybody, and no handler may end it.
            self._probe = asyncio.create_task(self._look_for_it(), name="look for postgres", context=Context())
        return Unavailable(error)

    async def _look_for_it(self) -> None:
        """Probe Postgres: try a new connection every half second until one works.

        If the first one works, Postgres can be used, and only a single connection had failed (a slow statement, a terminated
        backend). Otherwise Postgres counts as away: from the first failed probe on, every call fails at once until a probe
        works.
        """
        while not self._closed:
            try:
                async with asyncio.timeout(max(2.0, self._connect_timeout)):
                    probe = await self._connect()
                    try:
                        await probe.fetchval("select 1")
                        await probe.close()
                    finally:
                        probe.terminate()  # closes a connection that has stopped answering; after a close it does nothing
                break
            except Exception as error:  # any error: if this task ended, Postgres would count as away forever
                if self._away is None:
                    log.warning("Postgres cannot be used; probing it until it can", error=details(error))
                self._away = error
                await asyncio.sleep(0.5)
        if self._away is not None and not self._closed:
            log.info("Postgres can be used again")
            # Connections from before the outage may never answer, or only after the network's own long timeouts.
            for connection in list(self._in_use):
                _terminate(connection)
            self._renew()
            self._away = None

    def _renew(self) -> None:
        """Make sure that every connection that is open now is closed: when it is released, or before it is used again. This
        applies to all pools of this process with the same URL. It is needed because idle connections do not notice that they
        were lost."""
        _generations[self.url] += 1

    @property
    def _generation(self) -> int:
        return _generations[self.url]

    @property
    def engine(self) -> "AsyncEngine":
        """The SQLAlchemy engine (asyncpg driver) for sessions. It is made at first use, since SQLAlchemy is slow to
        import."""
        if self._engine is None:
            from sqlalchemy import event
            from sqlalchemy.ext.asyncio import create_async_engine

            self._engine = create_async_engine(
                "postgresql+asyncpg://",
                async_creator=self._connect_for_sessions,
                pool_size=self._pool_size,
                max_overflow=0,
                pool_timeout=2 * self._connect_timeout,
                pool_pre_ping=False,
            )
            event.listen(self._engine.sync_engine, "handle_error", self._session_failed)
            event.listen(self._engine.sync_engine, "before_cursor_execute", self._statement_comes)
            event.listen(self._engine.sync_engine, "connect", self._session_connected)
            event.listen(self._engine.sync_engine, "checkout", self._session_taken)
            pool: Any = self._engine.sync_engine.pool
            event.listen(pool, "reset", _session_given_back)
            connect_by_pool = pool.connect

            def connect_at_home() -> Any:
                self._at_home()  # before a connection is touched, in whatever thread this is
                return connect_by_pool()

            pool.connect = connect_at_home
        return self._engine

    def _statement_comes(self, connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        """Called before each statement of a session. Raises `TransactionEnded` if the statement would end a transaction that
        Carafe only lends to the application's code."""
        if ENDS.match(statement) is not None and connection.connection.driver_connection in self._hooked:
            raise TransactionEnded

    def _session_failed(self, context: "ExceptionContext") -> None:
        """Called when a statement of a session has failed. If the connection is lost, closes it. SQLAlchemy itself does not
        treat a connection as lost when a statement gets no answer: it would wait again to roll back, and then reuse the
        connection."""
        error = _ended_by(context.original_exception)
        connection: Any = None
        if context.connection is not None and not context.connection.invalidated:
            connection = context.connection.connection.driver_connection
        if (transaction := self._hooked.get(connection)) is not None:
            transaction.met(context.original_exception, error)
        if error is None:
            return
        if self._is_away_from_home():
            # A plain handler's thread. SQLAlchemy would close the connection here, but it belongs to the loop's thread.
            context.is_disconnect = False
            assert self._loop is not None
            self._loop.call_soon_threadsafe(self._cut, connection, error)
            return
        context.is_disconnect = True
        self._cut(connection, error)

    def _cut(self, connection: Any, error: BaseException) -> None:
        if connection is not None:
            connection.terminate()
        self._lost(error)

    def _is_away_from_home(self) -> bool:
        """Whether this code runs in another thread than the event loop of this object."""
        try:
            return asyncio.get_running_loop() is not self._loop
        except RuntimeError:
            return True

    def _session_connected(self, connection: Any, record: Any) -> None:
        from carafe.store.lent_sessions import LentDriver

        connection.__class__ = LentDriver
        record.info["generation"] = self._generation
        _as_made(connection.driver_connection)

    def _session_taken(self, connection: Any, record: Any, proxy: Any) -> None:
        from sqlalchemy.exc import DisconnectionError

        driver = cast(Any, connection).driver_connection
        # SQLAlchemy itself does not check whether a connection that was idle has ended meanwhile.
        if record.info.get("generation") != self._generation or driver.is_closed():
            driver.terminate()
            # SQLAlchemy then makes another connection.
            raise DisconnectionError("this connection has ended, or its server was away meanwhile")

    def sessions(self) -> "async_sessionmaker[AsyncSession]":
        """A factory of sessions that keep their objects usable after commit."""
        from sqlalchemy.ext.asyncio import async_sessionmaker

        return async_sessionmaker(self.engine, expire_on_commit=False)

    @asynccontextmanager
    async def hooked(
        self, *, statement_timeout: float = 5.0, lock_timeout: float = 2.0, idle_timeout: float = 10.0
    ) -> "AsyncIterator[HookedTransaction]":
        """A transaction that runs Carafe's statements and the application's hooks on one connection (docs/design rule 4).

        It is committed at the end of the block, and rolled back on any error. Timeouts are in seconds (0: none). After
        `idle_timeout` without a statement, Postgres itself ends the transaction, so that a client that has vanished does not
        lock rows forever. Raises `Unavailable`, `OutcomeUnknown` if the connection is lost during the commit, and asyncpg's
        own error for a conflict. An error that the application's code raises in a block of `HookedTransaction.lent` is
        raised unchanged, if Postgres is not its cause.
        """
        from sqlalchemy.exc import SQLAlchemyError

        from carafe.store.lent_sessions import lent, lent_session

        self.require()
        done = False
        transaction: HookedTransaction | None = None
        raised: BaseException | None = None
        try:
            async with lent_session(self.engine) as session, session.begin():
                connection = await session.connection()
                raw = await connection.get_raw_connection()
                transaction = HookedTransaction(session, cast(Any, raw.driver_connection))
                self._in_use.add(transaction.connection)
                self._hooked[transaction.connection] = transaction
                try:
                    await self.limit(
                        transaction,
                        statement_timeout=statement_timeout,
                        lock_timeout=lock_timeout,
                        idle_timeout=idle_timeout,
                    )
                    with lent(session, cast(Any, connection.sync_connection), raw.driver_connection):
                        yield transaction
                    done = True
                except BaseException as error:
                    raised = error
                    if isinstance(error, DISCONNECTED) and not (isinstance(error, ValueError) or transaction.its_own(error)):
                        transaction.connection.terminate()  # a rollback over it could take forever
                    raise
                finally:
                    self._in_use.discard(transaction.connection)
                    del self._hooked[transaction.connection]
        except SQLAlchemyError as error:
            if transaction is not None and transaction.its_own(error):
                raise
            if raised is not None and transaction is not None and transaction.spoilt:
                raise raised from error
            if lost(error):
                raise self._failed(_ended_by(getattr(error, "orig", None)) or error, committing=done) from error
            if (again := conflict(error)) is not None:
                raise again from error
            raise
        except DISCONNECTED as error:
            if isinstance(error, ValueError) or (transaction is not None and transaction.its_own(error)):
                raise
            if raised is not None and transaction is not None and transaction.spoilt:
                raise raised from error
            raise self._failed(error, committing=done) from error

    def _failed(self, error: BaseException, *, committing: bool) -> Unavailable:
        found = self._lost(error)
        return OutcomeUnknown(error, action=True) if committing and not isinstance(error, SAID_NO) else found

    async def limit(
        self,
        transaction: "HookedTransaction",
        *,
        statement_timeout: float = 5.0,
        lock_timeout: float = 2.0,
        idle_timeout: float = 10.0,
    ) -> None:
        """Set the timeouts of this transaction, in seconds (0: none), for the statements that follow. The first call also
        begins the transaction. A later call raises `TransactionEnded` if that transaction has ended in the meantime."""
        from sqlalchemy import text

        found = await transaction.session.execute(
            text(
                "select current_setting('carafe.lent', true), set_config('statement_timeout', :s, true),"
                " set_config('lock_timeout', :l, true), set_config('idle_in_transaction_session_timeout', :i, true),"
                " set_config('carafe.lent', :mark, true)"
            ),
            {
                "s": f"{int(statement_timeout * 1000)}ms",
                "l": f"{int(lock_timeout * 1000)}ms",
                "i": f"{int(idle_timeout * 1000)}ms",
                "mark": transaction.mark,
            },
        )
        if transaction.begun and found.scalar_one() != transaction.mark:
            raise TransactionEnded
        transaction.begun = True

    async def close(self) -> None:
        """Close every connection. Those that are in use get 2 seconds to finish."""
        self._closed = True
        if self._probe is not None:
            self._probe.cancel()
        pool, self._pool = self._pool, None
        if pool is not None:
            try:
                await asyncio.wait_for(pool.close(), 2)
            except TimeoutError:
                pool.terminate()
        if self._engine is not None:
            await self._engine.dispose()
        self._loop = None


def _terminate(connection: "PoolConnectionProxy[Record]") -> None:
    """Close a connection of the pool at once. Does nothing if asyncpg has already noticed that it was lost, and released
    it."""
    with suppress(asyncpg.InterfaceError):
        connection.terminate()


class _Set(asyncpg.Connection):  # type: ignore[misc]  # it is generic in its stubs alone
    """A connection of the pool on which Carafe's Postgres settings (`kept`) stay set. asyncpg alone would reset them when
    the connection is released."""

    kept = ""

    def get_reset_query(self) -> str:
        """The statements that are sent when the connection is released."""
        query = cast(str, super().get_reset_query())
        return f"{query}\n{self.kept};" if self.kept else query


class Lent(asyncpg.Connection):  # type: ignore[misc]  # it is generic in its stubs alone
    """A connection that is lent to the application's code. What that code changes on it is undone before the connection is
    used again.

    A role, settings, listeners, advisory locks and temporary tables are undone. If the code has changed type codecs, the
    connection is closed instead, since the earlier codecs are not known.
    """

    altered = False

    lent = False
    """Whether the connection is lent now. During that time it refuses to commit."""

    async def execute(self, query: str, *arguments: Any, timeout: float | None = None) -> str:  # noqa: ASYNC109
        """Like asyncpg's method. Raises `TransactionEnded` for a statement that would commit a lent transaction."""
        if self.lent and COMMITS.match(query) is not None:
            raise TransactionEnded
        return cast(str, await super().execute(query, *arguments, timeout=timeout))

    def get_reset_query(self) -> str:
        """The SQL statements that are sent when the connection is returned to the pool."""
        return f"set session authorization default;\n{super().get_reset_query()}\ndiscard temp;"

    async def reset(self, *, timeout: float | None = None) -> None:  # noqa: ASYNC109  # as its parent's
        """Undo all changes, or close the connection if its type codecs were changed."""
        if self.altered:
            self.terminate()
        else:
            await super().reset(timeout=timeout)

    async def set_type_codec(self, *arguments: Any, **options: Any) -> None:
        """Like asyncpg's method; also records that the codecs were changed."""
        self.altered = True
        await super().set_type_codec(*arguments, **options)

    async def set_builtin_type_codec(self, *arguments: Any, **options: Any) -> None:
        """Like asyncpg's method; also records that the codecs were changed."""
        self.altered = True
        await super().set_builtin_type_codec(*arguments, **options)

    async def reset_type_codec(self, *arguments: Any, **options: Any) -> None:
        """Like asyncpg's method; also records that the codecs were changed."""
        self.altered = True
        await super().reset_type_codec(*arguments, **options)


def _as_made(connection: Any) -> None:
    """Record that all changes to a new connection up to now were made by Carafe, and need not be undone."""
    if type(connection) is Lent:
        connection.altered = False


ENDS = re.compile(r"\s*(commit|end|abort|rollback(?!\s+to\b)|prepare\s+transaction)\b", re.IGNORECASE)
"""Matches a statement that ends a transaction."""

COMMITS = re.compile(r"\s*(commit|end|prepare\s+transaction)\b", re.IGNORECASE)
"""Matches a statement that commits a transaction. The driver's own rollbacks have to pass, since a session rolls back by
itself when a flush fails."""

RESET = 2.0
"""The maximum number of seconds that resetting a session's connection may take."""


def _session_given_back(connection: Any, record: Any, state: Any) -> None:
    """Called when a session returns its connection to the pool. Resets the connection; SQLAlchemy itself would only roll
    back."""
    if state.terminate_only or not state.asyncio_safe or connection.driver_connection.is_closed():
        return
    try:
        if not state.transaction_was_reset:
            connection.rollback()
        connection.run_async(lambda driver: driver.reset(timeout=RESET))
    except Exception:
        # Whatever the error was, the connection must not be used again.
        connection.driver_connection.terminate()


async def plan_by_index(connection: "asyncpg.Connection[Record]") -> None:
    """Set this connection so that all its statements are planned as `BY_INDEX` says. Does nothing if the connection leads to
    a transaction pooler."""
    await _keep_set(connection, BY_INDEX.format(scope="session"))


async def _keep_set(connection: "asyncpg.Connection[Record]", settings: str) -> None:
    """Set these Postgres settings (given as SQL statements) on this connection, for as long as it exists.

    Does nothing if the connection leads to a transaction pooler: the settings would stay on the pooler's connection to the
    server, which another client uses next. Such a pooler is recognized because it reports a different process id than the
    server does.
    """
    if await connection.fetchval("select pg_backend_pid()") == connection.get_server_pid():
        await connection.execute(settings)
        if type(connection) is _Set:  # (asyncpg takes every connection for an instance)
            connection.kept = settings


BUSY = 6.0
"""Seconds to wait for a SQL statement that the application's code has left running. Postgres ends such a statement after
five seconds."""


class HookedTransaction:
    """A session, and the asyncpg connection that the session uses.

    The application's code (a hook, a handler's block) may raise any error. It may even look like the loss of this
    connection, when a service that the code calls does not answer, or when the code's own pool is empty. So the class of an
    error never decides what happened to this transaction; the state of its connection does.
    """

    __slots__ = ("_conflict", "_cut", "_failed", "_lent", "_loss", "begun", "connection", "mark", "session", "spoilt")

    def __init__(self, session: "AsyncSession", connection: "asyncpg.Connection[Record]") -> None:
        self.session = session
        self.connection = connection
        self._loss: BaseException | None = None
        self._conflict: BaseException | None = None
        self._failed: BaseException | None = None
        self._cut = self._lent = False
        self.mark = token_hex(8)
        """Identifies this transaction of Postgres among later ones on the same connection."""
        self.begun = self.spoilt = False

    def met(self, error: BaseException, loss: BaseException | None) -> None:
        """Record that a statement of the session has failed with `error`. `loss` is the error that ended the connection, or
        None if the connection still works."""
        self._loss = self._loss or loss
        found = postgres_error(error) or error
        if not isinstance(found, asyncpg.InFailedSQLTransactionError):  # that says only that one before it has failed
            self._failed = found
        self._conflict = conflict(error) or self._conflict
        # Cancelling a statement closes its connection, and that is not a fault of Postgres.
        self._cut = self._cut or not isinstance(error, Exception)

    def fault_of_postgres(self, error: BaseException) -> BaseException | None:
        """Returns the error of Postgres that caused `error`, which the application's code raised in this transaction:
        `Unavailable` for a lost connection, asyncpg's own error for a conflict. Returns None if Postgres is not the
        cause."""
        if self._loss is not None or (self.connection.is_closed() and not self._cut):
            return Unavailable(self._loss or error)
        found = conflict(error)
        return found if found is not None and found is self._conflict else None

    @contextmanager
    def lent(self) -> Iterator[None]:
        """Marks the block in which the application's code runs."""
        self._lent = True
        yield
        self._lent = False

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Explains an error in this block if an earlier statement is its real cause: the statement failed, and the
        application's code swallowed that error. Raises `StatementFailed` instead, which names the cause."""
        over = self._rolled_back()
        try:
            yield
        except Exception as error:
            if over or isinstance(postgres_error(error), asyncpg.InFailedSQLTransactionError):
                raise StatementFailed(self._failed) from self._failed
            raise

    def _rolled_back(self) -> bool:
        """Whether the session has rolled back by itself, because a flush failed, and now refuses every statement."""
        return self._loss is None and self._failed is not None and not self.session.sync_session.is_active

    async def fault(self) -> BaseException | None:
        """The reason, as an error, why this transaction cannot be committed although the application's code raised no error.
        Returns None if it can be committed.

        Only Postgres knows this. A statement may have failed and the code may have swallowed the error (a commit would then
        roll back without an error), the code may have ended the transaction, or a deferred constraint may not hold. Raises
        asyncpg's own error if the cause is the connection or another transaction.
        """
        try:
            status = await self._asked()
        except asyncpg.InFailedSQLTransactionError:
            return StatementFailed(self._failed)
        except CONFLICTS:
            raise
        except asyncpg.InterfaceError as error:
            if self.connection.is_closed():
                raise
            # A task that the code has left running holds the connection with a statement, so it can no longer be used.
            self._cut = self.spoilt = True
            self.connection.terminate()
            return cast(BaseException, error)
        except DISCONNECTED:
            raise
        except asyncpg.PostgresError as error:
            return cast(BaseException, error)
        if status == "SELECT 1":
            return None
        return StatementFailed(self._failed) if self._rolled_back() else TransactionEnded()

    async def _asked(self) -> str:
        """Ask Postgres whether this transaction still exists. Returns the status ``SELECT 1`` if it does. If a task of the
        application's code is still running a statement, waits for that first."""
        until = time.monotonic() + BUSY
        while True:
            try:
                # Both statements are sent at once; the status is that of the last one.
                status: str = await self.connection.execute(
                    f"set constraints all immediate; select where current_setting('carafe.lent', true) = '{self.mark}'"
                )
            except asyncpg.InterfaceError:
                if self.connection.is_closed() or time.monotonic() > until:
                    raise
            else:
                return status
            await asyncio.sleep(0.02)

    def its_own(self, error: BaseException) -> bool:
        """Whether the application's code raised this error, and Postgres is not its cause."""
        return self._lent and self.fault_of_postgres(error) is None

    @asynccontextmanager
    async def by_index(self) -> AsyncIterator[None]:
        """Plan the statements in this block as `BY_INDEX` says. The application's statements, which run outside the block,
        are planned as usual."""
        await self.connection.execute(BY_INDEX.format(scope="local"))
        yield
        await self.connection.execute(AS_USUAL)


MIGRATION_LOCK = 0x63617261_6665  # "carafe"

LOCK_WAIT = 1.0
"""Seconds that a migration waits for a lock in each try. Everybody who requests the same lock after it has to wait as
long."""

LOCK_PAUSE = (1.0, 3.0)
"""The minimum and the maximum number of seconds that a migration waits before it tries again to get a lock."""


class MigrationBlocked(Busy):
    """In all tries of a migration, another session held locks that the migration needs."""

    code = "migration-blocked"

    def __init__(self, what: str, limit: float, holders: str) -> None:
        self.cause = None
        CarafeError.__init__(
            self,
            f"{what} within {limit:g} s; held by {holders}. The migration changed nothing: end that session "
            "(`select pg_terminate_backend(PID)`) or wait for it, then run `carafe migrate` again",
        )


async def migrate(
    url: str,
    applications: Sequence[str] = (),
    *,
    limit: float = 60.0,
    tell: Callable[[str], None] | None = None,
) -> list[str]:
    """Upgrade the library's schema, and then each application's package of revisions, to the newest revision.

    Safe when several processes do it at the same time: an advisory lock lets one of them upgrade; the others wait up to
    `limit` seconds and then find nothing to do. The migration waits for a table's lock only a second at a time, so that
    statements of other sessions can run in between. The function `tell` is called with a text that names the lock's holder
    (default: it is logged). Returns the revisions that were applied, as "package: revision". Raises `Unavailable`,
    `ModuleNotUsable` if a package cannot be found, `MigrationFailed`, and `MigrationBlocked` after `limit` seconds.
    """
    from sqlalchemy import NullPool, text
    from sqlalchemy.exc import SQLAlchemyError
    from sqlalchemy.ext.asyncio import create_async_engine

    tell = tell or (lambda words: log.warning("a migration waits", why=words))
    packages = [Revisions(package) for package in (LIBRARY, *applications)]
    done: list[str] = []
    engine = create_async_engine(
        "postgresql+asyncpg://", async_creator=lambda: connect(url, name="carafe migrate"), poolclass=NullPool
    )
    try:
        # The lock belongs to the connection and ends with it.
        async with engine.connect() as connection:
            raw = cast(Any, (await connection.get_raw_connection()).driver_connection)
            await _let_in(raw, limit, tell)
            await connection.execute(
                text("select set_config('lock_timeout', :t, false)"), {"t": f"{int(LOCK_WAIT * 1000)}ms"}
            )
            await connection.commit()
            for package in packages:
                applied = await _patiently(connection, url, raw, package, limit, tell)
                done += [f"{package.package}: {revision}" for revision in applied]
    except DISCONNECTED as error:
        if isinstance(error, ValueError):
            raise
        raise Unavailable(error) from error
    except SQLAlchemyError as error:
        if lost(error):
            raise Unavailable(_ended_by(getattr(error, "orig", None)) or error) from error
        raise
    finally:
        await engine.dispose()
    return done


async def _let_in(connection: Any, limit: float, tell: Callable[[str], None]) -> None:
    """Take the advisory lock for migrations. If another migration holds it, wait for that one, and raise `MigrationBlocked`
    after `limit` seconds."""
    deadline = time.monotonic() + limit
    said: Sequence[str] = ()
    while not await connection.fetchval("select pg_try_advisory_lock($1)", MIGRATION_LOCK):
        holding = await advisory_holders(connection, MIGRATION_LOCK)
        if time.monotonic() > deadline:
            raise MigrationBlocked("another migration did not end", limit, "; ".join(holding) or "nobody any more")
        if holding and not said:
            said = holding
            tell(f"another migration is under way: {'; '.join(holding)}")
        await asyncio.sleep(random.uniform(0.2, 0.5))


async def _patiently(
    connection: Any, url: str, raw: Any, revisions: Revisions, limit: float, tell: Callable[[str], None]
) -> list[str]:
    """Upgrade the schema of one package. If other sessions hold locks on its tables, try again, for at most `limit`
    seconds. Returns the ids of the revisions that were applied."""
    from sqlalchemy.exc import DBAPIError

    deadline = time.monotonic() + limit
    async with watched(url, raw.get_server_pid()) as watch:
        while True:
            try:
                return cast(list[str], await connection.run_sync(revisions.upgrade))
            except MigrationFailed:
                await connection.rollback()
                raise
            except Exception as error:
                if raw.is_closed() or (isinstance(error, DBAPIError) and lost(error)):
                    raise
                await connection.rollback()
                cause = postgres_error(error)
                if not isinstance(cause, (asyncpg.LockNotAvailableError, *CONFLICTS)):
                    fault = (
                        revisions.fault(error) or f"{revisions.package}: {type(cause or error).__name__}: {cause or error}"
                    )
                    raise MigrationFailed(fault) from error
                if time.monotonic() > deadline:
                    raise MigrationBlocked(f"{revisions.package} got no lock", limit, watch.text) from error
                tell(f"{revisions.package} waits for a lock, held by {watch.text}")
            await asyncio.sleep(random.uniform(*LOCK_PAUSE))


Connection = Any
"""The type of an asyncpg connection, whether it comes from a pool or not. asyncpg has no common type for both."""
