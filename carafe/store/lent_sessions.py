"""Sessions that are only lent to the application's code: a hook's session, and that of ``ctx.transaction()``.

Guarantees: the code cannot end the transaction through its session, neither by a commit nor by a rollback, nor commit it
through the session's connection, at any of the levels that SQLAlchemy hands out. When the
transaction has ended, the session cannot be used any more. So code that keeps the session does not keep a connection.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn

from sqlalchemy.dialects.postgresql.asyncpg import AsyncAdapt_asyncpg_connection
from sqlalchemy.engine import Connection
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from carafe.errors import TransactionEnded

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine


class LentSession(Session):
    """A session that is lent to the application's code, as this module describes. `lent` is True until Carafe takes it
    back."""

    lent = False

    def commit(self) -> None:
        """Always raises `TransactionEnded`: only Carafe ends the transaction."""
        _refuse()

    def rollback(self) -> None:
        """Always raises `TransactionEnded`: only Carafe ends the transaction."""
        _refuse()

    def reset(self) -> None:
        """Always raises `TransactionEnded`: only Carafe ends the transaction."""
        _refuse()

    def invalidate(self) -> None:
        """Always raises `TransactionEnded`: only Carafe ends the transaction."""
        _refuse()

    def close(self) -> None:
        """Raises `TransactionEnded` while the session is lent to the application's code. Otherwise closes the session."""
        if self.lent:
            _refuse()
        super().close()


def lent_session(engine: "AsyncEngine") -> AsyncSession:
    """A new session that can be lent to the application's code."""
    options: dict[str, Any] = {"sync_session_class": LentSession, "close_resets_only": False}
    return AsyncSession(engine, expire_on_commit=False, **options)


class LentDriver(AsyncAdapt_asyncpg_connection):
    """SQLAlchemy's form of a session's asyncpg connection. It refuses a commit while the connection is lent."""

    __slots__ = ()

    def commit(self) -> None:
        """Commits, as SQLAlchemy does. Raises `TransactionEnded` while the connection is lent."""
        if self.driver_connection.lent:
            raise TransactionEnded
        super().commit()  # type: ignore[no-untyped-call]


@contextmanager
def lent(session: AsyncSession, connection: Connection, driver: Any) -> Iterator[None]:
    """Lend the session while the block runs, with its `connection`, and the asyncpg connection `driver` of that one. During
    that time nobody can end its transaction through the session, not even Carafe."""
    assert isinstance(session.sync_session, LentSession)
    # A session ends its transactions by other methods than these two, which are for code that has the connection.
    vars(connection).update(commit=_refuse, rollback=_refuse)
    session.sync_session.lent = driver.lent = True
    try:
        yield
    finally:
        session.sync_session.lent = driver.lent = False
        del connection.commit, connection.rollback


def _refuse() -> NoReturn:
    raise TransactionEnded
