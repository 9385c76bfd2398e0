"""Hints that belong to a caller's own SQLAlchemy session: pushed after its commit, dropped with its rollback.

Works for ``Session`` and ``AsyncSession`` and any driver, savepoints included. The hints of a savepoint that is rolled
back are dropped with it.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import structlog

from carafe import metrics
from carafe.jobs.hints import QUEUE, Hint

if TYPE_CHECKING:
    from sqlalchemy.orm import Session, SessionTransaction

log = structlog.stdlib.get_logger("carafe.queue")

_KEY = "carafe.hints"


@dataclass(frozen=True, slots=True)
class _Pending:
    transaction: "SessionTransaction | None"
    hints: Sequence[Hint]
    push: Callable[[Sequence[Hint]], Any]
    accepted: Mapping[str, int]


def push_after_commit(
    session: "Session", hints: Sequence[Hint], push: Callable[[Sequence[Hint]], Any], accepted: Mapping[str, int]
) -> None:
    """Call `push` with the hints once the session's outermost transaction has committed, and count what was `accepted`
    (jobs by kind) then."""
    from sqlalchemy import event

    if _KEY not in session.info:
        session.info[_KEY] = []
        event.listen(session, "after_commit", _committed)
        event.listen(session, "after_soft_rollback", _rolled_back)
    transaction = session.get_nested_transaction() or session.get_transaction()
    session.info[_KEY].append(_Pending(transaction, hints, push, accepted))


def _committed(session: "Session") -> None:
    if session.in_nested_transaction():
        return  # a savepoint was released: nothing is committed yet
    pending: list[_Pending] = session.info[_KEY]
    session.info[_KEY] = []
    count_accepted(sum((Counter(entry.accepted) for entry in pending), Counter[str]()))
    by_push: dict[Callable[[Sequence[Hint]], Any], list[Hint]] = {}
    for entry in pending:
        by_push.setdefault(entry.push, []).extend(entry.hints)
    for push, hints in by_push.items():
        try:
            push(hints)
        except Exception:
            # The jobs are committed, and whoever committed them must not hear anything else.
            log.exception("hints not pushed; the steward will push them", count=len(hints))


def _rolled_back(session: "Session", previous: "SessionTransaction") -> None:
    def within(transaction: "SessionTransaction | None") -> bool:
        while transaction is not None:
            if transaction is previous:
                return True
            transaction = transaction.parent
        return False

    session.info[_KEY] = [entry for entry in session.info[_KEY] if not within(entry.transaction)]


def count_accepted(kinds: Mapping[str, int]) -> None:
    """Count jobs whose rows are committed, by kind."""
    for kind, count in kinds.items():
        metrics.ACCEPTED.add((QUEUE, kind), count)
