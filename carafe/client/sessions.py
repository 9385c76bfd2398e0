"""Hints of jobs that were enqueued in a caller's own SQLAlchemy session. They are pushed after the session's commit, and
dropped if the session rolls back.

Works for ``Session`` and ``AsyncSession``, with any driver, and for the scoped sessions of these two. The hints of a
savepoint that is rolled back are dropped too, and so are those of a transaction that ends without a commit.

Guarantees: an object that is not a session, and so has no commit after which to push, is refused before any SQL statement.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from carafe.jobs.errors import InvalidOption
from carafe.jobs.queue_name import QUEUE
from carafe.queue.hints import Hint
from carafe.telemetry import metrics
from carafe.telemetry.loggers import get_logger
from carafe.texts import class_name

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession
    from sqlalchemy.orm import Session, SessionTransaction

log = get_logger("carafe.queue")

_KEY = "carafe.hints"


@dataclass(slots=True)
class _Pending:
    """Hints that wait for the commit. `transaction` is the innermost savepoint in which their jobs were enqueued, or else
    the transaction."""

    transaction: "SessionTransaction | None"
    hints: Sequence[Hint]
    push: Callable[[Sequence[Hint]], Any]
    accepted: Mapping[str, int]


def own_session(session: Any) -> "AsyncSession | Session":
    """The session that the parameter `session` means: the session itself, or the current session of a ``scoped_session``
    (which Flask-SQLAlchemy's ``db.session`` is) or of an ``async_scoped_session``.

    Raises `InvalidOption` for any other object, since it has no commit after which hints could be pushed.
    """
    from sqlalchemy import Connection
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession, async_scoped_session
    from sqlalchemy.orm import Session, scoped_session

    own = session() if isinstance(session, scoped_session | async_scoped_session) else session
    if isinstance(own, AsyncSession | Session):
        return own
    if isinstance(own, Connection | AsyncConnection):
        a_session = "an AsyncSession" if isinstance(own, AsyncConnection) else "a Session"
        raise InvalidOption(
            "session", f"cannot be a connection, since its commit cannot be noticed: use {a_session} of the same engine"
        )
    raise InvalidOption("session", f"must be a SQLAlchemy AsyncSession or Session, or a scoped one (got {class_name(own)})")


def own_plain_session(session: Any) -> "Session":
    """Like `own_session`, for code without an event loop. Raises `InvalidOption` for an ``AsyncSession`` too."""
    from sqlalchemy.orm import Session

    own = own_session(session)
    if not isinstance(own, Session):
        raise InvalidOption("session", "must be a Session: a SyncClient cannot await an AsyncSession; use a Client with it")
    return own


def push_after_commit(
    session: "Session", hints: Sequence[Hint], push: Callable[[Sequence[Hint]], Any], accepted: Mapping[str, int]
) -> None:
    """After the session's outermost transaction has committed, call `push` with the hints, and add the numbers in `accepted`
    (new jobs by kind) to the metric of accepted jobs."""
    from sqlalchemy import event

    if _KEY not in session.info:
        session.info[_KEY] = []
        event.listen(session, "after_commit", _committed)
        event.listen(session, "after_transaction_end", _ended)
    transaction = session.get_nested_transaction() or session.get_transaction()
    session.info[_KEY].append(_Pending(transaction, hints, push, accepted))


def _committed(session: "Session") -> None:
    savepoint = session.get_nested_transaction()
    if savepoint is not None:  # it was released: nothing is committed yet
        for entry in session.info.get(_KEY, ()):
            if entry.transaction is savepoint:
                entry.transaction = _around(savepoint)
        return
    pending: list[_Pending] = session.info.get(_KEY, [])
    session.info[_KEY] = []
    count_accepted(sum((Counter(entry.accepted) for entry in pending), Counter[str]()))
    by_push: dict[Callable[[Sequence[Hint]], Any], list[Hint]] = {}
    for entry in pending:
        by_push.setdefault(entry.push, []).extend(entry.hints)
    for push, hints in by_push.items():
        push_committed(push, hints)


def push_committed(push: Callable[[Sequence[Hint]], Any], hints: Sequence[Hint]) -> None:
    """Call `push` with the hints. Their jobs are committed, so the caller never sees an error."""
    try:
        push(hints)
    except Exception:
        log.exception("hints not pushed; the steward will push them", count=len(hints))


def _around(savepoint: "SessionTransaction") -> "SessionTransaction | None":
    """The innermost savepoint or transaction that contains `savepoint`."""
    outer = savepoint.parent
    while outer is not None and outer.parent is not None and not outer.nested:
        outer = outer.parent
    return outer


def _ended(session: "Session", transaction: "SessionTransaction") -> None:
    """Drop the hints that still wait for the commit of this transaction or savepoint: it was rolled back, or closed without
    a commit."""
    pending: list[_Pending] = session.info.get(_KEY, [])
    if pending:
        session.info[_KEY] = [entry for entry in pending if entry.transaction is not transaction]


def count_accepted(kinds: Mapping[str, int]) -> None:
    """Add newly committed jobs to the metric of accepted jobs. `kinds` maps each kind to its number of jobs."""
    for kind, count in kinds.items():
        metrics.ACCEPTED.add((QUEUE, kind), count)
