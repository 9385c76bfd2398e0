"""The connections to Postgres that handlers use: a pool of their own, apart from those of the engine and of the hooks.

A connection belongs to the attempt in whose context it is taken. This includes the handler's coroutines and tasks, and code
that they run with ``asyncio.to_thread`` or ``run_coroutine_threadsafe``. A connection that a task takes after its attempt
has ended belongs to no attempt.
Guarantees: if a handler does not give back a session, connection or transaction, it is closed at the end of the attempt,
even if it is still in use, and the log names the job; so no handler can use up the connections that claims, ends, hooks or
later jobs need.
Must never: raise, or wait, at the end of an attempt.
"""

import time
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

import asyncpg

from carafe.engine.captured_logs import running
from carafe.engine.claim import Claim, Held
from carafe.store.database import Database, Lent
from carafe.telemetry.loggers import get_logger

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

    from carafe.settings.settings import Settings

log = get_logger("carafe.runner")

SPARE = 2
"""The pool has one connection for each slot, and this many more, for handlers that need a second one for a moment. If the
setting WORKER_DATABASE_POOL_SIZE is set, it is the size of the pool instead."""

SAY_EVERY = 1.0
"""The minimum number of seconds between two log lines about connections that handlers of the same kind left open."""


def pool_size(settings: "Settings") -> int:
    """Returns how many connections the handlers of one worker may open for sessions. They may open as many again for single
    statements."""
    return settings.worker_database_pool_size or settings.worker_concurrency + SPARE


class HandlerDatabase(Database):
    """Access to Postgres for handlers. Each connection that a handler takes is recorded in the handler's claim. What the
    handler changed on the connection's session is undone before another handler gets the connection."""

    _connection_class = Lent

    async def _setup(self, connection: Any) -> None:
        """Record in the current claim that its handler has taken this connection from asyncpg's pool."""
        _taken(lambda: _closing(connection))

    @property
    def engine(self) -> "AsyncEngine":
        new = self._engine is None
        engine = super().engine
        if new:
            from sqlalchemy import event

            event.listen(engine.sync_engine, "checkout", _session_taken)
            event.listen(engine.sync_engine.pool, "reset", _session_returned)
        return engine


def _closing(connection: Any) -> Callable[[], None] | None:
    try:
        connection.is_closed()
    except asyncpg.InterfaceError:
        return None  # it has gone back to the pool
    return cast("Callable[[], None]", connection.terminate)


def _session_taken(connection: Any, record: Any, fairy: Any) -> None:
    # Weakly: a session that nobody holds any more is taken back by SQLAlchemy, at once or at the next collection.
    found = weakref.ref(fairy)

    def closing() -> Callable[[], None] | None:
        held = found()
        return held.invalidate if held is not None and held.is_valid else None

    _taken(closing)
    claim = running.get()
    record.info[_OWNER] = None if claim is None else (claim.kind, str(claim.id))


def _session_returned(connection: Any, record: Any, state: Any) -> None:
    owner = record.info.pop(_OWNER, None)
    if state.terminate_only and owner is not None:
        # The garbage collector has found it: closed already, and only to be named.
        kind, job_id = owner
        _say(kind, job_id, 1)


_OWNER = "carafe.owner"


def _taken(held: Held) -> None:
    claim = running.get()
    if claim is None or claim.over:
        return
    taken = claim.connections
    if taken is None:
        claim.connections = [held]
        return
    taken.append(held)
    # A handler that takes and returns thousands: at each doubling those that are back go.
    if len(taken) >= 64 and len(taken) & (len(taken) - 1) == 0:
        claim.connections = [held for held in taken if held() is not None]


def close_what_is_left_open(claim: Claim) -> None:
    """Close the connections that the attempt has not given back, and log how many. Called on the worker's loop; never
    raises."""
    taken, claim.connections = claim.connections or [], None
    closed = 0
    for held in taken:
        try:
            close = held()
            if close is not None:
                close()
                closed += 1
        except BaseException:
            log.warning("a connection that a handler left open could not be closed", kind=claim.kind, exc_info=True)
    if closed:
        _say(claim.kind, str(claim.id), closed)


_said: dict[str, tuple[float, int]] = {}


def _say(kind: str, job_id: str, count: int) -> None:
    now = time.monotonic()
    last, unsaid = _said.get(kind, (float("-inf"), 0))
    if now - last < SAY_EVERY:
        _said[kind] = last, unsaid + 1
        return
    _said[kind] = now, 0
    log.warning(
        "a handler has left connections to Postgres open, and they are closed: use `async with` for sessions, connections "
        "and transactions",
        job_id=job_id,
        kind=kind,
        connections=count,
        **({"attempts_not_named_before": unsaid} if unsaid else {}),
    )
