"""The connections to Postgres that handlers use: a pool of their own, apart from those of the engine and of the hooks.

Guarantees: what a handler takes and does not give back (a session, a connection, a transaction) is closed at the end of its
attempt and named in the log, whoever holds it still; what handlers leak costs neither claims, ends, hooks nor later jobs a
connection. Whose a connection is, the context that takes it tells: coroutines and tasks of the handler, and what runs by
``asyncio.to_thread`` or ``run_coroutine_threadsafe``. What tasks take that outlive their attempt is nobody's.
Must never: raise, or wait, at the end of an attempt.
"""

import time
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

import asyncpg
import structlog

from carafe.database import Database
from carafe.engine.captured_logs import running
from carafe.engine.slot import Claim

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

    from carafe.settings import Settings

log = structlog.stdlib.get_logger("carafe.runner")

SPARE = 2
"""Connections beyond the slots that the pool has unless WORKER_DATABASE_POOL_SIZE says otherwise: one for each handler, and
some for those that want a second one for a moment."""

SAY_EVERY = 1.0
"""Seconds between two log lines about one kind, at least."""

Held = Callable[[], Callable[[], None] | None]
"""What was taken: how to close it, or None when it has been given back."""


def pool_size(settings: "Settings") -> int:
    """Connections that the handlers of one worker may open for sessions, and as many for statements."""
    return settings.worker_database_pool_size or settings.worker_concurrency + SPARE


class HandlerDatabase(Database):
    """Access to Postgres for handlers; every connection that is taken is on its claim's account."""

    async def _setup(self, connection: Any) -> None:
        """asyncpg's pool gives a connection to somebody."""
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
    """Close the connections that the attempt has not given back, and say so. On the worker's loop; total."""
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
