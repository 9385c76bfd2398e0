"""The two modes for testing code that enqueues, inline and manual, for `Client` and `SyncClient`.

Guarantees: within the block, the client pushes nothing to Redis. Jobs are committed, or rolled back, in the real store
exactly as in production. Redis and other clients are not touched.
"""

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager, contextmanager
from datetime import datetime
from functools import partial
from typing import Any, overload
from uuid import UUID

from carafe import Client, Job, JobRecord, State, SyncClient
from carafe.client.driving import in_thread
from carafe.jobs.actions import ACTIONS
from carafe.steward.promoter import Promoter
from carafe.store.actions import act
from carafe.testing.enqueued import EnqueuedJob, check, expected, query, read
from carafe.testing.executor import Executor, attempt_all, executor_of
from carafe.testing.queues import BlockingInlineQueue, InlineQueue, ManualQueue, asynchronous
from carafe.texts import shown

MAX_ATTEMPTS = 10_000
"""The number of attempts after which `drain` gives up: apparently some jobs enqueue or snooze themselves forever."""


@overload
def inline(client: Client) -> AbstractAsyncContextManager[None]: ...
@overload
def inline(client: SyncClient) -> AbstractContextManager[None]: ...
def inline(client: Client | SyncClient) -> Any:
    """Within the block, `client` runs one attempt of each job as soon as the job is accepted. `enqueue` returns after that
    attempt.

    With ``session=`` the job runs after the session's commit, and not at all after a rollback. (With a plain ``Session`` on
    an ``async`` client, the job runs in a task; wait for it with `client.wait`.) A job for later stays scheduled, and a
    failed attempt leaves its job retrying. Errors of a handler are not raised here: look at ``client.get(id)``.
    If a worker lifespan fails at its start, no job runs, and the end of the block raises `LifespanFailed`.
    """
    _check("inline", client)
    return _inline(client) if isinstance(client, Client) else _inline_sync(client)


@overload
def manual(client: Client) -> "AbstractAsyncContextManager[Manual]": ...
@overload
def manual(client: SyncClient) -> "AbstractContextManager[SyncManual]": ...
def manual(client: Client | SyncClient) -> Any:
    """Within the block, no job runs by itself. Make assertions about the enqueued jobs, and run them with `drain`.

    Yields a `Manual`, or a `SyncManual` for a `SyncClient`.
    """
    _check("manual", client)
    return _manual(client) if isinstance(client, Client) else _manual_sync(client)


def _check(mode: str, client: Any) -> None:
    if not isinstance(client, Client | SyncClient):
        raise TypeError(f"testing.{mode}: takes a Client or a SyncClient (got {shown(client)})")


class _Assertions:
    """Assertions about all jobs that were enqueued since a manual mode began, no matter who enqueued them."""

    def __init__(self, client: Client, since: datetime) -> None:
        self._client, self._since = client, since

    def assert_enqueued(self, job: type[Job] | Job, /, *, count: int | None = None, **arguments: Any) -> list[EnqueuedJob]:
        """Assert that `count` jobs (None: at least one) of this class with these arguments were enqueued and committed.

        Given a job object instead of a class, all its arguments must be the same. Jobs count in whatever state they are now.
        Returns these jobs. Raises ``AssertionError``, which lists the jobs that were enqueued instead, and ``TypeError`` for
        an argument that does not exist.
        """
        kind, wanted = expected(job, arguments)
        return check(self.enqueued(), kind, wanted, count)

    def assert_not_enqueued(self, job: type[Job] | Job, /, **arguments: Any) -> None:
        """Assert that no job of this class with these arguments was enqueued and committed."""
        self.assert_enqueued(job, count=0, **arguments)

    def enqueued(self) -> list[EnqueuedJob]:
        """Returns all jobs that were enqueued and committed since the block began, oldest first, in whatever state they are
        now."""
        # In a thread with a connection of its own, so that tests with and without an event loop can call it alike.
        since = query("created_at >= $1")
        return [read(row) for row in in_thread(partial(_fetch, self._client.database.url, since, self._since))]


