"""The client: enqueues jobs, follows them, acts on them. Use one client per process; the tasks of one event loop may share
it.

Guarantees: when `enqueue` returns, the job is committed (or belongs to the caller's own transaction). A hint, which tells
the workers about the job, is pushed to Redis after the commit, and never after a rollback. While Redis is down, no job is
lost; only an occasional enqueue takes longer, by 250 ms.
"""

import asyncio
import contextlib
import math
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar, Unpack, cast, overload
from uuid import UUID

import asyncpg

from carafe.client.editing import edited
from carafe.client.sessions import count_accepted, own_session, push_after_commit
from carafe.jobs.actions import Action, ActionName, refusal
from carafe.jobs.definition import Job, job_class
from carafe.jobs.errors import (
    InvalidOption,
    JobNotFound,
    NotAllowedInState,
    OutcomeUnknown,
    QueueNotFound,
    Unavailable,
    WorkerNotFound,
)
from carafe.jobs.identifiers import id_of
from carafe.jobs.new_job import Limits, NewJob
from carafe.jobs.numbers import number_of_seconds
from carafe.jobs.options import EnqueueOptions, checked_text
from carafe.jobs.outcomes import Seconds
from carafe.jobs.queue_name import QUEUE
from carafe.jobs.records import Enqueued, JobRecord, KindRecord, Page, QueueRecord, StackRecord, as_uuid
from carafe.jobs.states import State, StateName, states_of
from carafe.jobs.typed_results import typed_result
from carafe.queue.hints import Hint, stamp_of
from carafe.queue.queue import Queue
from carafe.store import bulk as bulk_actions
from carafe.store import pages, paused_kinds, stacks
from carafe.store.acceptance import Acceptance
from carafe.store.actions import act
from carafe.store.audit import Actor, checked_actor, checked_reason, entry, record_each
from carafe.store.bulk import BulkActionRecord
from carafe.store.counting import count_live
from carafe.store.database import CONFLICTS, Connection, Database, committed, migrated, retried, told
from carafe.store.enqueueing import Batch, Plan, prepare, prepare_one, store
from carafe.store.filters import JobFilter
from carafe.store.keyset import weighs
from carafe.store.paused_kinds import checked_kind
from carafe.store.reading import Found, find_job, found_in
from carafe.store.statement import Row, Statement
from carafe.store.statements import (
    AUDIT,
    DRAIN_WORKER,
    GET,
    PAUSE,
    QUEUES,
    REHINT,
    RESUME,
    RESUME_HINTS,
)
from carafe.store.waiting import hints_for, may_wait, sentence
from carafe.telemetry import metrics
from carafe.telemetry.loggers import get_logger
from carafe.texts import shown
from carafe.tracing import sending

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session
    from sqlalchemy.orm import Session, scoped_session

    from carafe.settings.settings import Settings


log = get_logger("carafe.client")

T = TypeVar("T")
R = TypeVar("R")

AFTERWARDS = 2.0
"""The maximum number of seconds for which work after a commit may delay the caller."""

RESUMED_AT_ONCE = 1000
"""The maximum number of jobs whose hints a pause or resume pushes itself. The steward pushes the hints of the others."""

STACK_EVERY = 0.2
"""Seconds between two looks whether a worker has answered where its job is."""

TRYING = 0.25
"""Seconds for which `Client.find` searches when there is no index for its filter."""

COMMAND_TIMEOUT = 5.0
"""Seconds that a client made by `Client.from_settings` waits for one statement. It is short, because callers are waiting."""

MOVING = 3
"""How many times an action on a job is tried when the job's state changes during each try."""

LOCK_TIMEOUT = 4.0
"""Seconds that a statement waits for a lock. This is less than `COMMAND_TIMEOUT`, so that Postgres itself reports the
lock."""


