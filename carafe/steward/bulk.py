"""Works bulk actions off: the steward's side of carafe.jobs.bulk.

1. the running action that has waited longest gets a batch: at most 1,000 jobs, in one transaction
2. the batch's jobs are locked without waiting for anybody, changed, their hooks run, and the audit is written; the action's
   cursor and totals move in that same transaction. Whoever is killed leaves nothing half done, and the next one goes on
3. what somebody else holds at that moment is left for the next batch; what is gone, or in another state by then, is skipped
4. one bad hook fails its own job: the batch is then done again one by one, each in a savepoint of its own

Must never: touch a job that ended (or was created) after the action's cutoff, nor run ahead of its rate by more than two
seconds' worth.
"""

import math
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, ClassVar, cast
from uuid import UUID

import asyncpg

from carafe.database import AWAY, Database
from carafe.jobs.actions import count_cancelled, grants
from carafe.jobs.audit import Actor, record, record_each
from carafe.jobs.bulk import Action, BulkActionRecord, bulk_record
from carafe.jobs.moves import Connection, HookFailed, hooked, run_hooks
from carafe.jobs.queue import Queue
from carafe.jobs.records import as_uuid
from carafe.jobs.statements import (
    BULK_ADVANCE,
    BULK_DUE,
    BULK_LOCK,
    BULK_TROUBLE,
    CANCEL,
    DISCARD,
    RETRY,
    RUN_NOW,
    Statement,
)
from carafe.jobs.states import State
from carafe.steward.bulk_walk import Found, Target, Walk
from carafe.steward.promoter import hints_of
from carafe.steward.service import Service, log

BATCH = 1_000
"""Jobs in one transaction."""

HOOKED_BATCH = 100
"""The same where an application's hooks run in it: they hold the rows meanwhile."""

SPREAD = 0.5
"""Seconds' worth of a rate that one batch does."""

LOOK, LEAST_LOOK = 20_000, 500
"""Rows that one batch looks at, for such as meet the filter; fewer once that has taken too long."""

LONGEST_ERROR = 500


@dataclass(frozen=True, slots=True)
class _Way:
    """How an action is done to jobs: its statement, the state that it leads to (with hooks), its word in the audit."""

    statement: Statement
    enters: tuple[State, ...]
    word: str


_WAYS: Mapping[Action, _Way] = {
    "retry": _Way(RETRY, (State.QUEUED,), "retry"),
    "run_now": _Way(RUN_NOW, (State.QUEUED,), "run now"),
    "cancel": _Way(CANCEL, (State.CANCELLED,), "cancel"),
    "discard": _Way(DISCARD, (), "discard"),
}


@dataclass(slots=True)
class _Batch:
    """What a batch has come to. `moved` are the rows of the jobs that changed, `faults` say why others did not."""

    moved: list[Mapping[str, Any]] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    skipped: int = 0
    waits: bool = False
    """All that is left is held by somebody else."""


@dataclass(frozen=True, slots=True)
class _Transaction:
    """A batch's transaction: its connection, savepoints within it, how statements are planned by index (those of the
    pool always are), and how the hooks of a changed row run."""

    connection: Connection
    savepoint: Callable[[], AbstractAsyncContextManager[Any]]
    by_index: Callable[[], AbstractAsyncContextManager[Any]] = nullcontext
    hooks: Callable[[Mapping[str, Any]], Any] | None = None


