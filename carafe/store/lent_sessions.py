"""Sessions that are only lent to the application's code: a hook's session, and that of ``ctx.transaction()``.

Guarantees: the code cannot end the transaction through its session, neither by a commit nor by a rollback. When the
transaction has ended, the session cannot be used any more. So code that keeps the session does not keep a connection.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn

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
        self._refuse()

    def rollback(self) -> None:
        """Always raises `TransactionEnded`: only Carafe ends the transaction."""
        self._refuse()

    def reset(self) -> None:
        """Always raises `TransactionEnded`: only Carafe ends the transaction."""
        self._refuse()

    def invalidate(self) -> None:
        """Always raises `TransactionEnded`: only Carafe ends the transaction."""
        self._refuse()

    def close(self) -> None:
        """Raises `TransactionEnded` while the session is lent to the application's code. Otherwise closes the session."""
        if self.lent:
            self._refuse()
        super().close()

    def _refuse(self) -> NoReturn:
        raise TransactionEnded


def lent_session(engine: "AsyncEngine") -> AsyncSession:
    """A new session that can be lent to the application's code."""
    options: dict[str, Any] = {"sync_session_class": LentSession, "close_resets_only": False}
    return AsyncSession(engine, expire_on_commit=False, **options)


@contextmanager
def lent(session: AsyncSession) -> Iterator[None]:
    """Lend the session while the block runs. During that time nobody can end its transaction through the session, not even
    Carafe."""
    assert isinstance(session.sync_session, LentSession)
    session.sync_session.lent = True
    try:
        yield
    finally:
        session.sync_session.lent = False
