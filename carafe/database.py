"""Connections to Postgres: an asyncpg pool for the system's own statements, a SQLAlchemy engine for sessions and hooks.

Guarantees that whatever cannot use Postgres says so within seconds (`Unavailable`): a server that answers and may not be
written is away like one that does not answer. Never commits on a caller's session.
"""

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from contextvars import Context
from typing import TYPE_CHECKING, Any, TypeVar, cast

import asyncpg
import structlog

from carafe.errors import Busy, CarafeError, OutcomeUnknown, Unavailable
from carafe.locks import advisory_holders, watched
from carafe.postgres_away import details
from carafe.postgres_url import NotWritable, connect, read
from carafe.postgres_url import plain_dsn as plain_dsn
from carafe.timestamps import read_any

log = structlog.stdlib.get_logger("carafe.database")

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
"""What a server answers that lives and cannot do its work now: demoted (25006), full, short of memory or connections (53),
its disk failing (58). What it answers so it has not done."""

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
"""What asyncpg raises when Postgres cannot be used: down, going down, full, silent, or there and not to be written. The
connection is not to be used again."""

PASSING: tuple[type[BaseException], ...] = (
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
    asyncpg.QueryCanceledError,
    asyncpg.LockNotAvailableError,
)
"""Another transaction was in the way, or a statement was too slow; the connection is good, and nothing was done."""

CONFLICTS = (asyncpg.DeadlockDetectedError, asyncpg.SerializationError)
"""What Postgres itself asks to try again."""

CONFLICT_TRIES = 5
"""How often a transaction is tried that others are in conflict with."""

BY_INDEX = "set {scope} enable_seqscan = off; set {scope} enable_bitmapscan = off"
AS_USUAL = "set local enable_seqscan to default; set local enable_bitmapscan to default"
"""How the system's own statements are planned: live jobs are found by their ids or along an index, in its order, and never
by a look at the whole table, however small that was when the plan was made which a connection keeps. docs/plans.md says why
the statements' own shapes alone cannot see to that."""


AWAY: tuple[type[BaseException], ...] = (Unavailable, *DISCONNECTED)
"""The same, and what `Database` makes of it."""


def lost(error: BaseException) -> bool:
    """Whether SQLAlchemy says with this error that Postgres cannot be reached, or went away meanwhile.

    A connection that is lost while it is made is not called invalidated: the driver's own error tells. A session that is
    used on after such a loss says so with a code of its own (PendingRollbackError has another for a failed flush).
    """
    from sqlalchemy.exc import DBAPIError, PendingRollbackError
    from sqlalchemy.exc import TimeoutError as PoolTimeout

    if isinstance(error, DBAPIError):
        return error.connection_invalidated or _ended_by(error.orig) is not None
    return isinstance(error, PoolTimeout) or (isinstance(error, PendingRollbackError) and error.code == "8s2b")


def _ended_by(error: BaseException | None) -> BaseException | None:
    """asyncpg's own error in this one (SQLAlchemy's adapter wraps some), if it makes a connection unfit for use."""
    for found in (error, getattr(error, "__cause__", None)):
        # A ValueError is asyncpg's word for a value that it cannot encode: nothing is wrong with the connection.
        if isinstance(found, DISCONNECTED) and not isinstance(found, ValueError):
            return found
    return None


def postgres_error(error: BaseException | None) -> asyncpg.PostgresError | None:
    """Postgres's own error in this one: SQLAlchemy wraps it."""
    while error is not None:
        if isinstance(error, asyncpg.PostgresError):
            return error
        error = getattr(error, "orig", None) or error.__cause__
    return None


def conflict(error: BaseException) -> BaseException | None:
    """Postgres's own error in this one if it asks to try the transaction again."""
    found = postgres_error(error)
    return found if isinstance(found, CONFLICTS) else None


def meaning(error: BaseException, *, commits: bool = False) -> Unavailable | None:
    """What an error of a session's statement, or of its commit (`commits`), says of Postgres; None: nothing, it is the
    statement's own."""
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
    """Puts what Postgres raises in this block into the library's words: `Unavailable`, `Busy`; what was lost in a block that
    `commits`, into `OutcomeUnknown` (`action`: not of a job that is enqueued). A conflict passes, for `retried`."""
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


async def retried(work: Callable[[], Awaitable[T]]) -> T:
    """What `work` returns: a whole transaction of ours, tried again while others conflict with it. Raises `Busy` at last."""
    for tries in range(1, CONFLICT_TRIES + 1):
        try:
            return await work()
        except CONFLICTS as error:
            if tries == CONFLICT_TRIES:
                raise Busy(error) from error
            await asyncio.sleep(random.uniform(0.005, 0.02) * 2**tries)
    raise AssertionError("not reached")


