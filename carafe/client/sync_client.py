"""The client for code without an event loop: Django, Flask, scripts. It has the same methods as `Client`, with the same
answers.

Its own connections belong to an event loop in a background thread. With ``session=`` a job is stored through the caller's
own SQLAlchemy ``Session``, in the caller's thread and transaction, and the hint is pushed after that transaction's commit.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar, Unpack, overload
from uuid import UUID

from carafe.client.client import Client, accepted, audited, store_in_session
from carafe.client.sessions import own_plain_session, push_after_commit
from carafe.jobs.actions import ActionName
from carafe.jobs.definition import Job
from carafe.jobs.new_job import Limits, NewJob
from carafe.jobs.options import EnqueueOptions
from carafe.jobs.outcomes import Seconds
from carafe.jobs.queue_name import QUEUE
from carafe.jobs.records import Enqueued, JobRecord, KindRecord, Page, QueueRecord, StackRecord
from carafe.jobs.states import State, StateName
from carafe.queue.hints import Hint
from carafe.store.audit import Actor, entry
from carafe.store.bulk import BulkActionRecord
from carafe.store.enqueueing import Batch, prepare, prepare_one, store
from carafe.store.filters import JobFilter
from carafe.tracing import sending

if TYPE_CHECKING:
    from anyio.from_thread import BlockingPortal
    from sqlalchemy.orm import Session, scoped_session

    from carafe.settings.settings import Settings


R = TypeVar("R")
T = TypeVar("T")


class SyncClient:
    """A `Client` for synchronous code. Threads may share it. Use it as a context manager, or `close` it."""

    def __init__(self, client: Client) -> None:
        """Takes over `client`, which must not be used elsewhere."""
        from anyio.from_thread import start_blocking_portal  # slow to import, and workers have no use for it

        self._client = client
        self._entered: AbstractContextManager[BlockingPortal] = start_blocking_portal("asyncio", name="carafe client")
        self._portal = self._entered.__enter__()
        self._closed = False

    @classmethod
    def connect(cls, *, database_url: str, redis_url: str, limits: Limits | None = None, pool_size: int = 10) -> Self:
        """A client for these servers. It connects at first use."""
        return cls(Client.connect(database_url=database_url, redis_url=redis_url, limits=limits, pool_size=pool_size))

    @classmethod
    def from_settings(cls, settings: "Settings") -> Self:
        """A client for the servers and limits in the settings. Raises `InvalidOption` unless DATABASE_URL and REDIS_URL are
        set."""
        return cls(Client.from_settings(settings))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections and end the background thread. A closed client cannot be used again; closing it twice does
        nothing."""
        if self._closed:
            return
        self._call(self._client.close)
        self._closed = True
        self._entered.__exit__(None, None, None)

    def _call(self, function: Callable[..., Awaitable[T]], *values: Any) -> T:
        """Call a method of the `Client` on its event loop, and return its result."""
        if self._closed:
            raise RuntimeError("this SyncClient is closed: make another one, or call it within its `with` block")
        return self._portal.call(function, *values)

    def enqueue(
        self,
        job: Job[R],
        *,
        session: "Session | scoped_session[Any] | None" = None,
        idempotency_key: str | None = None,
        scope: str = "",
        trace: str | None = None,
        created_by: str | None = None,
        by: Actor | None = None,
        **options: Unpack[EnqueueOptions],
    ) -> Enqueued[R]:
        """See `Client.enqueue`."""
        new = NewJob(job, **options)
        limits = self._client.limits
        with sending(trace) as span:
            batch = prepare_one(new, limits, idempotency_key=idempotency_key, trace=span.trace, created_by=created_by)
            written = None if by is None else entry(by, "enqueue", {str(batch.ids[0]): {"kind": batch.kinds[0]}})
            return span.sent(self._store(batch, session, scope, idempotency_key, written))[0]

    def enqueue_many(
        self,
        jobs: Iterable[Job | NewJob],
        *,
        session: "Session | scoped_session[Any] | None" = None,
        idempotency_key: str | None = None,
        scope: str = "",
        trace: str | None = None,
        created_by: str | None = None,
    ) -> list[Enqueued]:
        """See `Client.enqueue_many`."""
        items = list(jobs)
        with sending(trace, len(items)) as span:
            batch = prepare(
                items,
                self._client.limits,
                idempotency_key=idempotency_key,
                trace=span.trace,
                trace_of_rest=span.rest,
                created_by=created_by,
            )
            return span.sent(self._store(batch, session, scope, idempotency_key)) if items else []

    def _store(
        self,
        batch: Batch,
        session: "Session | scoped_session[Any] | None",
        scope: str,
        idempotency_key: str | None,
        written: Mapping[str, Any] | None = None,
    ) -> list[Enqueued]:
        if session is None:
            return self._call(self._client._store, batch, None, scope, idempotency_key, written)
        own = own_plain_session(session)
        plan = store(batch, scope=scope, idempotency_key=idempotency_key, ttl=self._client.limits.idempotency_ttl)
        if written is not None:
            plan = audited(plan, written)
        answers, hints = store_in_session(plan, own)
        push_after_commit(own, hints, self._push, accepted(answers))
        return answers

    def _push(self, hints: Sequence[Hint]) -> None:
        self._call(self._client.queue.push, hints)

    @overload
    def get(self, job_id: Enqueued[R]) -> JobRecord[R | None]: ...
    @overload
    def get(self, job_id: UUID) -> JobRecord: ...
    def get(self, job_id: UUID | Enqueued[Any]) -> JobRecord[Any]:
        """See `Client.get`."""
        return self._call(self._client.get, job_id)

    def find(self, wanted: JobFilter | None = None, *, states: Iterable[State | StateName] = (), **filters: Any) -> Page:
        """See `Client.find`."""
        return self._call(partial(self._client.find, wanted, states=states, **filters))

    def queues(self) -> list[QueueRecord]:
        """See `Client.queues`."""
        return self._call(self._client.queues)

    @overload
    def wait(self, job_id: Enqueued[R], *, timeout: Seconds | None = None) -> JobRecord[R | None]: ...
    @overload
    def wait(self, job_id: UUID, *, timeout: Seconds | None = None) -> JobRecord: ...
    def wait(self, job_id: UUID | Enqueued[Any], *, timeout: Seconds | None = None) -> JobRecord[Any]:
        """See `Client.wait`."""
        return self._call(partial(self._client.wait, job_id, timeout=timeout))

    def act(self, action: ActionName, job_id: UUID, *, reason: str | None = None, by: Actor | None = None) -> JobRecord:
        """See `Client.act`."""
        return self._call(partial(self._client.act, action, job_id, reason=reason, by=by))

    def cancel(self, job_id: UUID, *, reason: str | None = None, by: Actor | None = None) -> JobRecord:
        """See `Client.cancel`."""
        return self._call(partial(self._client.cancel, job_id, reason=reason, by=by))

    def retry(self, job_id: UUID, *, reason: str | None = None, by: Actor | None = None) -> JobRecord:
        """See `Client.retry`."""
        return self._call(partial(self._client.retry, job_id, reason=reason, by=by))

    def run_now(self, job_id: UUID, *, reason: str | None = None, by: Actor | None = None) -> JobRecord:
        """See `Client.run_now`."""
        return self._call(partial(self._client.run_now, job_id, reason=reason, by=by))

    def discard(self, job_id: UUID, *, reason: str, by: Actor | None = None) -> JobRecord:
        """See `Client.discard`."""
        return self._call(partial(self._client.discard, job_id, reason=reason, by=by))

    def edit_and_run(
        self,
        job_id: UUID,
        args: Mapping[str, Any],
        keep_secrets: Sequence[str] = (),
        *,
        run_at: datetime | None = None,
        by: Actor | None = None,
    ) -> Enqueued:
        """See `Client.edit_and_run`."""
        edit = partial(self._client.edit_and_run, job_id, args, keep_secrets, run_at=run_at, by=by)
        answer: Enqueued = self._call(edit)
        return answer

    def pause(self, queue: str = QUEUE, *, reason: str | None = None, by: Actor | None = None) -> QueueRecord:
        """See `Client.pause`."""
        return self._call(partial(self._client.pause, queue, reason=reason, by=by))

    def resume(self, queue: str = QUEUE, *, reason: str | None = None, by: Actor | None = None) -> QueueRecord:
        """See `Client.resume`."""
        return self._call(partial(self._client.resume, queue, reason=reason, by=by))

    def pause_kind(self, kind: str, *, reason: str | None = None, by: Actor | None = None) -> KindRecord:
        """See `Client.pause_kind`."""
        return self._call(partial(self._client.pause_kind, kind, reason=reason, by=by))

    def resume_kind(self, kind: str, *, reason: str | None = None, by: Actor | None = None) -> KindRecord:
        """See `Client.resume_kind`."""
        return self._call(partial(self._client.resume_kind, kind, reason=reason, by=by))

    def paused_kinds(self) -> list[KindRecord]:
        """See `Client.paused_kinds`."""
        return self._call(self._client.paused_kinds)

    def drain_worker(self, worker_id: UUID, *, reason: str | None = None, by: Actor | None = None) -> datetime:
        """See `Client.drain_worker`."""
        return self._call(partial(self._client.drain_worker, worker_id, reason=reason, by=by))

    def stack(self, job_id: UUID, *, timeout: float = 5.0) -> StackRecord:
        """See `Client.stack`."""
        return self._call(partial(self._client.stack, job_id, timeout=timeout))

    def start_bulk(
        self,
        action: ActionName,
        wanted: JobFilter,
        *,
        rate: float | None = None,
        reason: str | None = None,
        by: Actor,
    ) -> BulkActionRecord:
        """See `Client.start_bulk`."""
        return self._call(partial(self._client.start_bulk, action, wanted, rate=rate, reason=reason, by=by))

    def bulk(self, bulk_id: UUID) -> BulkActionRecord:
        """See `Client.bulk`."""
        return self._call(self._client.bulk, bulk_id)

    def bulks(self, limit: int = 50) -> list[BulkActionRecord]:
        """See `Client.bulks`."""
        return self._call(self._client.bulks, limit)

    def pause_bulk(self, bulk_id: UUID, *, by: Actor) -> BulkActionRecord:
        """See `Client.pause_bulk`."""
        return self._call(partial(self._client.pause_bulk, bulk_id, by=by))

    def resume_bulk(self, bulk_id: UUID, *, by: Actor) -> BulkActionRecord:
        """See `Client.resume_bulk`."""
        return self._call(partial(self._client.resume_bulk, bulk_id, by=by))

    def cancel_bulk(self, bulk_id: UUID, *, by: Actor) -> BulkActionRecord:
        """See `Client.cancel_bulk`."""
        return self._call(partial(self._client.cancel_bulk, bulk_id, by=by))
