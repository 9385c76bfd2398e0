"""The client for code without an event loop: Django, Flask, scripts. It has the same methods as `Client`, with the same
answers.

Guarantees: no thread and no event loop runs for it, so it neither holds up the end of a script nor a forked process. Each
process has connections of its own: a client may be made and used before a fork (``gunicorn --preload``), and then by parent
and children alike. With ``session=`` or ``connection=`` a job is stored in the caller's own transaction.

It is a `Client` on blocking connections (`carafe.store.blocking_database`), so one implementation serves both. The
application's hooks are coroutine functions: an action on a job whose kind has hooks runs on an event loop, in a thread that
ends with the call.
"""

from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar, Unpack, overload
from uuid import UUID

from carafe.client.client import Client, accepted
from carafe.client.driving import finished, in_thread
from carafe.client.sessions import count_accepted, own_plain_session, push_committed
from carafe.client.transactions import CallersTransaction, OnConnection, Push, checked
from carafe.jobs.actions import Action, ActionName
from carafe.jobs.definition import Job
from carafe.jobs.errors import InvalidOption
from carafe.jobs.new_job import Limits, NewJob
from carafe.jobs.options import EnqueueOptions
from carafe.jobs.outcomes import Seconds
from carafe.jobs.queue_name import QUEUE
from carafe.jobs.records import Enqueued, JobRecord, KindRecord, Page, QueueRecord, StackRecord
from carafe.jobs.states import State, StateName
from carafe.queue.blocking_queue import BlockingQueue
from carafe.queue.hints import Hint
from carafe.queue.queue import Queue
from carafe.store.audit import Actor
from carafe.store.blocking_database import IDLE, BlockingDatabase
from carafe.store.bulk import BulkActionRecord
from carafe.store.enqueueing import Batch
from carafe.store.filters import JobFilter
from carafe.store.statement import Row
from carafe.store.transitions import hooked

if TYPE_CHECKING:
    from sqlalchemy.orm import Session, scoped_session

    from carafe.settings.settings import Settings


R = TypeVar("R")
T = TypeVar("T")