@asynccontextmanager
async def committed(connection: Any, *, action: bool = True) -> AsyncIterator[None]:
    """A transaction on an asyncpg connection, whose errors tell what became of it: lost before its commit, nothing was done
    (`Unavailable`); lost at it, that is not known (`OutcomeUnknown`)."""
    transaction = connection.transaction()
    with told():
        await transaction.start()
        try:
            yield
        except BaseException as error:
            if not isinstance(error, AWAY) or isinstance(error, (ValueError, Busy)):
                await transaction.rollback()
            raise
    with told(commits=True, action=action):
        await transaction.commit()


_generations: Counter[str] = Counter()
"""How often the connections of this process to each URL have been renewed."""


class Refused(ConnectionError):
    """Postgres answers and takes no connection of ours: the user, the password, the database or a parameter is wrong."""


class Database:
    """One process's access to Postgres. Open it inside the event loop that uses it."""

    _setup: Any = None
    """A coroutine function that gets each connection which asyncpg's pool gives out; None: nobody asks."""

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
        """`pool_size` connections at most for the system's statements and as many for sessions; `name` is shown by
        ``pg_stat_activity``; `command_timeout` in seconds bounds each statement of the pool (None: unbounded);
        `server_settings` are Postgres's own, for each connection. `read_only`: its transactions can write nothing, and a
        server that may only be read will do. `any_timestamp` reads those too that Python has no datetime for
        (`carafe.timestamps`); false where each microsecond counts. `by_index`: the pool's connections plan as the system's
        own statements need it (its sessions do not). `lock_timeout`: seconds that a statement of the pool waits for a lock;
        less than `command_timeout`, so that Postgres itself says what was in the way, and that nothing was done. Raises
        `UrlFault`."""
        self.url = url
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
        self._away: BaseException | None = None
        self._probe: asyncio.Task[None] | None = None
        self._in_use: set[Any] = set()
        self._hooked: dict[Any, HookedTransaction] = {}
        self._closed = False
        self._engine: AsyncEngine | None = None

    async def pool(self) -> "asyncpg.Pool[Record]":
        """The pool, opened at first use. Raises `Unavailable`; at once while Postgres is known to be away."""
        self.require()
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
                    connection_class=_Set if self._set else asyncpg.Connection,
                    init=self._prepare,
                )
                try:
                    await pool
                except DISCONNECTED as error:
                    raise self._lost(error) from error
                self._pool = pool
        return self._pool

    async def _connect(self, *_: Any, connection_class: Any = asyncpg.Connection, **__: Any) -> "asyncpg.Connection[Record]":
        """A connection to the server of our URL that may be written; one that refuses us (a password, a parameter) cannot be
        used either."""
        try:
            return await connect(self.url, **self._options, connection_class=connection_class)
        except asyncpg.PostgresError as error:
            if isinstance(error, DISCONNECTED):
                raise
            raise Refused(f"{type(error).__name__}: {error}") from error

    async def _connect_for_sessions(self) -> "asyncpg.Connection[Record]":
        connection = await self._connect()
        if self._any_timestamp:
            # The system's own statements run on these too, where a kind has hooks.
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

    @asynccontextmanager
    async def connection(self) -> "AsyncIterator[PoolConnectionProxy[Record]]":
        """A connection of the pool. Raises `Unavailable` when none can be had; errors inside the block pass.

        While Postgres is away everybody is told at once, until a probe finds it again.
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
            if isinstance(error, (ValueError, Busy)):
                raise  # asyncpg's word for a value that it cannot encode, or another in the way: the connection is good
            # Whatever it was, this connection is not to be trusted; giving it back properly could take for ever.
            _terminate(connection)
            self._lost(error)
            raise
        finally:
            self._in_use.discard(connection)
            try:
                await pool.release(connection, timeout=2)
            except DISCONNECTED:
                pass  # lost after its work was done: asyncpg has ended it, and what the caller knows stays true

    def require(self) -> None:
        """Raises `Unavailable` at once while Postgres is known to be away; otherwise does nothing."""
        if self._away is not None:
            raise Unavailable(self._away) from self._away

    @property
    def away(self) -> bool:
        """Whether Postgres is known to be away at this moment."""
        return self._away is not None

    def doubt(self, error: BaseException) -> None:
        """Somebody else found that Postgres does not answer: believe it, and look for it. Only on the pool's own loop."""
        self._lost(error)

    def _lost(self, error: BaseException) -> Unavailable:
        """Something went wrong with a connection: see whether it is Postgres."""
        if isinstance(error, SAID_NO) or isinstance(error.__cause__, SAID_NO):
            # The others are to the same server, and a new one may be led to another.
            self._renew()
        if not self._closed and (self._probe is None or self._probe.done()):
            # In no context of a handler's or a hook's: it is for everybody, and none of theirs may end it.
            self._probe = asyncio.create_task(self._look_for_it(), name="look for postgres", context=Context())
        return Unavailable(error)

    async def _look_for_it(self) -> None:
        """Try a connection of its own every half second until one works.

        One that works at once says that Postgres is well, and one connection was not (a slow statement, a terminated
        backend). Otherwise it is away: everybody is told at once from the first failure until it answers again.
        """
        while not self._closed:
            try:
                async with asyncio.timeout(max(2.0, self._connect_timeout)):
                    probe = await self._connect()
                    try:
                        await probe.fetchval("select 1")
                        await probe.close()
                    finally:
                        probe.terminate()  # one that has stopped answering must not stay open; nothing to do after a close
                break
            except Exception as error:  # whatever it is: if this task ended, Postgres would be away for ever
                if self._away is None:
                    log.warning("Postgres cannot be used, looking for it", error=details(error))
                self._away = error
                await asyncio.sleep(0.5)
        if self._away is not None and not self._closed:
            log.info("Postgres can be used again")
            # What was open before the outage may never answer, or only after the network's own long pauses.
            for connection in list(self._in_use):
                _terminate(connection)
            self._renew()
            self._away = None

    def _renew(self) -> None:
        """Every connection that is open now is ended when it comes back, or before it is given to somebody: here, and
        wherever this process has others to the same server. Who was idle meanwhile has not noticed."""
        _generations[self.url] += 1

    @property
    def _generation(self) -> int:
        return _generations[self.url]

    @property
    def engine(self) -> "AsyncEngine":
        """The SQLAlchemy engine (asyncpg driver), for sessions; made at first use, since SQLAlchemy is slow to import."""
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
            event.listen(self._engine.sync_engine, "connect", self._session_connected)
            event.listen(self._engine.sync_engine, "checkout", self._session_taken)
        return self._engine

    def _session_failed(self, context: "ExceptionContext") -> None:
        """A statement of a session has failed. SQLAlchemy does not count a statement without an answer as a lost connection:
        it would wait for the same silence again to roll back, and give the connection to the next."""
        error = _ended_by(context.original_exception)
        connection: Any = None
        if context.connection is not None and not context.connection.invalidated:
            connection = context.connection.connection.driver_connection
        if (transaction := self._hooked.get(connection)) is not None:
            transaction.met(context.original_exception, error)
        if error is not None:
            context.is_disconnect = True
            if connection is not None:
                connection.terminate()
            self._lost(error)

    def _session_connected(self, connection: Any, record: Any) -> None:
        record.info["generation"] = self._generation

    def _session_taken(self, connection: Any, record: Any, proxy: Any) -> None:
        from sqlalchemy.exc import DisconnectionError

        driver = cast(Any, connection).driver_connection
        # SQLAlchemy itself does not look whether one that was idle has ended meanwhile.
        if record.info.get("generation") != self._generation or driver.is_closed():
            driver.terminate()
            # SQLAlchemy makes another.
            raise DisconnectionError("this connection has ended, or its server was away meanwhile")

    def sessions(self) -> "async_sessionmaker[AsyncSession]":
        """A factory of sessions that keep their objects usable after commit."""
        from sqlalchemy.ext.asyncio import async_sessionmaker

        return async_sessionmaker(self.engine, expire_on_commit=False)

    @asynccontextmanager
    async def hooked(
        self, *, statement_timeout: float = 5.0, lock_timeout: float = 2.0, idle_timeout: float = 10.0
    ) -> "AsyncIterator[HookedTransaction]":
        """A transaction that runs the system's statements and application hooks on one connection (DESIGN.md rule 4).

        Timeouts in seconds (0: none); after `idle_timeout` without a statement Postgres itself gives the transaction up, so
        that a client that has vanished without a word holds no row for ever. Commits at the end of the block, rolls back on
        any error. Raises `Unavailable`, `OutcomeUnknown` for a loss at the commit, asyncpg's own error for a conflict; what
        the application's code raises in a block of `HookedTransaction.lent` passes, unless Postgres itself is why.
        """
        from sqlalchemy.exc import SQLAlchemyError

        self.require()
        done = False
        transaction: HookedTransaction | None = None
        try:
            async with self.sessions()() as session, session.begin():
                raw = await (await session.connection()).get_raw_connection()
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
                    yield transaction
                    done = True
                except DISCONNECTED as error:
                    if not (isinstance(error, ValueError) or transaction.its_own(error)):
                        transaction.connection.terminate()  # a rollback over it could take for ever
                    raise
                finally:
                    self._in_use.discard(transaction.connection)
                    del self._hooked[transaction.connection]
        except SQLAlchemyError as error:
            if transaction is not None and transaction.its_own(error):
                raise
            if lost(error):
                raise self._failed(_ended_by(getattr(error, "orig", None)) or error, committing=done) from error
            if (again := conflict(error)) is not None:
                raise again from error
            raise
        except DISCONNECTED as error:
            if isinstance(error, ValueError) or (transaction is not None and transaction.its_own(error)):
                raise
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
        """Bound the statements of this transaction from here on, in seconds (0: unbounded). Also begins it."""
        from sqlalchemy import text

        await transaction.session.execute(
            text(
                "select set_config('statement_timeout', :s, true), set_config('lock_timeout', :l, true),"
                " set_config('idle_in_transaction_session_timeout', :i, true)"
            ),
            {
                "s": f"{int(statement_timeout * 1000)}ms",
                "l": f"{int(lock_timeout * 1000)}ms",
                "i": f"{int(idle_timeout * 1000)}ms",
            },
        )

    async def close(self) -> None:
        """Close every connection, those in use after a grace of 2 seconds."""
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


