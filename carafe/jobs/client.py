"""The client: puts jobs in, follows them, acts on them. One object a process, safe to share between tasks of one loop.

Guarantees: what `enqueue` returns is committed (or belongs to the caller's own transaction); a hint is pushed after the
commit and never after a rollback; Redis being down costs latency (250 ms, then nothing), never a job.
"""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast
from uuid import UUID

import asyncpg
import structlog

from carafe import metrics
from carafe.database import CONFLICTS, Database, committed, retried, told
from carafe.jobs import bulk as bulk_actions
from carafe.jobs.acceptance import Acceptance
from carafe.jobs.actions import Deed, act, grants
from carafe.jobs.audit import Actor, checked_reason, entry, record_each
from carafe.jobs.bulk import Action as BulkAction
from carafe.jobs.bulk import BulkActionRecord
from carafe.jobs.definition import Job
from carafe.jobs.editing import edited
from carafe.jobs.enqueueing import Batch, Limits, NewJob, Plan, prepare, prepare_one, store
from carafe.jobs.errors import (
    InvalidOption,
    JobNotFound,
    NotAllowedInState,
    OutcomeUnknown,
    QueueNotFound,
    Unavailable,
    WorkerNotFound,
)
from carafe.jobs.filters import JobFilter
from carafe.jobs.hints import QUEUE, Hint, stamp_of
from carafe.jobs.listing import listing, page
from carafe.jobs.moves import Connection
from carafe.jobs.outcomes import Seconds, seconds
from carafe.jobs.queue import Queue
from carafe.jobs.records import AttemptRecord, Enqueued, JobRecord, Page, QueueRecord, as_uuid, job_record
from carafe.jobs.sessions import count_accepted, push_after_commit
from carafe.jobs.statements import (
    ATTEMPTS,
    AUDIT,
    CANCEL,
    DISCARD,
    DRAIN_WORKER,
    GET,
    KNOWN_KINDS,
    PAUSE,
    PAUSED,
    QUEUES,
    RESUME,
    RESUME_HINTS,
    RETRY,
    RUN_NOW,
    Statement,
)
from carafe.jobs.states import State
from carafe.tracing import sending

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession
    from sqlalchemy.orm import Session

    from carafe.settings import Settings


log = structlog.stdlib.get_logger("carafe.client")

T = TypeVar("T")

AFTERWARDS = 2.0
"""Seconds that what follows a commit may keep its caller waiting."""

RESUMED_AT_ONCE = 1000
"""Jobs that get their hints from `Client.resume` itself; the steward goes on from there."""

COMMAND_TIMEOUT = 5.0
"""Seconds that a client of a process (`Client.from_settings`) waits for one statement: its callers are waiting too."""

LOCK_TIMEOUT = 4.0
"""Seconds of these for a lock."""


