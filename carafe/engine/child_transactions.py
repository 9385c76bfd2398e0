"""The transactions of plain handlers in a child process, on an event loop in a thread beside the handler's.

A child imports this module only if its handler opens a transaction.
"""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from carafe.engine import borrowed_loop
from carafe.engine.contexts import AttemptContext
from carafe.engine.lifespans import Values
from carafe.jobs.hiding import Hiding
from carafe.store.database import Database

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

CLOSING = 2.0
"""The maximum number of seconds that closing the connections may take."""


class OwnTransactions:
    """The event loop, the connections and the attempt's context behind ``ctx.transaction()`` in a child process."""

    def __init__(self, row: dict[str, Any], shared: Values, hiding: Hiding | None, tell: Callable[[bool], None]) -> None:
        """`row` describes the job, as the parent's request does, and `shared` has the values of the worker lifespans. For
        `hiding` and `tell` see `AttemptContext`."""
        self._loop = asyncio.new_event_loop()
        self._database = Database(row["database_url"], pool_size=2, name="carafe child")
        self.attempt = AttemptContext(row, None, self._database, row["result_limit"], shared)
        self.attempt.hiding, self.attempt.tell = hiding, tell
        threading.Thread(target=self._loop.run_forever, name="carafe transactions", daemon=True).start()

    @contextmanager
    def transaction(self) -> "Iterator[tuple[Session, AttemptContext]]":
        """See `SyncContext.transaction`. Yields the session, and the context whose `result` becomes the job's."""
        with borrowed_loop.block(self.attempt.transaction(), self._loop) as session:
            yield session.sync_session, self.attempt

    def close(self) -> None:
        """Close the connections. Never raises."""
        try:
            asyncio.run_coroutine_threadsafe(self._database.close(), self._loop).result(CLOSING)
        except Exception:
            pass  # they end with the process, a moment later