def _terminate(connection: "PoolConnectionProxy[Record]") -> None:
    """End a connection in use, unless asyncpg has noticed its loss: then it has taken it back, and says so by an error."""
    with suppress(asyncpg.InterfaceError):
        connection.terminate()


class _Set(asyncpg.Connection):  # type: ignore[misc]  # it is generic in its stubs alone
    """A connection of a pool that keeps what was set: asyncpg resets each one that is given back."""

    kept = ""

    def get_reset_query(self) -> str:
        """What is sent when a connection is given back."""
        query = cast(str, super().get_reset_query())
        return f"{query}\n{self.kept};" if self.kept else query


async def plan_by_index(connection: "asyncpg.Connection[Record]") -> None:
    """From now on this connection plans as the system's own statements need it; not behind a transaction pooler."""
    await _keep_set(connection, BY_INDEX.format(scope="session"))


async def _keep_set(connection: "asyncpg.Connection[Record]", settings: str) -> None:
    """From now on this connection has these settings.

    Not behind a transaction pooler, where the setting would stay on a server connection that is somebody else's next. Such a
    pooler tells a process id of its own.
    """
    if await connection.fetchval("select pg_backend_pid()") == connection.get_server_pid():
        await connection.execute(settings)
        if type(connection) is _Set:  # (asyncpg takes every connection for an instance)
            connection.kept = settings