class Client:
    """Enqueue, follow and find jobs; act on one or many. Use it as an async context manager, or `close` it."""

    def __init__(self, database: Database, queue: Queue, *, limits: Limits | None = None) -> None:
        self.database = database
        self.queue = queue
        self.limits = limits or Limits()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pushes: set[asyncio.Task[Any]] = set()
        self.acceptance = Acceptance(database.url)
        """Whether a job would be accepted now."""

    @classmethod
    def connect(cls, *, database_url: str, redis_url: str, limits: Limits | None = None, pool_size: int = 10) -> Self:
        """A client on these servers; it connects at first use."""
        database = Database(database_url, pool_size=pool_size, name="carafe client", by_index=True)
        return cls(database, Queue(redis_url), limits=limits)

    @classmethod
    def from_settings(cls, settings: "Settings") -> Self:
        """A client as the settings say; DATABASE_URL and REDIS_URL must be set."""
        limits = Limits(
            args_bytes=settings.job_args_limit,
            result_bytes=settings.job_result_limit,
            bulk=settings.bulk_limit,
            timeout=settings.job_timeout,
            max_retries=settings.job_max_retries,
            idempotency_ttl=settings.retention_idempotency,
        )
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
            limits=limits,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Finish pushes that are under way, then close all connections."""
        if self._pushes:
            await asyncio.wait(self._pushes, timeout=1)
        await self.acceptance.close()
        await self.queue.close()
        await self.database.close()

    # -- getting jobs in

    async def enqueue(
        self,
        job: Job,
        *,
        session: "AsyncSession | Session | None" = None,
        run_at: datetime | None = None,
        delay: Seconds | None = None,
        unique_key: str | None = None,
        idempotency_key: str | None = None,
        scope: str = "",
        trace: str | None = None,
        created_by: str | None = None,
        by: Actor | None = None,
    ) -> Enqueued:
        """Accept a job. Without `session` it is committed when this returns; with one, when the session commits.

        `run_at` (aware datetime) or `delay` (seconds or timedelta) schedule it. `unique_key`: at most one live job holds
        a key; the existing one is returned and says so. `idempotency_key`, within `scope`: the same request twice is
        one job. `trace`: a W3C traceparent to continue, where OpenTelemetry's current span is not it. `by`: a person puts
        it in, and an audit row says so.

        Raises `InvalidArguments`, `PayloadTooLarge`, `InvalidOption`, `IdempotencyConflict`, `Unavailable`
        (nothing stored) or `OutcomeUnknown` (repeat with the same idempotency key).
        """
        new = NewJob(job, run_at, delay, unique_key)
        with sending(trace) as span:
            batch = prepare_one(new, self.limits, idempotency_key=idempotency_key, trace=span.trace, created_by=created_by)
            written = None if by is None else entry(by, "enqueue", {str(batch.ids[0]): {"kind": batch.kinds[0]}})
            return span.sent(await self._store(batch, session, scope, idempotency_key, written))[0]

    async def enqueue_many(
        self,
        jobs: Iterable[Job | NewJob],
        *,
        session: "AsyncSession | Session | None" = None,
        idempotency_key: str | None = None,
        scope: str = "",
        trace: str | None = None,
        created_by: str | None = None,
    ) -> list[Enqueued]:
        """Accept thousands of jobs in one statement, all or none; `NewJob` gives one of them options of its own.

        Raises like `enqueue`, and `BulkInvalid` with every fault by index.
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
        session: "AsyncSession | Session | None",
        scope: str,
        idempotency_key: str | None,
        written: Mapping[str, Any] | None = None,
    ) -> list[Enqueued]:
        """Store a batch, and if a job of it is new, `written` in the audit."""
        self._loop = asyncio.get_running_loop()

        def plan() -> Plan:
            made = store(batch, scope=scope, idempotency_key=idempotency_key, ttl=self.limits.idempotency_ttl)
            return made if written is None else audited(made, written)

        if session is not None:
            answers, hints, owner = await _store_in_session(plan(), session)
            push_after_commit(owner, hints, self._push_from_commit, accepted(answers))
            return answers
        simple = idempotency_key is None and written is None and not any(batch.unique_keys)

        async def once() -> tuple[list[Enqueued], list[Hint]]:
            async with self.database.connection() as connection:
                return await (_in_one_statement if simple else _in_transaction)(connection, plan())

        with _timed(len(batch.ids)):
            try:
                answers, hints = await retried(once)
            except Unavailable as error:
                self.acceptance.refused(error)
                raise
        self.acceptance.accepted()
        count_accepted(Counter(batch.kinds) if simple else accepted(answers))
        await self._afterwards(self.queue.push(hints))
        return answers

    async def _afterwards(self, work: Awaitable[Any]) -> None:
        """What comes after a commit and is late, or fails, is the steward's to make up for: the answer is the commit's."""
        try:
            await work
        except Exception:
            log.exception("what follows a commit failed; the steward does it")

    def _push_from_commit(self, hints: Sequence[Hint]) -> None:
        """Push from within a session's commit, whatever kind of session it is and whichever thread commits it."""
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

    async def get(self, job_id: UUID) -> JobRecord:
        """A job with its failed attempts: the newest 200, with some 500,000 characters of errors and tracebacks at most.

        Raises `JobNotFound`, `Unavailable`.
        """
        async with self._connected() as connection:
            return await self._record(connection, job_id)

    async def _record(self, connection: Connection, job_id: UUID) -> JobRecord:
        row = await connection.fetchrow(GET.positional, job_id)
        if row is None:
            raise JobNotFound(job_id)
        failed = await connection.fetch(ATTEMPTS.positional, job_id)
        note = await self._note(connection, row)
        cut = ("attempts",) if any(found["cut"] for found in failed) else ()
        return job_record(row, tuple(map(_attempt, failed)), note, cut)

    async def _note(self, connection: Connection, row: Mapping[str, Any]) -> str | None:
        if row["state"] != State.QUEUED:
            return None
        for paused in await connection.fetch(PAUSED.positional):
            if paused["name"] == row["queue"]:
                return f"waiting: the queue is paused since {paused['paused_at']:%Y-%m-%d %H:%M:%S} UTC"
        known = {found["kind"] for found in await connection.fetch(KNOWN_KINDS.positional)} - {None}
        if not known:
            return "waiting: no worker is alive"
        if row["kind"] not in known:
            return f"waiting: no live worker has a handler for the kind {row['kind']!r}"
        return None

    async def find(
        self,
        *,
        states: Iterable[State] = (),
        kind: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        cursor: str | None = None,
        limit: int = 50,
        longest: int | None = None,
    ) -> Page:
        """Jobs, newest first. `since` and `until` bound the end of ended jobs, or else the creation; `limit` to 500.

        `longest`: arguments and results of more characters are left out, longer texts shortened; see `JobRecord.cut`.

        Raises `InvalidOption` for a cursor that is not one, `Unavailable`.
        """
        query, values, ended_only = listing(
            frozenset(states), kind=kind, since=since, until=until, cursor=cursor, limit=limit, longest=longest
        )
        async with self._connected() as connection:
            rows = await connection.fetch(query, *values)
        return page(rows, limit, ended_only)

    async def queues(self) -> list[QueueRecord]:
        """Every queue in numbers."""
        async with self._connected() as connection:
            return [QueueRecord(**row) for row in await connection.fetch(QUEUES.positional)]

    async def wait(self, job_id: UUID, *, timeout: Seconds | None = None) -> JobRecord:  # noqa: ASYNC109  the caller's word
        """Follow a job to its end, and return it. Raises `TimeoutError` after `timeout`, `JobNotFound`.

        A ``dead`` or ``cancelled`` job is an end like any other: look at `state`.
        """
        pause = 0.02
        async with asyncio.timeout(None if timeout is None else seconds(timeout)):
            while True:
                async with self._connected() as connection:
                    row = await connection.fetchrow(GET.positional, job_id)
                if row is None:
                    raise JobNotFound(job_id)
                if State.stored(row["state"]).ended:
                    return await self.get(job_id)
                await asyncio.sleep(pause)
                pause = min(pause * 1.5, 0.5)

    # -- acting

    async def cancel(self, job_id: UUID, *, reason: str | None = None, by: Actor | None = None) -> JobRecord:
        """Cancel a job: one that waits ends at once, a running one is asked to stop and ends when its worker has done so.

        `by` writes an audit row in the same transaction, here as in all that follows; without it there is none. Raises
        `JobNotFound`, `NotAllowedInState` (it has ended), `HookFailed`, `Unavailable`, `InvalidOption`.
        """
        reason = checked_reason(reason)
        kept = reason or f"cancelled by {by.name if by else 'an operator'}"
        deed = Deed.of(by, "cancel", reason)
        rows, record = await self._act(CANCEL, "cancelled", job_id, (State.CANCELLED,), deed, reason=kept)
        if any(row["state"] == State.RUNNING for row in rows):
            await self._afterwards(self.queue.announce_cancel())
        return record

    async def retry(self, job_id: UUID, *, reason: str | None = None, by: Actor | None = None) -> JobRecord:
        """Run a dead job again with as many attempts as its kind has, or a scheduled or retrying one at once.

        `attempt` and `fence` never fall; `max_attempts` rises. Raises like `cancel`; a dead job whose unique key another
        live job holds cannot be retried.
        """
        deed = Deed.of(by, "retry", checked_reason(reason))
        record = await self.get(job_id)
        if record.state in (State.SCHEDULED, State.RETRYING):
            _, record = await self._act(RUN_NOW, "retried", job_id, (State.QUEUED,), deed)
            return record
        granted = {"grants": grants([record.kind]), "grant_attempts": self.limits.max_retries + 1}
        try:
            _, record = await self._act(RETRY, "retried", job_id, (State.QUEUED,), deed, **granted)
        except asyncpg.UniqueViolationError:
            raise NotAllowedInState("retried while another live job holds its unique key", job_id, record.state) from None
        return record

    async def run_now(self, job_id: UUID, *, reason: str | None = None, by: Actor | None = None) -> JobRecord:
        """Run a scheduled or retrying job at once. Raises like `cancel`."""
        deed = Deed.of(by, "run now", checked_reason(reason))
        _, record = await self._act(RUN_NOW, "run now: only scheduled and retrying jobs can", job_id, (State.QUEUED,), deed)
        return record

    async def discard(self, job_id: UUID, *, reason: str, by: Actor | None = None) -> JobRecord:
        """Give a dead job up: it is resolved, counts no more among the dead, and stays findable until its retention.

        `reason` is kept with it. It can still be retried. Raises like `cancel`.
        """
        given = checked_reason(reason, needed="it is kept with the job, for those who find it later")
        deed = Deed.of(by, "discard", given)
        name = by.name if by else "an operator"
        _, record = await self._act(DISCARD, "discarded", job_id, (), deed, reason=given, by=name)
        return record

    async def edit_and_run(
        self,
        job_id: UUID,
        args: Mapping[str, Any],
        keep_secrets: Sequence[str] = (),
        *,
        run_at: datetime | None = None,
        by: Actor | None = None,
    ) -> Enqueued:
        """Run a job's kind again with other arguments, as a new job; the old one stays as it is.

        `keep_secrets` are JSON pointers (``/password``) to secret values that are taken over from the stored arguments;
        `args` hold anything there. The new job has its kind's own options and no unique key, and both jobs get an audit row
        that names the other. Raises like `enqueue`, and `JobNotFound`.
        """
        async with self._connected() as connection:
            row = await connection.fetchrow(GET.positional, job_id)
        if row is None:
            raise JobNotFound(job_id)
        new = NewJob(edited(row, args, keep_secrets), run_at)
        batch = prepare_one(new, self.limits, created_by=by.name if by else row["created_by"])
        written = None
        if by is not None:
            new_id = str(batch.ids[0])
            written = entry(by, "edit and run", {new_id: {"origin": str(job_id)}, str(job_id): {"new": new_id}})
        return (await self._store(batch, None, "", None, written))[0]

    async def pause(self, queue: str = QUEUE, *, reason: str | None = None, by: Actor | None = None) -> QueueRecord:
        """Stop starting jobs of a queue, and ask for no workers for it, until `resume`; enqueueing goes on.

        Running jobs go on. Durable in Postgres, whatever happens to Redis. Pausing a paused queue changes nothing.
        Raises `QueueNotFound`, `InvalidOption`, `Unavailable`.
        """
        reason = checked_reason(reason)
        deed = Deed.of(by, "pause", reason)
        record = await self._set(queue, PAUSE, deed, reason=reason, by=by.name if by else None)
        if queue == QUEUE:
            await self._afterwards(self.queue.empty())
        return record

    async def resume(self, queue: str = QUEUE, *, reason: str | None = None, by: Actor | None = None) -> QueueRecord:
        """Start jobs of a paused queue again: the first thousand have their hints when this returns, unless that took long.

        The steward pushes the others as it pushes lost hints. Resuming a queue that is not paused is harmless. Raises like
        `pause`.
        """
        record = await self._set(queue, RESUME, Deed.of(by, "resume", checked_reason(reason)))
        if queue == QUEUE:
            await self._afterwards(self._hint_resumed(queue))
        return record

    async def _hint_resumed(self, queue: str) -> None:
        try:
            async with asyncio.timeout(AFTERWARDS), self._connected() as connection:
                arguments = RESUME_HINTS.arguments(queue=queue, limit=RESUMED_AT_ONCE)
                rows = await connection.fetch(RESUME_HINTS.positional, *arguments)
        except (Unavailable, TimeoutError, *CONFLICTS) as error:
            log.warning("hints of a resumed queue are late; the steward pushes them", error=type(error).__name__)
            return
        await self.queue.push(_hints(rows))

    async def drain_worker(self, worker_id: UUID, *, reason: str | None = None, by: Actor | None = None) -> datetime:
        """Ask a worker to drain as at SIGTERM: it takes nothing more, finishes or hands back what it has, and ends.

        It sees the request within a second or so. On Kubernetes its pod's container is started anew. Returns since when
        that is asked. Raises `WorkerNotFound`, `InvalidOption`, `Unavailable`.
        """
        reason = checked_reason(reason)

        async def drain(connection: Connection) -> datetime:
            row = await connection.fetchrow(DRAIN_WORKER.positional, worker_id)
            if row is None:
                raise WorkerNotFound(worker_id)
            if by is not None:
                await record_each(connection, by, "drain worker", {str(worker_id): {"name": row["name"]}}, reason=reason)
            return cast(datetime, row["drain_requested_at"])

        since = await self._in_transaction(drain)
        await self._afterwards(self.queue.announce_cancel())
        return since

    # -- acting on many

    async def start_bulk(
        self,
        action: BulkAction,
        wanted: JobFilter,
        *,
        rate: float | None = None,
        reason: str | None = None,
        by: Actor,
    ) -> BulkActionRecord:
        """Retry, cancel, discard or run now all jobs that meet the filter as of now; the steward works it off.

        `rate` is in jobs a second; a retry of more than 1,000 jobs without one gets 50. A discard needs a `reason`. The
        filter is narrowed to the states that the action is for (see `carafe.jobs.bulk.narrow`). Raises `InvalidOption`,
        `Unavailable`.
        """
        return await self._in_transaction(
            lambda connection: bulk_actions.start(connection, action, wanted, rate=rate, reason=reason, by=by)
        )

    async def bulk(self, bulk_id: UUID) -> BulkActionRecord:
        """A bulk action as it stands. Raises `BulkActionNotFound`, `Unavailable`."""
        async with self._connected() as connection:
            return await bulk_actions.get(connection, bulk_id)

    async def bulks(self, limit: int = 50) -> list[BulkActionRecord]:
        """The newest bulk actions, newest first; `limit` to 500. Raises `InvalidOption`, `Unavailable`."""
        async with self._connected() as connection:
            return await bulk_actions.latest(connection, limit)

    async def pause_bulk(self, bulk_id: UUID, *, by: Actor) -> BulkActionRecord:
        """Stop a bulk action after the batch under way, until `resume_bulk`.

        Raises `BulkActionNotFound`, `BulkActionEnded`, `Unavailable`.
        """
        return await self._in_transaction(lambda connection: bulk_actions.steer(connection, bulk_id, "bulk pause", by=by))

    async def resume_bulk(self, bulk_id: UUID, *, by: Actor) -> BulkActionRecord:
        """Let a paused bulk action go on. Raises like `pause_bulk`."""
        return await self._in_transaction(lambda connection: bulk_actions.steer(connection, bulk_id, "bulk resume", by=by))

    async def cancel_bulk(self, bulk_id: UUID, *, by: Actor) -> BulkActionRecord:
        """End a bulk action: what is done stays done, nothing more will be. Raises like `pause_bulk`."""
        return await self._in_transaction(lambda connection: bulk_actions.steer(connection, bulk_id, "bulk cancel", by=by))

    async def _set(self, queue: str, statement: Statement, deed: Deed | None, **values: Any) -> QueueRecord:
        async def change(connection: Connection) -> Mapping[str, Any]:
            row = await connection.fetchrow(statement.positional, *statement.arguments(name=queue, **values))
            if row is None:
                raise QueueNotFound(queue)
            if deed is not None:
                await record_each(connection, deed.by, deed.action, {queue: {}}, reason=deed.reason)
            return cast(Mapping[str, Any], row)

        changed = await self._in_transaction(change)
        try:
            async with asyncio.timeout(AFTERWARDS):
                return next(record for record in await self.queues() if record.name == queue)
        except (Unavailable, TimeoutError, StopIteration, *CONFLICTS) as error:
            log.warning("a queue is changed, and not counted in time", queue=queue, error=type(error).__name__)
        numbers = dict.fromkeys(("queued", "running", "scheduled", "retrying", "dead", "oldest_wait"))
        return QueueRecord(**numbers, **changed)  # type: ignore[arg-type]

    async def _act(
        self,
        statement: Statement,
        word: str,
        job_id: UUID,
        states: Sequence[State],
        deed: Deed | None,
        **values: Any,
    ) -> tuple[Sequence[Mapping[str, Any]], JobRecord]:
        """Act on one job: the changed rows, and the job as it stands in the same transaction; its hint is pushed."""
        record: JobRecord | None = None

        async def read(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
            nonlocal record
            record = await self._record(connection, job_id)

        rows = await act(self.database, statement, [job_id], states, deed=deed, then=read, **values)
        assert record is not None
        if not rows:
            again = word == "discarded" and record.resolved_at is not None
            raise NotAllowedInState(f"discarded again: {record.resolved_by} did" if again else word, job_id, record.state)
        await self._afterwards(self.queue.push(_hints(rows)))
        return rows, record

    @contextlib.asynccontextmanager
    async def _connected(self) -> Any:
        """A connection for statements that read, or that commit themselves and may be repeated."""
        async with self.database.connection() as connection:
            with told():
                yield connection

    async def _in_transaction(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """What `work` returns, once it is committed; tried again while others conflict with it."""

        async def once() -> T:
            async with self.database.connection() as connection, committed(connection):
                return await work(connection)

        return await retried(once)


def audited(plan: Plan, written: Mapping[str, Any]) -> Plan:
    """The same plan, and a step more that writes the audit's rows if anything new was stored."""
    answers, hints = yield from plan
    if any(not answer.existing and not answer.replayed for answer in answers):
        yield AUDIT, dict(written)
    return answers, hints


def accepted(answers: Iterable[Enqueued]) -> Counter[str]:
    """How many jobs of each kind are new among the answers."""
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
    """The usual case: a plan of one statement, which is committed by itself."""
    with told(commits=True, action=False):
        return await _driven(connection, plan)


async def _in_transaction(connection: Connection, plan: Plan) -> tuple[list[Enqueued], list[Hint]]:
    """Several statements: a failure before the commit stored nothing, one at the commit is not known."""
    async with committed(connection, action=False):
        return await _driven(connection, plan)


async def _driven(connection: Connection, plan: Plan) -> tuple[list[Enqueued], list[Hint]]:
    statement, values = next(plan)
    try:
        while True:
            rows = await connection.fetch(statement.positional, *statement.arguments(**values))
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
            result = cast(Any, await session.execute(text(statement.text), values))
            statement, values = plan.send(result.mappings().all() if result.returns_rows else [])
    except StopIteration as stop:
        return *stop.value, session.sync_session


def store_in_session(plan: Plan, session: "Session") -> tuple[list[Enqueued], list[Hint]]:
    """Store a batch within a caller's synchronous session."""
    from sqlalchemy import text

    statement, values = next(plan)
    try:
        while True:
            result = cast(Any, session.execute(text(statement.text), values))
            statement, values = plan.send(result.mappings().all() if result.returns_rows else [])
    except StopIteration as stop:
        return cast(tuple[list[Enqueued], list[Hint]], stop.value)


def _hints(rows: Sequence[Mapping[str, Any]]) -> list[Hint]:
    return [Hint(as_uuid(row["id"]), row["kind"], stamp_of(row["hinted_at"])) for row in rows if row.get("hinted_at")]


def _attempt(row: Mapping[str, Any]) -> AttemptRecord:
    return AttemptRecord(
        attempt=row["attempt"],
        cause=row["cause"],
        error_class=row["error_class"],
        error=row["error"],
        traceback=row["traceback"],
        worker=row["worker_name"],
        started_at=row["started_at"],
        ended_at=row["ended_at"],
    )
