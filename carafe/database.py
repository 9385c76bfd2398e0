"""Connections to Postgres: an asyncpg pool for the system's own statements, a SQLAlchemy engine for sessions and hooks.

Guarantees that whatever cannot reach Postgres says so within seconds (`Unavailable`), and that migrations run once when
several processes start together. Never commits on a caller's session.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, cast

import asyncpg

from carafe.errors import Unavailable

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy
    from sqlalchemy.engine import ExceptionContext
    from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker

Record = asyncpg.Record
Executor = "asyncpg.Connection[Record] | PoolConnectionProxy[Record]"

CONNECT_TIMEOUT = 3.0
"""Seconds until a connection attempt is given up."""

DISCONNECTED: tuple[type[BaseException], ...] = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.TooManyConnectionsError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
)
"""What asyncpg raises when Postgres is down, going down, full, or silent."""


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


def plain_dsn(url: str) -> str:
    """A libpq-style URL from one that may name a SQLAlchemy driver (``postgresql+asyncpg://``)."""
    return re.sub(r"^postgres(ql)?(\+\w+)?://", "postgresql://", url)


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
    ) -> None:
        """`pool_size` connections at most for the system's statements and as many for sessions; `name` is shown by
        ``pg_stat_activity``; `command_timeout` in seconds bounds each statement of the pool (None: unbounded);
        `server_settings` are Postgres's own, for each connection."""
        self.url = url
        self._dsn = plain_dsn(url)
        self._pool_size = pool_size
        self._options: dict[str, Any] = {
            "timeout": CONNECT_TIMEOUT,
            "command_timeout": command_timeout,
            "server_settings": {"application_name": name, "jit": "off", **(server_settings or {})},
        }
        self._pool: asyncpg.Pool[Record] | None = None
        self._opening = asyncio.Lock()
        self._away: BaseException | None = None
        self._probe: asyncio.Task[None] | None = None
        self._in_use: set[Any] = set()
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
                    self._dsn,
                    min_size=0,
                    max_size=self._pool_size,
                    setup=self._setup,
                    max_inactive_connection_lifetime=300,
                    **self._options,
                )
                try:
                    await pool
                except DISCONNECTED as error:
                    raise self._lost(error) from error
                self._pool = pool
        return self._pool

    @asynccontextmanager
    async def connection(self) -> "AsyncIterator[PoolConnectionProxy[Record]]":
        """A connection of the pool. Raises `Unavailable` when none can be had; errors inside the block pass.

        While Postgres is away everybody is told at once, until a probe finds it again.
        """
        pool = await self.pool()
        try:
            connection = await pool.acquire(timeout=CONNECT_TIMEOUT)
        except DISCONNECTED as error:
            if len(self._in_use) >= self._pool_size:
                raise Unavailable("all connections are busy") from error
            raise self._lost(error) from error
        self._in_use.add(connection)
        try:
            yield connection
        except AWAY as error:
            if isinstance(error, ValueError):
                raise  # asyncpg's word for a value that it cannot encode: nothing is wrong with the connection
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
            raise Unavailable(self._away)

    def doubt(self, error: BaseException) -> None:
        """Somebody else found that Postgres does not answer: believe it, and look for it. Only on the pool's own loop."""
        self._lost(error)

    def _lost(self, error: BaseException) -> Unavailable:
        """Something went wrong with a connection: see whether it is Postgres."""
        if not self._closed and (self._probe is None or self._probe.done()):
            self._probe = asyncio.create_task(self._look_for_it(), name="look for postgres")
        return Unavailable(error)

    async def _look_for_it(self) -> None:
        """Try a connection of its own every half second until one works.

        One that works at once says that Postgres is well, and one connection was not (a slow statement, a terminated
        backend). Otherwise it is away: everybody is told at once from the first failure until it answers again.
        """
        while True:
            try:
                async with asyncio.timeout(2):
                    probe = await asyncpg.connect(self._dsn, **self._options)
                    try:
                        await probe.fetchval("select 1")
                        await probe.close()
                    finally:
                        probe.terminate()  # one that has stopped answering must not stay open; nothing to do after a close
                break
            except Exception as error:  # whatever it is: if this task ended, Postgres would be away for ever
                self._away = error
                await asyncio.sleep(0.5)
        if self._away is not None:
            # What was open before the outage may never answer, or only after the network's own long pauses.
            for connection in list(self._in_use):
                _terminate(connection)
            if self._pool is not None:
                await self._pool.expire_connections()
            self._away = None

    @property
    def engine(self) -> "AsyncEngine":
        """The SQLAlchemy engine (asyncpg driver), for sessions; made at first use, since SQLAlchemy is slow to import."""
        if self._engine is None:
            from sqlalchemy import event
            from sqlalchemy.ext.asyncio import create_async_engine

            self._engine = create_async_engine(
                "postgresql+asyncpg://",
                async_creator=lambda: asyncpg.connect(self._dsn, **self._options),
                pool_size=self._pool_size,
                max_overflow=0,
                pool_timeout=2 * CONNECT_TIMEOUT,
                pool_pre_ping=False,
            )
            event.listen(self._engine.sync_engine, "handle_error", self._session_failed)
        return self._engine

    def _session_failed(self, context: "ExceptionContext") -> None:
        """A statement of a session has failed. SQLAlchemy does not count a statement without an answer as a lost connection:
        it would wait for the same silence again to roll back, and give the connection to the next."""
        error = _ended_by(context.original_exception)
        if error is not None:
            context.is_disconnect = True
            if context.connection is not None and not context.connection.invalidated:
                cast(Any, context.connection.connection.driver_connection).terminate()
            self._lost(error)

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
        any error. Raises `Unavailable`.
        """
        from sqlalchemy.exc import SQLAlchemyError

        self.require()
        try:
            async with self.sessions()() as session, session.begin():
                raw = await (await session.connection()).get_raw_connection()
                transaction = HookedTransaction(session, cast(Any, raw.driver_connection))
                self._in_use.add(transaction.connection)
                try:
                    await self.limit(
                        transaction,
                        statement_timeout=statement_timeout,
                        lock_timeout=lock_timeout,
                        idle_timeout=idle_timeout,
                    )
                    yield transaction
                except DISCONNECTED:
                    transaction.connection.terminate()  # a rollback over it could take for ever
                    raise
                finally:
                    self._in_use.discard(transaction.connection)
        except SQLAlchemyError as error:
            if lost(error):
                raise self._lost(error) from error
            raise
        except DISCONNECTED as error:
            raise self._lost(error) from error

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


class HookedTransaction:
    """A session and, under it, the asyncpg connection that both use."""

    __slots__ = ("connection", "session")

    def __init__(self, session: "AsyncSession", connection: "asyncpg.Connection[Record]") -> None:
        self.session = session
        self.connection = connection


MIGRATION_LOCK = 0x63617261_6665  # "carafe"


async def migrate(url: str, applications: Sequence[str] = (), *, lock_timeout: float = 60.0) -> list[str]:
    """Upgrade the library's schema, then each application's alembic script package, to its newest revision.

    Safe when several processes do it at once: an advisory lock lets one in, the others wait up to `lock_timeout` seconds
    and find nothing to do. Returns what was done, in words. Raises `Unavailable`, or alembic's own error.
    """
    from sqlalchemy import NullPool, text
    from sqlalchemy.exc import SQLAlchemyError
    from sqlalchemy.ext.asyncio import create_async_engine

    done: list[str] = []
    engine = create_async_engine(
        "postgresql+asyncpg://",
        async_creator=lambda: asyncpg.connect(plain_dsn(url), timeout=CONNECT_TIMEOUT),
        poolclass=NullPool,
    )
    try:
        # The lock belongs to the connection and ends with it.
        async with engine.connect() as connection:
            await connection.execute(text("select set_config('lock_timeout', :t, false)"), {"t": f"{int(lock_timeout)}s"})
            await connection.execute(text("select pg_advisory_lock(:key)"), {"key": MIGRATION_LOCK})
            await connection.commit()
            await connection.execute(text("create schema if not exists carafe"))
            await connection.commit()
            for package in ("carafe.migrations", *applications):
                done += await connection.run_sync(_upgrade, package)
    except DISCONNECTED as error:
        raise Unavailable(error) from error
    except SQLAlchemyError as error:
        if lost(error):
            raise Unavailable(error) from error
        raise
    finally:
        await engine.dispose()
    return done


def _upgrade(connection: Any, package: str) -> list[str]:
    from importlib.util import find_spec

    from alembic import command
    from alembic.config import Config

    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(f"MIGRATIONS names {package!r}, which is not a package that can be imported")
    config = Config()
    config.set_main_option("script_location", str(next(iter(spec.submodule_search_locations))).replace("%", "%%"))
    config.attributes["connection"] = connection
    applied: list[str] = []
    config.attributes["on_version_apply"] = lambda step, **_: applied.append(f"{package}: {step.up_revision_id}")
    command.upgrade(config, "head")
    connection.commit()
    return applied


async def reachable(check: Callable[[], Awaitable[Any]], *, within: float = 2.0) -> str | None:
    """None when `check` succeeds `within` so many seconds, else the reason in a few words."""
    try:
        async with asyncio.timeout(within):
            await check()
    except Exception as error:
        return "no answer in time" if isinstance(error, TimeoutError) else f"{type(error).__name__}: {error}".rstrip(": ")
    return None