class SyncClient:
    """A `Client` for synchronous code. Threads may share it. It connects at first use and need not be closed. Use it as a
    context manager, or `close` it, to close its connections earlier than at the end of the process."""

    def __init__(self, client: Client, *, idle: float = IDLE) -> None:
        """A client with the servers, limits and options of `client`, which is not used itself. A connection that was not
        used for `idle` seconds is closed instead of used again; with 0, each call connects."""
        self._client = _Driven(
            BlockingDatabase(client.database, idle=idle),
            BlockingQueue(client.queue),
            limits=client.limits,
            max_replicas=client.max_replicas,
        )
        self._closed = False
        self._kept: dict[int, list[tuple[Sequence[Hint], Push, Mapping[str, int]]]] = {}

    @classmethod
    def connect(cls, *, database_url: str, redis_url: str, limits: Limits | None = None, pool_size: int = 10) -> Self:
        """A client that connects to these servers at first use. `pool_size` is the maximum number of connections of a
        process."""
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
        """Close all connections of this process. A closed client cannot be used again; closing it twice does nothing."""
        if self._closed:
            return
        self._call(self._client.close)
        self._closed = True

    def _call(self, function: Callable[..., Coroutine[Any, Any, T]], *values: Any) -> T:
        """Call a method of the `Client`, and return its result."""
        if self._closed:
            raise RuntimeError("this SyncClient is closed: make another one, or call it within its `with` block")
        return finished(function(*values))

    def enqueue(
        self,
        job: Job[R],
        *,
        session: "Session | scoped_session[Any] | None" = None,
        connection: Any = None,
        idempotency_key: str | None = None,
        scope: str = "",
        trace: str | None = None,
        created_by: str | None = None,
        by: Actor | None = None,
        **options: Unpack[EnqueueOptions],
    ) -> Enqueued[R]:
        """See `Client.enqueue`.

        `connection` is a DB-API connection of psycopg or psycopg2, as an alternative to `session`: the job is stored in its
        transaction, and is accepted when the caller commits that. Within a block of `transaction` the workers are notified
        after the commit. Elsewhere nobody learns of the commit, and the steward notifies them within seconds. Errors on a
        caller's session or connection are those of its driver, except `NotMigrated`.
        """
        given: Any = {"idempotency_key": idempotency_key, "scope": scope, "trace": trace, "created_by": created_by, "by": by}
        where = self._transaction_of(session, connection)
        answer: Enqueued[R] = self._call(partial(self._client.enqueue, job, session=where, **given, **options))
        return answer

    def enqueue_many(
        self,
        jobs: Iterable[Job | NewJob],
        *,
        session: "Session | scoped_session[Any] | None" = None,
        connection: Any = None,
        idempotency_key: str | None = None,
        scope: str = "",
        trace: str | None = None,
        created_by: str | None = None,
    ) -> list[Enqueued]:
        """See `Client.enqueue_many`, and `enqueue` for `connection`."""
        given: Any = {"idempotency_key": idempotency_key, "scope": scope, "trace": trace, "created_by": created_by}
        where = self._transaction_of(session, connection)
        return self._call(partial(self._client.enqueue_many, jobs, session=where, **given))

    def _transaction_of(self, session: Any, connection: Any) -> Any:
        """The caller's session or transaction in which to store jobs, or None."""
        if connection is None:
            return session
        if session is not None:
            raise InvalidOption("connection", "give session or connection, not both")
        return OnConnection(connection, partial(self._keep, connection))

    def _keep(self, connection: Any, hints: Sequence[Hint], push: Push, accepted: Mapping[str, int]) -> None:
        if id(connection) in self._kept:
            self._kept[id(connection)].append((hints, push, accepted))

    @contextmanager
    def transaction(self, connection: Any) -> Iterator[None]:
        """A block at whose end the transaction of `connection`, a DB-API connection, is committed, and workers are then
        notified of the jobs that were enqueued in the block with ``connection=connection``.

        An error in the block rolls the transaction back. Raises `InvalidOption` if jobs cannot be stored on the connection,
        or if it is in autocommit mode, and otherwise the driver's errors.
        """
        checked(connection)
        if id(connection) in self._kept:
            raise InvalidOption("connection", "is already in a block of transaction()")
        kept = self._kept[id(connection)] = []
        try:
            yield
        except BaseException:
            del self._kept[id(connection)]
            connection.rollback()
            raise
        del self._kept[id(connection)]
        connection.commit()
        for hints, push, numbers in kept:
            count_accepted(numbers)
            push_committed(push, hints)

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


class _Driven(Client):
    """The `Client` of a `SyncClient`. Its coroutines never suspend."""

    def _own_session(self, session: Any) -> "Session":
        return own_plain_session(session)

    async def _store(
        self,
        batch: Batch,
        session: Any,
        scope: str,
        idempotency_key: str | None,
        written: Mapping[str, Any] | None = None,
    ) -> list[Enqueued]:
        if not isinstance(session, CallersTransaction):
            return await super()._store(batch, session, scope, idempotency_key, written)
        answers, hints = session.run(self._plan(batch, scope, idempotency_key, written))
        session.after_commit(hints, self._push_from_commit, accepted(answers))
        return answers

    def _push_from_commit(self, hints: Sequence[Hint]) -> None:
        finished(self.queue.push(hints))

    async def _done(
        self, action: Action, job_id: UUID, reason: str | None, by: Actor | None
    ) -> tuple[Row, JobRecord] | None:
        """Do the action; where a kind has hooks for its outcome, on an event loop of its own."""
        if not hooked(action.enters):
            return await super()._done(action, job_id, reason, by)
        assert isinstance(self.database, BlockingDatabase)
        database = self.database.asynchronous()

        async def work() -> tuple[Row, JobRecord] | None:
            async with Client(database, Queue(""), limits=self.limits) as client:
                return await client._done(action, job_id, reason, by)

        return in_thread(work)