class Client:
    """Enqueues, follows and finds jobs, and acts on a single job or on many. Use it as an async context manager, or call
    `close` at the end."""

    def __init__(
        self, database: Database, queue: Queue, *, limits: Limits | None = None, max_replicas: int | None = None
    ) -> None:
        """`max_replicas` is the greatest number of workers that the autoscaler starts, or None if it is not known."""
        self.database = database
        self.queue = queue
        self.limits = limits or Limits()
        self.max_replicas = max_replicas
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pushes: set[asyncio.Task[Any]] = set()
        self.acceptance = Acceptance(database.url)
        """Checks whether Postgres would accept a job now."""

    @classmethod
    def connect(cls, *, database_url: str, redis_url: str, limits: Limits | None = None, pool_size: int = 10) -> Self:
        """A client for these servers. It connects at first use."""
        database = Database(database_url, pool_size=pool_size, name="carafe client", by_index=True)
        return cls(database, Queue(redis_url), limits=limits)

    @classmethod
    def from_settings(cls, settings: "Settings") -> Self:
        """A client for the servers and limits in the settings. Raises `InvalidOption` unless DATABASE_URL and REDIS_URL are
        set."""
        if settings.database_url is None or settings.redis_url is None:
            raise InvalidOption("settings", "DATABASE_URL and REDIS_URL must be set")
        return cls(
            Database(
                settings.database_url.get_secret_value(),
                pool_size=settings.database_pool_size,
                name="carafe",
                command_timeout=COMMAND_TIMEOUT,
                by_index=True,
                lock_timeout=LOCK_TIMEOUT,
            ),
            Queue(settings.redis_url.get_secret_value(), timeout=settings.redis_timeout),
            limits=Limits.of(settings),
            max_replicas=settings.worker_max_replicas,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Wait at most a second for pushes of hints that have begun, then close all connections."""
        if self._pushes:
            await asyncio.wait(self._pushes, timeout=1)
        await self.acceptance.close()
        await self.queue.close()
        await self.database.close()

    # -- getting jobs in

    async def enqueue(
        self,
        job: Job[R],
        *,
        session: "AsyncSession | Session | async_scoped_session[Any] | scoped_session[Any] | None" = None,
        idempotency_key: str | None = None,
        scope: str = "",
        trace: str | None = None,
        created_by: str | None = None,
        by: Actor | None = None,
        **options: Unpack[EnqueueOptions],
    ) -> Enqueued[R]:
        """Store a job, to be run by a worker. Without `session` the job is committed when this returns; with a session, when
        the session commits. `session` is a SQLAlchemy ``AsyncSession`` or ``Session``, or a scoped one; anything else,
        including a connection, is refused before any statement.

        `options` are those of `EnqueueOptions`. `run_at` (a datetime with time zone) or `delay` (seconds or timedelta)
        schedule the job for later. `unique_key`: at most one live job holds a key; if there is one already, it is returned
        with ``existing=True``. `idempotency_key`: a repeated request with the same key in the same `scope` enqueues no
        second job. `trace`: a W3C traceparent to continue, if that is not OpenTelemetry's current span. `by`: the person who
        enqueues the job; an audit row with this name is then written.

        Raises `InvalidArguments`, `PayloadTooLarge`, `InvalidOption`, `IdempotencyConflict`, `NotMigrated`, `Unavailable`
        (nothing stored) or `OutcomeUnknown` (repeat with the same idempotency key).
        """
        new = NewJob(job, **options)
        with sending(trace) as span:
            batch = prepare_one(new, self.limits, idempotency_key=idempotency_key, trace=span.trace, created_by=created_by)
            written = None if by is None else entry(by, "enqueue", {str(batch.ids[0]): {"kind": batch.kinds[0]}})
            return span.sent(await self._store(batch, session, scope, idempotency_key, written))[0]

    async def enqueue_many(
        self,
        jobs: Iterable[Job | NewJob],
        *,
        session: "AsyncSession | Session | async_scoped_session[Any] | scoped_session[Any] | None" = None,
        idempotency_key: str | None = None,
        scope: str = "",
        trace: str | None = None,
        created_by: str | None = None,
    ) -> list[Enqueued]:
        """Store thousands of jobs in one statement, all or none. A `NewJob` is a job with options of its own.

        Raises like `enqueue`, and `BulkInvalid`, which has the invalid jobs' errors by index.
        """
        items = list(jobs)
        with sending(trace, len(items)) as span:
            batch = prepare(
                items,
                self.limits,
                idempotency_key=idempotency_key,
                trace=span.trace,
                trace_of_rest=span.rest,
                created_by=created_by,
            )
            return span.sent(await self._store(batch, session, scope, idempotency_key)) if items else []

    async def _store(
        self,
        batch: Batch,
        session: "AsyncSession | Session | async_scoped_session[Any] | scoped_session[Any] | None",
        scope: str,
        idempotency_key: str | None,
        written: Mapping[str, Any] | None = None,
    ) -> list[Enqueued]:
        """Store a batch of jobs. If at least one of them is new, also write the audit rows `written`, if any are given."""
        if session is not None:
            answers, hints, owner = await _store_in_session(
                self._plan(batch, scope, idempotency_key, written), self._own_session(session)
            )
            push_after_commit(owner, hints, self._push_from_commit, accepted(answers))
            return answers
        simple = idempotency_key is None and written is None and not any(batch.unique_keys)

        async def once() -> tuple[list[Enqueued], list[Hint]]:
            async with self.database.connection() as connection:
                plan = self._plan(batch, scope, idempotency_key, written)
                return await (_in_one_statement if simple else _in_transaction)(connection, plan)

        with _timed(len(batch.ids)):
            try:
                answers, hints = await retried(once, self.database.pause)
            except Unavailable as error:
                self.acceptance.refused(error)
                raise
        self.acceptance.accepted()
        count_accepted(Counter(batch.kinds) if simple else accepted(answers))
        await self._afterwards(self.queue.push(hints))
        return answers

    def _plan(self, batch: Batch, scope: str, idempotency_key: str | None, written: Mapping[str, Any] | None) -> Plan:
        plan = store(batch, scope=scope, idempotency_key=idempotency_key, ttl=self.limits.idempotency_ttl)
        return plan if written is None else audited(plan, written)

    def _own_session(self, session: Any) -> "AsyncSession | Session":
        """The caller's session. Notes the event loop on which its hints can be pushed."""
        self._loop = asyncio.get_running_loop()
        return own_session(session)

    async def _afterwards(self, work: Awaitable[Any]) -> None:
        """Do `work` that remains after a commit. An error in it is only logged, since the steward does the work later: only
        the commit decides whether the caller's call succeeds."""
        try:
            await work
        except Exception:
            log.exception("work after a commit failed; the steward does it later")

    def _push_from_commit(self, hints: Sequence[Hint]) -> None:
        """Push hints during a session's commit. Works for any kind of session, and from any thread."""
        from sqlalchemy.util.concurrency import await_, in_greenlet

        if in_greenlet():
            await_(self.queue.push(hints))
            return
        assert self._loop is not None
        try:
            running = asyncio.get_running_loop()
        except RuntimeError:
            running = None
        if running is self._loop:
            task = running.create_task(self.queue.push(hints))
            self._pushes.add(task)
            task.add_done_callback(self._pushes.discard)
        elif self._loop.is_running():
            asyncio.run_coroutine_threadsafe(self.queue.push(hints), self._loop)

    # -- reading

    @overload
    async def get(self, job_id: Enqueued[R]) -> JobRecord[R | None]: ...
    @overload
    async def get(self, job_id: UUID) -> JobRecord: ...
    async def get(self, job_id: UUID | Enqueued[Any]) -> JobRecord[Any]:
        """A job with its failed attempts: the newest 200, with some 500,000 characters of errors and tracebacks at most.
        If the job waits, `JobRecord.note` says why.

        Pass the answer of `enqueue` instead of the id, and the result has the type that the job's class declares. Raises
        `JobNotFound`, `Unavailable`, `InvalidResult`, and `InvalidOption` if `job_id` is not an id.
        """
        async with self._connected() as connection:
            found = await self._found(connection, id_of(job_id))
        record = found.record
        if may_wait(found.row):
            # Redis is asked at the same time and may be slow; no database connection is held while waiting for it.
            hints = await hints_for(found.row, self.queue)
            async with self._connected() as connection:
                note = await sentence(connection, found.row, hints, max_replicas=self.max_replicas)
            record = replace(record, note=note)
        if isinstance(job_id, Enqueued):
            return replace(record, result=typed_result(job_class(job_id.kind), record.result))
        return record

    async def _found(self, connection: Connection, job_id: UUID) -> Found:
        found = await find_job(connection, job_id)
        if found is None:
            raise JobNotFound(job_id)
        return found

    async def find(
        self,
        wanted: JobFilter | None = None,
        *,
        states: Iterable[State | StateName] = (),
        kind: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        cursor: str | None = None,
        limit: int = 50,
        longest: int | None = None,
    ) -> Page:
        """One page of the jobs that match the filter `wanted` (None: all), newest first: live jobs by their creation, ended
        jobs by their end.

        `states`, `kind`, `since` and `until` override those fields of `wanted`. `limit` is at most 500. `longest` is a
        number of characters: longer arguments and results are left out, and longer texts are shortened; see `JobRecord.cut`.
        If no index serves the filter, only the newest jobs are searched, for `TRYING` seconds; see `Page.searched_to`.

        Raises `Unavailable`, and `InvalidOption` for a cursor of another list, a state that does not exist, and a value of
        another type.
        """
        given = {"states": frozenset(states_of(states)) or None, "kind": kind, "since": since, "until": until}
        changed: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        if not isinstance(wanted, JobFilter | None):
            raise InvalidOption("wanted", f"must be a JobFilter (got {shown(wanted)})")
        wanted = replace(wanted or JobFilter(), **changed)
        wanted.check()
        async with self._connected() as connection:
            live = await count_live(connection) if weighs(wanted) else {}
            return await pages.page(connection, wanted, live, cursor=cursor, limit=limit, seconds=TRYING, longest=longest)

    async def queues(self) -> list[QueueRecord]:
        """Every queue, with the numbers of its jobs by state."""
        async with self._connected() as connection:
            return [QueueRecord(**row) for row in await QUEUES.fetch(connection)]

    # A parameter called `timeout` is what callers expect, so the lint rule against it is switched off.
    @overload
    async def wait(self, job_id: Enqueued[R], *, timeout: Seconds | None = None) -> JobRecord[R | None]: ...  # noqa: ASYNC109
    @overload
    async def wait(self, job_id: UUID, *, timeout: Seconds | None = None) -> JobRecord: ...  # noqa: ASYNC109
    async def wait(self, job_id: UUID | Enqueued[Any], *, timeout: Seconds | None = None) -> JobRecord[Any]:  # noqa: ASYNC109
        """Wait until a job has ended, and return it. Raises `TimeoutError` after `timeout` (seconds or timedelta), and like
        `get`.

        Pass the answer of `enqueue` instead of the id, and the result has the type that the job's class declares. The result
        of a job that did not succeed is None. Nothing is raised for a job that ended ``dead`` or ``cancelled``: look at
        `state`.
        """
        wanted = id_of(job_id)
        given = None if timeout is None else number_of_seconds(timeout)
        if given is not None and math.isnan(given):
            raise InvalidOption("timeout", f"must be seconds: a number or a timedelta (got {shown(timeout)})")
        pause = 0.02
        async with self.database.within(given):
            while True:
                async with self._connected() as connection:
                    row = await GET.fetchrow(connection, id=wanted)
                if row is None:
                    raise JobNotFound(wanted)
                if State.stored(row["state"]).ended:
                    return await self.get(job_id)
                await self.database.pause(pause)
                pause = min(pause * 1.5, 0.5)

    # -- acting

    async def act(
        self, action: ActionName, job_id: UUID, *, reason: str | None = None, by: Actor | None = None
    ) -> JobRecord:
        """Do one of the operators' actions (`carafe.jobs.actions.ACTIONS`) to a job, and return the changed job.

        `by` is the person who acts: an audit row that names them is written in the same transaction. Without `by`, no audit
        row is written. Raises `JobNotFound`, `NotAllowedInState`, `HookFailed`, `Unavailable`, `OutcomeUnknown`,
        `InvalidOption`.
        """
        job_id = id_of(job_id)
        wanted = bulk_actions.action_named(action)
        reason = checked_reason(reason, needed=wanted.reason_needed)
        by = checked_actor(by)
        tries = MOVING
        while (done := await self._done(wanted, job_id, reason, by)) is None:
            tries -= 1
            _refuse(wanted, await self.get(job_id), last=not tries)
        row, record = done
        await self._afterwards(self.queue.push(_hints([row])))
        if record.state is State.RUNNING:
            await self._afterwards(self.queue.announce_cancel())
        return record

    async def _done(
        self, action: Action, job_id: UUID, reason: str | None, by: Actor | None
    ) -> tuple[Row, JobRecord] | None:
        """Do the action. Returns the changed row and the whole job, both as they were in that transaction, or None when
        nothing was changed."""
        record: JobRecord | None = None

        async def answered(connection: Connection, rows: Sequence[Row]) -> None:
            nonlocal record
            record = (await found_in(connection, rows[0])).record if rows else None

        retries = self.limits.max_retries
        try:
            rows = await act(self.database, action, [job_id], reason=reason, by=by, max_retries=retries, then=answered)
        except asyncpg.UniqueViolationError:
            held = f"{action.done} while another live job holds its unique key"
            raise NotAllowedInState(held, job_id, (await self.get(job_id)).state) from None
        return None if record is None else (rows[0], record)

    async def cancel(self, job_id: UUID, *, reason: str | None = None, by: Actor | None = None) -> JobRecord:
        """Cancel a job. A waiting job ends at once. A running job is asked to stop, and ends as soon as its worker has
        stopped it.

        Raises like `act`.
        """
        return await self.act("cancel", job_id, reason=reason, by=by)

    async def retry(self, job_id: UUID, *, reason: str | None = None, by: Actor | None = None) -> JobRecord:
        """Run a dead job again, with as many additional attempts as a new job of its kind has. For a waiting job, see
        `run_now`.

        `attempt` and `fence` stay as they are, and `max_attempts` rises. Raises like `act`, and also raises
        `NotAllowedInState` when another live job holds the unique key.
        """
        return await self.act("retry", job_id, reason=reason, by=by)

    async def run_now(self, job_id: UUID, *, reason: str | None = None, by: Actor | None = None) -> JobRecord:
        """Run a scheduled or retrying job at once. Raises like `act`."""
        return await self.act("run_now", job_id, reason=reason, by=by)

    async def discard(self, job_id: UUID, *, reason: str, by: Actor | None = None) -> JobRecord:
        """Discard a dead job: it then counts as resolved, and no longer as one of the dead jobs. Until its retention ends,
        it can still be found and retried. `reason` is stored with the job. Raises like `act`."""
        return await self.act("discard", job_id, reason=reason, by=by)

    async def edit_and_run(
        self,
        job_id: UUID,
        args: Mapping[str, Any],
        keep_secrets: Sequence[str] = (),
        *,
        run_at: datetime | None = None,
        by: Actor | None = None,
    ) -> Enqueued:
        """Enqueue a new job of the same kind with other arguments; the old job stays as it is.

        `keep_secrets` are JSON pointers (``/password``) to secrets whose stored values are kept; `args` may hold anything at
        these places. The new job has the options of its class, and no unique key. With `by`, each of the two jobs gets an
        audit row that names the other job; that of the new job also names the changed arguments and the kept secrets,
        without values. Raises like `enqueue`, and `JobNotFound`.
        """
        job_id, by = id_of(job_id), checked_actor(by)
        async with self._connected() as connection:
            row = await GET.fetchrow(connection, id=job_id)
        if row is None:
            raise JobNotFound(job_id)
        edit = edited(row, args, keep_secrets)
        batch = prepare_one(NewJob(edit.job, run_at=run_at), self.limits, created_by=by.name if by else row["created_by"])
        written = None
        if by is not None:
            new_id = str(batch.ids[0])
            details: dict[str, Any] = {"origin": str(job_id), "changed": edit.changed, "kept_secrets": edit.kept}
            written = entry(by, "edit and run", {new_id: details, str(job_id): {"new": new_id}})
        return (await self._store(batch, None, "", None, written))[0]

    async def pause(self, queue: str = QUEUE, *, reason: str | None = None, by: Actor | None = None) -> QueueRecord:
        """Pause a queue: until `resume`, none of its jobs is started, and no workers are requested for it. Jobs can still be
        enqueued, and running jobs finish. The pause is stored in Postgres and survives a loss of Redis. Pausing a paused
        queue changes nothing, not even the reason. Returns the queue, which says so (`unchanged`). Raises `QueueNotFound`,
        `InvalidOption`, `Unavailable`.
        """
        reason, by = checked_reason(reason), checked_actor(by)
        record = await self._set(queue, PAUSE, "pause", reason, by, {"reason": reason, "by": by.name if by else None})
        if queue == QUEUE:
            await self._afterwards(self._empty("a paused queue's list was not emptied; the steward will empty it"))
        return record

    async def resume(self, queue: str = QUEUE, *, reason: str | None = None, by: Actor | None = None) -> QueueRecord:
        """End the pause of a queue, so that its jobs start again. The hints of the first thousand jobs are pushed before
        this method returns, unless that takes too long. The steward pushes all other hints, as it does with lost ones.
        Resuming a queue that is not paused changes nothing. Returns the queue, which says so (`unchanged`). Raises
        like `pause`."""
        record = await self._set(queue, RESUME, "resume", checked_reason(reason), by, {})
        if queue == QUEUE:
            await self._afterwards(self._hint(RESUME_HINTS, queue=queue))
        return record

    async def _empty(self, otherwise: str) -> None:
        """Remove the hints after a pause. `otherwise` is logged if Redis does not do it."""
        if (error := await self.queue.empty()) is not None:
            log.warning(otherwise, error=error)

    async def _hint(self, which: Statement, **values: Any) -> None:
        """Push the hints of the first `RESUMED_AT_ONCE` jobs that the statement returns, after a pause or resume."""
        try:
            async with self.database.within(AFTERWARDS), self._connected() as connection:
                rows = await which.fetch(connection, **values, limit=RESUMED_AT_ONCE)
        except (Unavailable, TimeoutError, *CONFLICTS) as error:
            log.warning("hints are late; the steward pushes them", error=type(error).__name__)
            return
        await self.queue.push(_hints(rows))

    async def pause_kind(self, kind: str, *, reason: str | None = None, by: Actor | None = None) -> KindRecord:
        """Pause one kind: until `resume_kind`, none of its jobs is started, and no workers are requested for them. Jobs of
        the kind can still be enqueued, and running ones finish; other kinds go on. Pausing a paused kind changes nothing,
        not even the reason. Returns the kind, which says so (`unchanged`). Raises `KindNotFound`, `InvalidOption`,
        `Unavailable`.
        """
        reason, by = checked_reason(reason), checked_actor(by)
        checked_kind(kind)
        record = await self._in_transaction(lambda connection: paused_kinds.pause(connection, kind, reason=reason, by=by))
        if not record.unchanged:
            # Its hints lie between those of other kinds. So the list is emptied, and the others get new hints, the first at
            # once; the steward sees to the rest, as after a loss of Redis.
            await self._afterwards(self._empty("hints of a paused kind stay in Redis; workers drop them"))
            await self._afterwards(self._hint(RESUME_HINTS, queue=QUEUE))
        return record

    async def resume_kind(self, kind: str, *, reason: str | None = None, by: Actor | None = None) -> KindRecord:
        """End the pause of a kind, so that its jobs start again. The hints of the first thousand jobs are pushed before this
        method returns, if that is quick enough; the steward pushes the others. Resuming a kind that is not paused changes
        nothing. Returns the kind, which says so (`unchanged`). Raises like `pause_kind`. A paused kind can be resumed
        even if nobody knows it any more."""
        reason, by = checked_reason(reason), checked_actor(by)
        checked_kind(kind)
        record = await self._in_transaction(lambda connection: paused_kinds.resume(connection, kind, reason=reason, by=by))
        await self._afterwards(self._hint(REHINT))
        return record

    async def paused_kinds(self) -> list[KindRecord]:
        """The kinds that are paused, in alphabetical order. Raises `Unavailable`."""
        async with self._connected() as connection:
            return await paused_kinds.paused_kinds(connection)

    async def drain_worker(self, worker_id: UUID, *, reason: str | None = None, by: Actor | None = None) -> datetime:
        """Ask a worker to drain as at SIGTERM: to claim no new jobs, finish or release the ones it has, and exit.

        The worker sees the request within about a second. On Kubernetes, its container is then restarted. Returns the time
        at which the drain was first requested. Raises `WorkerNotFound`, `InvalidOption`, `Unavailable`.
        """
        reason, by, worker_id = checked_reason(reason), checked_actor(by), id_of(worker_id, "worker_id")

        async def drain(connection: Connection) -> datetime:
            row = await DRAIN_WORKER.fetchrow(connection, id=worker_id)
            if row is None:
                raise WorkerNotFound(worker_id)
            if by is not None:
                await record_each(connection, by, "drain worker", {str(worker_id): {"name": row["name"]}}, reason=reason)
            return cast(datetime, row["drain_requested_at"])

        since = await self._in_transaction(drain)
        await self._afterwards(self.queue.announce_cancel())
        return since

    async def stack(self, job_id: UUID, *, timeout: float = 5.0) -> StackRecord:  # noqa: ASYNC109
        """Ask a running job's worker where the job is: at which lines of code. Waits for the answer for `timeout` seconds;
        if there is none by then, the record says so (`answered_at` is None). A worker answers within about a second, also
        when the job blocks its event loop; a child process whose handler is in a function in C answers when that returns.

        Raises `JobNotFound`, `NotAllowedInState` (the job does not run), `InvalidOption`, `Unavailable`.
        """
        job_id, limit = id_of(job_id), number_of_seconds(timeout)
        if not limit >= 0:
            raise InvalidOption("timeout", f"must be a number of seconds, 0 or more (got {shown(timeout)})")
        record = await self._in_transaction(lambda connection: stacks.ask(connection, job_id))
        await self._afterwards(self.queue.announce_cancel())
        until = time.monotonic() + limit
        while record.answered_at is None and time.monotonic() < until:
            await self.database.pause(STACK_EVERY)
            async with self._connected() as connection:
                record = await stacks.read(connection, job_id) or record
        return record

    # -- acting on many

    async def start_bulk(
        self,
        action: ActionName,
        wanted: JobFilter,
        *,
        rate: float | None = None,
        reason: str | None = None,
        by: Actor,
    ) -> BulkActionRecord:
        """Start a bulk action: an operators' action on all jobs that match the filter now. The steward carries it out.

        `rate` is in jobs a second. Without a rate, a retry of more than 1,000 jobs gets a rate of 50. A discard needs a
        `reason`. The filter is narrowed to the states that the action is for (see `carafe.store.bulk.narrow`). Raises
        `InvalidOption`, `Unavailable`.
        """
        return await self._in_transaction(
            lambda connection: bulk_actions.start(connection, action, wanted, rate=rate, reason=reason, by=by)
        )

    async def bulk(self, bulk_id: UUID) -> BulkActionRecord:
        """A bulk action as it stands now. Raises `BulkActionNotFound`, `Unavailable`."""
        async with self._connected() as connection:
            return await bulk_actions.get(connection, id_of(bulk_id, "bulk_id"))

    async def bulks(self, limit: int = 50) -> list[BulkActionRecord]:
        """The latest bulk actions, newest first. `limit` is at most 500. Raises `InvalidOption`, `Unavailable`."""
        async with self._connected() as connection:
            return await bulk_actions.latest(connection, limit)

    async def pause_bulk(self, bulk_id: UUID, *, by: Actor) -> BulkActionRecord:
        """Pause a bulk action until `resume_bulk`. A batch that is under way is still completed.

        Raises `BulkActionNotFound`, `BulkActionEnded`, `Unavailable`.
        """
        return await self._steered(bulk_id, "bulk pause", by)

    async def resume_bulk(self, bulk_id: UUID, *, by: Actor) -> BulkActionRecord:
        """Resume a paused bulk action. Raises like `pause_bulk`."""
        return await self._steered(bulk_id, "bulk resume", by)

    async def cancel_bulk(self, bulk_id: UUID, *, by: Actor) -> BulkActionRecord:
        """End a bulk action early: no further jobs are changed, and those that were already changed are left so. Raises like
        `pause_bulk`."""
        return await self._steered(bulk_id, "bulk cancel", by)

    async def _steered(self, bulk_id: UUID, move: bulk_actions.Move, by: Actor) -> BulkActionRecord:
        wanted = id_of(bulk_id, "bulk_id")
        return await self._in_transaction(lambda connection: bulk_actions.steer(connection, wanted, move, by=by))

    async def _set(
        self,
        queue: str,
        statement: Statement,
        action: str,
        reason: str | None,
        by: Actor | None,
        values: Mapping[str, Any],
    ) -> QueueRecord:
        checked_actor(by)
        if checked_text(queue, "queue") is None:
            raise InvalidOption("queue", "must be a queue's name (got None)")

        async def change(connection: Connection) -> Row:
            row = await statement.fetchrow(connection, name=queue, **values)
            if row is None:
                raise QueueNotFound(queue)
            if by is not None:
                details = {"unchanged": True} if row["unchanged"] else {}
                await record_each(connection, by, action, {queue: details}, reason=reason)
            return row

        changed = await self._in_transaction(change)
        try:
            async with self.database.within(AFTERWARDS):
                found = next(record for record in await self.queues() if record.name == queue)
                return replace(found, unchanged=changed["unchanged"])
        except (Unavailable, TimeoutError, StopIteration, *CONFLICTS) as error:
            said = "a queue was changed, but its jobs could not be counted in time"
            log.warning(said, queue=queue, error=type(error).__name__)
        numbers = dict.fromkeys(("queued", "held", "running", "scheduled", "retrying", "dead", "oldest_wait"))
        return QueueRecord(**numbers, **changed)  # type: ignore[arg-type]

    @contextlib.asynccontextmanager
    async def _connected(self) -> Any:
        """A connection for statements that only read, or that commit by themselves and can be repeated safely. Postgres's
        errors are translated into the library's."""
        async with self.database.connection() as connection:
            with told():
                yield connection

    async def _in_transaction(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """Runs `work` in a transaction, and runs it again if that conflicts with another transaction. Returns the result of
        `work` after the commit."""

        async def once() -> T:
            async with self.database.connection() as connection, committed(connection):
                return await work(connection)

        return await retried(once, self.database.pause)


def audited(plan: Plan, written: Mapping[str, Any]) -> Plan:
    """`plan` with one more step at its end, which writes the audit rows `written` if a new job was stored."""
    answers, hints = yield from plan
    if any(not answer.existing and not answer.replayed for answer in answers):
        yield AUDIT, dict(written)
    return answers, hints


def accepted(answers: Iterable[Enqueued]) -> Counter[str]:
    """The number of new jobs among the answers, by kind."""
    return Counter(answer.kind for answer in answers if not answer.existing and not answer.replayed)


@contextlib.contextmanager
def _timed(jobs: int) -> Iterator[None]:
    began, outcome = time.monotonic(), "refused"
    try:
        yield
        outcome = "accepted"
    except OutcomeUnknown:
        outcome = "unknown"
        raise
    except Unavailable:
        outcome = "unavailable"
        raise
    finally:
        metrics.ENQUEUE_SECONDS.observe((QUEUE, outcome), time.monotonic() - began)
        metrics.ENQUEUE_JOBS.observe(metrics.QUEUED, jobs)


async def _in_one_statement(connection: Connection, plan: Plan) -> tuple[list[Enqueued], list[Hint]]:
    """Run a plan that consists of one statement, which commits by itself. This is the usual case."""
    with told(commits=True, action=False):
        return await _driven(connection, plan)


async def _in_transaction(connection: Connection, plan: Plan) -> tuple[list[Enqueued], list[Hint]]:
    """Run a plan of several statements in a transaction. After a failure before the commit, nothing is stored; after a
    failure at the commit, the outcome is unknown."""
    async with committed(connection, action=False):
        return await _driven(connection, plan)


async def _driven(connection: Connection, plan: Plan) -> tuple[list[Enqueued], list[Hint]]:
    statement, values = next(plan)
    try:
        while True:
            rows = await statement.fetch(connection, **values)
            statement, values = plan.send(rows)
    except StopIteration as stop:
        return cast(tuple[list[Enqueued], list[Hint]], stop.value)


async def _store_in_session(plan: Plan, session: "AsyncSession | Session") -> "tuple[list[Enqueued], list[Hint], Session]":
    from sqlalchemy import text
    from sqlalchemy.ext.asyncio import AsyncSession

    if not isinstance(session, AsyncSession):
        return *store_in_session(plan, session), session
    statement, values = next(plan)
    try:
        while True:
            with migrated():
                result = cast(Any, await session.execute(text(statement.text), values))
            statement, values = plan.send(result.mappings().all() if result.returns_rows else [])
    except StopIteration as stop:
        return *stop.value, session.sync_session


def store_in_session(plan: Plan, session: "Session") -> tuple[list[Enqueued], list[Hint]]:
    """Run a plan, the steps that store a batch of jobs, within a caller's synchronous session. Returns the answers for the
    jobs, and the hints to push."""
    from sqlalchemy import text

    statement, values = next(plan)
    try:
        while True:
            with migrated():
                result = cast(Any, session.execute(text(statement.text), values))
            statement, values = plan.send(result.mappings().all() if result.returns_rows else [])
    except StopIteration as stop:
        return cast(tuple[list[Enqueued], list[Hint]], stop.value)


def _refuse(action: Action, record: JobRecord, *, last: bool) -> None:
    """Called when an action changed nothing. Raises `NotAllowedInState` if the action is not possible in the job's present
    state. If it is possible, the state has changed meanwhile and the action can be tried again: then this raises only when
    `last` says that this was the last try."""
    if record.resolved and action.unresolved:
        raise NotAllowedInState(f"{action.done} again: {record.resolved_by} did", record.id, record.state)
    if last or record.state not in action.states:
        raise NotAllowedInState(refusal(action, record.state, resolved=record.resolved), record.id, record.state)


def _hints(rows: Sequence[Mapping[str, Any]]) -> list[Hint]:
    return [Hint(as_uuid(row["id"]), row["kind"], stamp_of(row["hinted_at"])) for row in rows if row.get("hinted_at")]