class HookedTransaction:
    """A session and, under it, the asyncpg connection that both use.

    The application's code (a hook, a handler's block) may raise anything, also what a lost connection raises, for reasons of
    its own: a service that it calls does not answer, a pool of its own is empty. So what became of this transaction is never
    told by the class of an error: its connection tells.
    """

    __slots__ = ("_conflict", "_cut", "_lent", "_loss", "connection", "session")

    def __init__(self, session: "AsyncSession", connection: "asyncpg.Connection[Record]") -> None:
        self.session = session
        self.connection = connection
        self._loss: BaseException | None = None
        self._conflict: BaseException | None = None
        self._cut = self._lent = False

    def met(self, error: BaseException, loss: BaseException | None) -> None:
        """A statement of the session has failed; `loss`: this has ended the connection."""
        self._loss = self._loss or loss
        self._conflict = conflict(error) or self._conflict
        # Whoever cancels a statement ends the connection with it: that is not Postgres's doing.
        self._cut = self._cut or not isinstance(error, Exception)

    def fault_of_postgres(self, error: BaseException) -> BaseException | None:
        """What an error of the application's code in this transaction says of Postgres: `Unavailable`, asyncpg's own error
        of a conflict; None: it is that code's own."""
        if self._loss is not None or (self.connection.is_closed() and not self._cut):
            return Unavailable(self._loss or error)
        found = conflict(error)
        return found if found is not None and found is self._conflict else None

    @contextmanager
    def lent(self) -> Iterator[None]:
        """In this block the application's code runs."""
        self._lent = True
        yield
        self._lent = False

    def its_own(self, error: BaseException) -> bool:
        """Whether this error was raised by code that this transaction was lent to, for a reason of its own."""
        return self._lent and self.fault_of_postgres(error) is None

    @asynccontextmanager
    async def by_index(self) -> AsyncIterator[None]:
        """Statements in this block are planned as the system's own need it; the application's, outside, as usual."""
        await self.connection.execute(BY_INDEX.format(scope="local"))
        yield
        await self.connection.execute(AS_USUAL)


