"""What is done to jobs by id from outside (cancel, retry, run now, discard): with their hooks, and with the audit row of
whoever does it, in one transaction."""

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, cast
from uuid import UUID

import orjson

from carafe import metrics
from carafe.database import Database, committed, retried, told
from carafe.jobs.audit import Actor, record_each
from carafe.jobs.definition import kinds
from carafe.jobs.hints import QUEUE
from carafe.jobs.moves import Connection, HookFailed, move
from carafe.jobs.records import as_uuid
from carafe.jobs.statements import Statement
from carafe.jobs.states import State


class _Target:
    __slots__ = ("id",)

    def __init__(self, job_id: UUID) -> None:
        self.id = job_id


@dataclass(frozen=True, slots=True)
class Deed:
    """What somebody does, for the audit."""

    by: Actor
    action: str
    reason: str | None = None

    @classmethod
    def of(cls, by: Actor | None, action: str, reason: str | None) -> "Deed | None":
        """None when nobody is named."""
        return None if by is None else cls(by, action, reason)


async def act(
    database: Database,
    statement: Statement,
    ids: Sequence[UUID],
    states: Sequence[State],
    *,
    deed: Deed | None = None,
    then: Callable[[Connection, Sequence[Mapping[str, Any]]], Awaitable[None]] | None = None,
    **values: Any,
) -> list[Mapping[str, Any]]:
    """Run one of cancel.sql, retry.sql, run_now.sql, discard.sql for these jobs; `states` are what it can lead to.

    `then` looks at the changed rows before the commit, in its transaction: what is to be answered of them must not depend on
    what comes after it. Returns the rows that changed. Raises `HookFailed` (nothing of that job changed), `Unavailable`
    (nothing changed), `OutcomeUnknown` (the commit was lost).
    """

    async def run(connection: Connection, targets: Sequence[_Target]) -> Sequence[Mapping[str, Any]]:
        arguments = statement.arguments(ids=[target.id for target in targets], **values)
        if deed is None and then is None and not connection.is_in_transaction():
            with told(commits=True):
                return cast(Sequence[Mapping[str, Any]], await connection.fetch(statement.positional, *arguments))
        # With hooks there is a transaction already.
        async with nullcontext() if connection.is_in_transaction() else committed(connection):
            rows = cast(Sequence[Mapping[str, Any]], await connection.fetch(statement.positional, *arguments))
            if rows and deed is not None:
                changed = [as_uuid(row["id"]) for row in rows]
                await record_each(connection, deed.by, deed.action, changed, reason=deed.reason)
            if then is not None:
                await then(connection, rows)
            return rows

    async def once() -> tuple[list[Mapping[str, Any]], list[tuple[_Target, HookFailed]]]:
        with told():
            return await move(database, [_Target(job_id) for job_id in ids], run, states)

    rows, failed = await retried(once)
    count_cancelled(rows)
    if failed:
        raise failed[0][1]
    return rows


def count_cancelled(rows: Sequence[Mapping[str, Any]]) -> None:
    """Count the jobs among these rows that were cancelled, once that is committed."""
    for kind, count in Counter(row["kind"] for row in rows if row["state"] == State.CANCELLED).items():
        metrics.FINISHED.add((QUEUE, kind, "cancelled"), count)


def grants(of: Iterable[str]) -> str:
    """What retry.sql grants to jobs of these kinds, as JSON: as many attempts as a new job of the kind has.

    Kinds that say nothing, or that this process does not know, are left out: the caller's default holds for them.
    """
    found: dict[str, int] = {}
    for kind in set(of):
        job_class = kinds().get(kind)
        if job_class is not None and job_class.job_options.max_retries is not None:
            found[kind] = job_class.job_options.max_retries + 1
    return orjson.dumps(found).decode()