class BulkWorker(Service):
    """See the module. `retries`: what a kind without a word of its own is granted at a retry, beside the first attempt."""

    name = "bulk"
    interval: ClassVar[float] = 0.5

    def __init__(self, database: Database, queue: Queue, *, retries: int = 3) -> None:
        super().__init__()
        self._database, self._queue, self._retries = database, queue, retries
        self._look = LOOK

    async def work(self) -> bool:
        async with self._database.connection() as connection:
            due = await connection.fetchrow(BULK_DUE.positional)
        if due is None:
            return False
        bulk_id, action = as_uuid(due["id"]), cast(Action, due["action"])
        try:
            batch = await self._batch(bulk_id, action)
        except (asyncpg.QueryCanceledError, *AWAY):
            # Postgres may be away; or the batch has looked at more than could be read in time.
            self._look = max(self._look // 4, LEAST_LOOK)
            raise
        except Exception as error:
            await self._say(bulk_id, f"{type(error).__name__}: {error}")
            raise
        if batch is None:
            return False
        self._look = min(self._look * 2, LOOK)
        count_cancelled(batch.moved)
        if State.QUEUED in _WAYS[action].enters:
            await self._queue.push(hints_of(batch.moved))
        elif any(row["state"] == State.RUNNING for row in batch.moved):
            await self._queue.announce_cancel()
        return not batch.waits

    async def _say(self, bulk_id: UUID, error: str) -> None:
        async with self._database.connection() as connection:
            arguments = BULK_TROUBLE.arguments(id=bulk_id, error=error[:LONGEST_ERROR])
            await connection.execute(BULK_TROUBLE.positional, *arguments)

    async def _batch(self, bulk_id: UUID, action: Action) -> _Batch | None:
        """One batch, committed. None: there is nothing to do for this action now."""
        way = _WAYS[action]
        with_hooks = bool(hooked(way.enters))
        async with (self._with_hooks if with_hooks else self._plain)() as transaction:
            row = await transaction.connection.fetchrow(BULK_LOCK.positional, bulk_id)
            if row is None:
                return None
            bulk = bulk_record(row)
            limit = HOOKED_BATCH if with_hooks else BATCH
            if bulk.rate is not None:
                limit = min(limit, max(1, math.ceil(bulk.rate * SPREAD)))
            walk = Walk(bulk, row["kept"])
            async with transaction.by_index():
                found = await walk.next(transaction.connection, limit, self._look)
            batch = _Batch(skipped=found.missing, waits=walk.through and not found.locked and not found.missing)
            await self._act(transaction, bulk, way, found, batch)
            await self._write_down(transaction.connection, bulk, way, walk, batch)
        return batch

    @asynccontextmanager
    async def _plain(self) -> AsyncIterator[_Transaction]:
        async with self._database.connection() as connection, connection.transaction():
            yield _Transaction(connection, connection.transaction)

    @asynccontextmanager
    async def _with_hooks(self) -> AsyncIterator[_Transaction]:
        async with self._database.hooked() as transaction:
            session = transaction.session

            @asynccontextmanager
            async def savepoint() -> AsyncIterator[None]:
                async with session.begin_nested():
                    await session.connection()  # only now does the savepoint begin
                    yield

            async def hooks(row: Mapping[str, Any]) -> None:
                await run_hooks(transaction, row)

            yield _Transaction(transaction.connection, savepoint, transaction.by_index, hooks)

    async def _act(self, transaction: _Transaction, bulk: BulkActionRecord, way: _Way, found: Found, batch: _Batch) -> None:
        batch.faults += [_held(job.id) for job in found.locked if job.held]
        jobs = [job for job in found.locked if not job.held]
        if not jobs:
            return
        before = len(batch.faults)
        try:
            batch.moved += await self._change(transaction, bulk, way, jobs)
        except (HookFailed, asyncpg.UniqueViolationError):
            for job in jobs:
                try:
                    batch.moved += await self._change(transaction, bulk, way, [job])
                except HookFailed as error:
                    batch.faults.append(str(error))
                except asyncpg.UniqueViolationError:
                    batch.faults.append(_held(job.id))
        batch.skipped += len(jobs) - len(batch.moved) - (len(batch.faults) - before)

    async def _change(
        self, transaction: _Transaction, bulk: BulkActionRecord, way: _Way, jobs: Sequence[Target]
    ) -> list[Mapping[str, Any]]:
        """Change these jobs, with their hooks, in a savepoint. Raises `HookFailed`, asyncpg's UniqueViolationError."""
        values: dict[str, Any] = {"ids": [job.id for job in jobs]}
        match bulk.action:
            case "retry":
                values |= {"grants": grants(job.kind for job in jobs), "grant_attempts": self._retries + 1}
            case "cancel":
                values["reason"] = bulk.reason or f"cancelled by {bulk.actor}"
            case "discard":
                values |= {"reason": bulk.reason, "by": bulk.actor}
        async with transaction.savepoint():
            async with transaction.by_index():
                rows = await transaction.connection.fetch(way.statement.positional, *way.statement.arguments(**values))
            if transaction.hooks is not None:
                for row in rows:
                    # A running job that was asked to stop comes back too, and has entered no state by that.
                    if row["state"] in way.enters:
                        await transaction.hooks(row)
        return list(rows)

    async def _write_down(
        self, connection: Connection, bulk: BulkActionRecord, way: _Way, walk: Walk, batch: _Batch
    ) -> None:
        if batch.moved:
            actor = Actor(bulk.actor, cast(Any, bulk.via))
            ids = [as_uuid(row["id"]) for row in batch.moved]
            await record_each(connection, actor, way.word, ids, reason=bulk.reason, bulk=bulk.id)
        arguments = BULK_ADVANCE.arguments(
            id=bulk.id,
            cursor=walk.cursor,
            done=len(batch.moved),
            skipped=batch.skipped,
            failed=len(batch.faults),
            error=batch.faults[-1][:LONGEST_ERROR] if batch.faults else None,
            finished=walk.finished,
        )
        row = await connection.fetchrow(BULK_ADVANCE.positional, *arguments)
        if walk.finished:
            totals = {name: row[name] for name in ("done", "skipped", "failed")}
            await record(connection, Actor("steward", "steward"), "bulk done", str(bulk.id), details=totals)
            log.info("bulk action done", id=str(bulk.id), action=bulk.action, **totals)


def _held(job_id: UUID) -> str:
    return f"job {job_id} cannot be retried while another live job holds its unique key"
