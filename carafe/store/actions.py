"""Does operators' actions (`carafe.jobs.actions`) to jobs that are given by their ids. The change, its hooks and its audit
rows are written in one transaction."""

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any, Final
from uuid import UUID

import orjson

from carafe.jobs.actions import ACTIONS, Action
from carafe.jobs.definition import kinds
from carafe.jobs.queue_name import QUEUE
from carafe.jobs.records import as_uuid
from carafe.jobs.states import State
from carafe.store.audit import Actor, record_each
from carafe.store.columns import LISTS
from carafe.store.database import Connection, Database, committed, retried, told
from carafe.store.job_columns import returned
from carafe.store.statement import Row, Statement, statement
from carafe.store.transitions import HookFailed, move
from carafe.telemetry import metrics

_ANSWERED = {**LISTS, "live": returned(live=True), "ended": returned(live=False)}
"""The lists of columns that the SQL statements of the actions may name. ``{live}`` and ``{ended}`` are the columns to return
for a row of the table of live jobs or of the table of ended jobs."""

STATEMENTS: Final[Mapping[str, Statement]] = {name: statement(name, "carafe.store", _ANSWERED) for name in ACTIONS}
"""The SQL statement of each action, by the action's name. It returns the rows that it changed, in their state after the
change, with every column of a `JobRecord`."""


REFUSED = "the action is refused"
"""What the log says of an action whose hook failed."""


class _Target:
    __slots__ = ("id",)

    def __init__(self, job_id: UUID) -> None:
        self.id = job_id


async def act(
    database: Database,
    action: Action,
    ids: Sequence[UUID],
    *,
    reason: str | None = None,
    by: Actor | None = None,
    max_retries: int = 3,
    then: Callable[[Connection, Sequence[Row]], Awaitable[None]] | None = None,
) -> list[Row]:
    """Do an action to these jobs. `by` and `reason` are written to the audit; without `by` no audit row is written.

    `max_retries` applies to kinds that declare no number of retries. The function `then` is called with the changed rows
    before the commit, in the same transaction, so that it reads the jobs before anything else changes them. Returns the rows
    that changed. Raises `HookFailed` (the job whose hook failed is unchanged), `Unavailable` (nothing changed),
    `OutcomeUnknown` (the connection was lost at the commit), and asyncpg's ``UniqueViolationError`` when a live job holds
    the unique key of a job that would become live again.
    """
    change = STATEMENTS[action.name]
    values = values_of(action, reason=reason, by="an operator" if by is None else by.name, max_retries=max_retries)

    async def run(connection: Connection, targets: Sequence[_Target]) -> Sequence[Row]:
        given = {"ids": [target.id for target in targets], **values}
        if by is None and then is None and not connection.is_in_transaction():
            with told(commits=True):
                return await change.fetch(connection, **given)
        # With hooks there is a transaction already.
        async with nullcontext() if connection.is_in_transaction() else committed(connection):
            rows = await change.fetch(connection, **given)
            if rows and by is not None:
                await record_each(connection, by, action.name, [as_uuid(row["id"]) for row in rows], reason=reason)
            if then is not None:
                await then(connection, rows)
            return rows

    async def once() -> tuple[list[Row], list[tuple[_Target, HookFailed]]]:
        with told():
            return await move(database, [_Target(job_id) for job_id in ids], run, action.enters, then=REFUSED)

    rows, failed = await retried(once, database.pause)
    count_cancelled(rows)
    if failed:
        raise failed[0][1]
    return rows


def values_of(action: Action, *, reason: str | None, by: str, max_retries: int) -> dict[str, Any]:
    """The values for all parameters of the action's SQL statement except the ids.

    A statement may have the parameters `reason` (stored with the job; if no reason is given, it says who did the action),
    `by`, and two for the number of additional attempts that a job gets: `grants` for kinds that declare their retries,
    `grant_attempts` for the others.
    """
    given: dict[str, Callable[[], Any]] = {
        "reason": lambda: reason or f"{action.done} by {by}",
        "by": lambda: by,
        "grants": lambda: grants(),
        "grant_attempts": lambda: max_retries + 1,
    }
    return {name: given[name]() for name in STATEMENTS[action.name].parameters if name != "ids"}


def grants() -> str:
    """The number of attempts that a new job has, by kind, as a JSON object. It contains the kinds that this process knows
    and that declare `max_retries`."""
    declared = {kind: job_class.job_options.max_retries for kind, job_class in kinds().items()}
    return orjson.dumps({kind: retries + 1 for kind, retries in declared.items() if retries is not None}).decode()


def count_cancelled(rows: Sequence[Mapping[str, Any]]) -> None:
    """Add the cancelled jobs among these rows to the metrics. Call it after the commit."""
    for kind, count in Counter(row["kind"] for row in rows if row["state"] == State.CANCELLED).items():
        metrics.FINISHED.add((QUEUE, kind, "cancelled"), count)
