"""Carries out bulk actions: the steward's side of carafe.store.bulk.

1. the running action that has waited longest gets a batch: at most 1,000 jobs, in one transaction
2. the transaction locks the batch's jobs without waiting for a lock, changes them, runs their hooks and writes the audit; it
   also moves the action's cursor and totals. So a killed process leaves nothing half done, and the next process continues
3. jobs that others have locked are left for the next batch; jobs that are gone or in another state are skipped
4. if a hook raises, only the hook's own job is not changed: the batch's jobs are then changed one by one, each in its own
   savepoint

Must never: touch a job that ended (or was created) after the action's cutoff, or exceed the action's rate by more than the
jobs of two seconds.
"""

import math
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, ClassVar, cast
from uuid import UUID

import asyncpg

from carafe.jobs.actions import Action
from carafe.jobs.records import as_uuid
from carafe.jobs.states import State
from carafe.queue.queue import Queue
from carafe.steward.bulk_walk import Found, Target, Walk
from carafe.steward.promoter import hints_of
from carafe.steward.service import Service, log
from carafe.steward.statements import BULK_ADVANCE, BULK_DUE, BULK_LOCK, BULK_TROUBLE
from carafe.store.actions import REFUSED, STATEMENTS, count_cancelled, values_of
from carafe.store.audit import Actor, record, record_each
from carafe.store.bulk import BulkActionRecord, action_named, bulk_record
from carafe.store.database import AWAY, Connection, Database
from carafe.store.transitions import HookFailed, hooked, log_failure, run_hooks

BATCH = 1_000
"""The maximum number of jobs in one transaction."""

HOOKED_BATCH = 100
"""The maximum number of jobs in one transaction that also runs an application's hooks, since rows stay locked while hooks
run."""

SPREAD = 0.5
"""If the action has a rate, one batch has as many jobs as the rate allows in this many seconds."""

LOOK, LEAST_LOOK = 20_000, 500
"""One batch searches at most `LOOK` rows for jobs that meet the filter. After a search has taken too long, this number is
lowered, but not below `LEAST_LOOK`."""

LONGEST_ERROR = 500


@dataclass(slots=True)
class _Batch:
    """The result of a batch. `moved` has the rows of the jobs that were changed, `faults` the reasons why other jobs could
    not be changed."""

    moved: list[Mapping[str, Any]] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    skipped: int = 0
    waits: bool = False
    """Whether all remaining jobs are locked by others."""


@dataclass(frozen=True, slots=True)
class _Transaction:
    """A batch's transaction. `savepoint` opens a savepoint in it. While the context manager `by_index` is open, Postgres
    plans statements with index scans. On connections of the pool, Postgres always plans them in that way. `hooks` runs the
    hooks for a changed row; it is None if there are no hooks."""

    connection: Connection
    savepoint: Callable[[], AbstractAsyncContextManager[Any]]
    by_index: Callable[[], AbstractAsyncContextManager[Any]] = nullcontext
    hooks: Callable[[Mapping[str, Any]], Any] | None = None


class BulkWorker(Service):
    """The service that carries out bulk actions. `retries` is the number of further attempts that a bulk retry grants to
    jobs whose kind does not set its own number."""

    name = "bulk"
    interval: ClassVar[float] = 0.5

    def __init__(self, database: Database, queue: Queue, *, retries: int = 3) -> None:
        super().__init__()
        self._database, self._queue, self._retries = database, queue, retries
        self._look = LOOK

    async def work(self) -> bool:
        async with self._database.connection() as connection:
            due = await BULK_DUE.fetchrow(connection)
        if due is None:
            return False
        bulk_id = as_uuid(due["id"])
        try:
            action = action_named(due["action"])
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
        if State.QUEUED in action.enters:
            await self._queue.push(hints_of(batch.moved))
        elif any(row["state"] == State.RUNNING for row in batch.moved):
            await self._queue.announce_cancel()
        return not batch.waits

    async def _say(self, bulk_id: UUID, error: str) -> None:
        async with self._database.connection() as connection:
            await BULK_TROUBLE.execute(connection, id=bulk_id, error=error[:LONGEST_ERROR])

    async def _batch(self, bulk_id: UUID, action: Action) -> _Batch | None:
        """Do one batch of the action and commit it. Returns None when there is nothing to do for this action now."""
        with_hooks = bool(hooked(action.enters))
        async with (self._with_hooks if with_hooks else self._plain)() as transaction:
            row = await BULK_LOCK.fetchrow(transaction.connection, id=bulk_id)
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
            await self._act(transaction, bulk, action, found, batch)
            await self._write_down(transaction.connection, bulk, walk, batch)
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

    async def _act(
        self, transaction: _Transaction, bulk: BulkActionRecord, action: Action, found: Found, batch: _Batch
    ) -> None:
        batch.faults += [_held(action, job.id) for job in found.locked if job.held]
        jobs = [job for job in found.locked if not job.held]
        if not jobs:
            return
        before = len(batch.faults)
        try:
            batch.moved += await self._change(transaction, bulk, action, jobs)
        except (HookFailed, asyncpg.UniqueViolationError):
            for job in jobs:
                try:
                    batch.moved += await self._change(transaction, bulk, action, [job])
                except HookFailed as error:
                    log_failure(error, REFUSED)
                    batch.faults.append(str(error))
                except asyncpg.UniqueViolationError:
                    batch.faults.append(_held(action, job.id))
        batch.skipped += len(jobs) - len(batch.moved) - (len(batch.faults) - before)

    async def _change(
        self, transaction: _Transaction, bulk: BulkActionRecord, action: Action, jobs: Sequence[Target]
    ) -> list[Mapping[str, Any]]:
        """Change these jobs and run their hooks, in a savepoint. Returns the changed rows. Raises `HookFailed`, and
        asyncpg's UniqueViolationError when another live job holds a unique key."""
        ids = [job.id for job in jobs]
        values = values_of(action, reason=bulk.reason, by=bulk.actor, max_retries=self._retries)
        async with transaction.savepoint():
            async with transaction.by_index():
                rows = await STATEMENTS[action.name].fetch(transaction.connection, ids=ids, **values)
            if transaction.hooks is not None:
                for row in rows:
                    # A running job that was asked to stop comes back too, and has entered no state by that.
                    if row["state"] in action.enters:
                        await transaction.hooks(row)
        return list(rows)

    async def _write_down(self, connection: Connection, bulk: BulkActionRecord, walk: Walk, batch: _Batch) -> None:
        if batch.moved:
            actor = Actor(bulk.actor, cast(Any, bulk.via))
            ids = [as_uuid(row["id"]) for row in batch.moved]
            await record_each(connection, actor, bulk.action, ids, reason=bulk.reason, bulk=bulk.id)
        row = await BULK_ADVANCE.fetchrow(
            connection,
            id=bulk.id,
            cursor=walk.cursor,
            done=len(batch.moved),
            skipped=batch.skipped,
            failed=len(batch.faults),
            error=batch.faults[-1][:LONGEST_ERROR] if batch.faults else None,
            finished=walk.finished,
        )
        if walk.finished and row is not None:
            totals = {name: row[name] for name in ("done", "skipped", "failed")}
            await record(connection, Actor("steward", "steward"), "bulk done", str(bulk.id), details=totals)
            log.info("bulk action done", id=str(bulk.id), action=bulk.action, **totals)


def _held(action: Action, job_id: UUID) -> str:
    return f"job {job_id} cannot be {action.done} while another live job holds its unique key"