MIGRATION_LOCK = 0x63617261_6665  # "carafe"

LOCK_WAIT = 1.0
"""Seconds that a migration waits for one lock: everybody who comes later waits behind it for as long."""

LOCK_PAUSE = (1.0, 3.0)
"""Seconds until it tries again."""


class MigrationFailed(CarafeError):
    """A migration could not be done; what it had changed was rolled back."""

    code = "migration-failed"


class MigrationBlocked(Busy):
    """Somebody held what a migration needs, for as long as it was tried."""

    code = "migration-blocked"

    def __init__(self, what: str, limit: float, holders: str) -> None:
        self.cause = None
        CarafeError.__init__(
            self,
            f"{what} within {limit:g} s; held by {holders}. Nothing was changed by it: end that session "
            "(`select pg_terminate_backend(PID)`) or wait for it, then run `carafe migrate` again",
        )


async def migrate(
    url: str,
    applications: Sequence[str] = (),
    *,
    limit: float = 60.0,
    tell: Callable[[str], None] | None = None,
) -> list[str]:
    """Upgrade the library's schema, then each application's alembic script package, to its newest revision.

    Safe when several processes do it at once: an advisory lock lets one in, the others wait up to `limit` seconds and find
    nothing to do. A lock on a table is waited for a second at a time, so that the others' statements pass meanwhile; `tell`
    hears who holds it (the log, without one). Returns what was done, in words. Raises `Unavailable`, `MigrationFailed`, and
    `MigrationBlocked` after `limit` seconds.
    """
    from sqlalchemy import NullPool, text
    from sqlalchemy.exc import SQLAlchemyError
    from sqlalchemy.ext.asyncio import create_async_engine

    tell = tell or (lambda words: log.warning("a migration waits", why=words))
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
            for package in ("carafe.migrations", *applications):
                done += await _patiently(connection, url, raw, package, limit, tell)
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
    """Wait for the one who migrates now, if there is one."""
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
    connection: Any, url: str, raw: Any, package: str, limit: float, tell: Callable[[str], None]
) -> list[str]:
    """Upgrade one package, again and again while others hold its tables."""
    from alembic.util import CommandError
    from sqlalchemy.exc import DBAPIError

    deadline = time.monotonic() + limit
    async with watched(url, raw.get_server_pid()) as watch:
        while True:
            try:
                return cast(list[str], await connection.run_sync(_upgrade, package))
            except CommandError as error:
                await connection.rollback()
                hint = "; the database may be of a newer release than this one"
                raise MigrationFailed(f"{package}: {error}{hint if 'locate revision' in str(error) else ''}") from error
            except DBAPIError as error:
                if lost(error):
                    raise
                await connection.rollback()
                cause = postgres_error(error)
                if not isinstance(cause, (asyncpg.LockNotAvailableError, *CONFLICTS)):
                    raise MigrationFailed(f"{package}: {type(cause or error).__name__}: {cause or error}") from error
                if time.monotonic() > deadline:
                    raise MigrationBlocked(f"{package} got no lock", limit, watch.text) from error
                tell(f"{package} waits for a lock, held by {watch.text}")
            await asyncio.sleep(random.uniform(*LOCK_PAUSE))


def _upgrade(connection: Any, package: str) -> list[str]:
    from importlib.util import find_spec

    from alembic import command
    from alembic.config import Config
    from sqlalchemy import text

    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(f"MIGRATIONS names {package!r}, which is not a package that can be imported")
    config = Config()
    config.set_main_option("script_location", str(next(iter(spec.submodule_search_locations))).replace("%", "%%"))
    config.attributes["connection"] = connection
    applied: list[str] = []
    config.attributes["on_version_apply"] = lambda step, **_: applied.append(f"{package}: {step.up_revision_id}")
    connection.execute(text("create schema if not exists carafe"))
    command.upgrade(config, "head")
    connection.commit()
    return applied