class Manual(_Assertions):
    """Manual mode of a `Client`: assertions about enqueued jobs, and `drain` to run them."""

    async def drain(self, *, with_retries: bool = False, with_scheduled: bool = False) -> list[JobRecord]:
        """Run all due jobs one after the other, and also the jobs that they enqueue, until none is left.

        `with_retries` runs the next attempts of failed jobs at once too. `with_scheduled` runs jobs for later too, snoozed
        ones included. Returns the records of all jobs that ran, in the order of their first attempts. Raises `NoHandler` if
        this process has no handler for a job, and ``AssertionError`` after 10,000 attempts.
        """
        return await _drain(self._client, with_retries=with_retries, with_scheduled=with_scheduled)


class SyncManual(_Assertions):
    """Manual mode of a `SyncClient`: assertions about enqueued jobs, and `drain` to run them."""

    def __init__(self, client: SyncClient, since: datetime) -> None:
        super().__init__(client._client, since)

    def drain(self, *, with_retries: bool = False, with_scheduled: bool = False) -> list[JobRecord]:
        """See `Manual.drain`."""

        async def work() -> list[JobRecord]:
            async with asynchronous(self._client) as client:
                return await _drain(client, with_retries=with_retries, with_scheduled=with_scheduled)

        return in_thread(work)


@asynccontextmanager
async def _inline(client: Client) -> AsyncIterator[None]:
    original = client.queue
    async with executor_of(client) as executor:
        client.queue = running = InlineQueue(original, executor)
        try:
            yield
        finally:
            client.queue = original
            running.raise_failure()


@contextmanager
def _inline_sync(client: SyncClient) -> Iterator[None]:
    inner = client._client
    original = inner.queue
    inner.queue = running = BlockingInlineQueue(original, inner)
    try:
        yield
    finally:
        inner.queue = original
        running.raise_failure()


@asynccontextmanager
async def _manual(client: Client) -> AsyncIterator[Manual]:
    original = client.queue
    client.queue = ManualQueue(original)
    try:
        yield Manual(client, _now(client))
    finally:
        client.queue = original


@contextmanager
def _manual_sync(client: SyncClient) -> Iterator[SyncManual]:
    inner = client._client
    original = inner.queue
    inner.queue = ManualQueue(original)
    try:
        yield SyncManual(client, _now(inner))
    finally:
        inner.queue = original


async def _drain(client: Client, *, with_retries: bool, with_scheduled: bool) -> list[JobRecord]:
    async with executor_of(client) as executor:
        return await _drain_by(executor, client, with_retries=with_retries, with_scheduled=with_scheduled)


async def _drain_by(executor: Executor, client: Client, *, with_retries: bool, with_scheduled: bool) -> list[JobRecord]:
    promoter = Promoter(client.database, ManualQueue(client.queue))
    early = [state for state, wanted in ((State.RETRYING, with_retries), (State.SCHEDULED, with_scheduled)) if wanted]
    ran: dict[UUID, None] = {}
    attempts = 0
    while True:
        await promoter.round()
        await _hasten(client, early)
        claimed = await attempt_all(executor, await _queued(client))
        if not claimed:
            break
        ran.update(dict.fromkeys(claimed))
        attempts += len(claimed)
        if attempts > MAX_ATTEMPTS:
            raise AssertionError(f"drain has made {attempts} attempts and there are still jobs: do they enqueue themselves?")
    return [await client.get(job_id) for job_id in ran]


async def _hasten(client: Client, states: Sequence[State]) -> None:
    """Make jobs that wait in these states due now."""
    if not states:
        return
    async with client.database.connection() as connection:
        rows = await connection.fetch(
            "select id from carafe.jobs where state = any($1::text[]) order by due_at, id", [state.value for state in states]
        )
    await act(client.database, ACTIONS["run_now"], [row["id"] for row in rows])


async def _queued(client: Client) -> list[tuple[UUID, str]]:
    async with client.database.connection() as connection:
        rows = await connection.fetch("select id, kind from carafe.jobs where state = 'queued' order by hinted_at, id")
    return [(row["id"], row["kind"]) for row in rows]


def _now(client: Client) -> datetime:
    """The time by Postgres's clock, which also sets the jobs' `created_at`."""
    [row] = in_thread(partial(_fetch, client.database.url, "select clock_timestamp() as now"))
    now: datetime = row["now"]
    return now


async def _fetch(url: str, text: str, *values: Any) -> Any:
    from carafe.postgres_url import connect

    connection = await connect(url)
    try:
        return await connection.fetch(text, *values)
    finally:
        await connection.close()
