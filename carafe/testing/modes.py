"""The two ways to test code that enqueues: inline and manual, for `Client` and `SyncClient`.

Guarantees: while the block lasts, this client pushes nothing to Redis; what is enqueued is committed (or not) exactly as
always, in the real store. Redis and other clients are untouched.
"""

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager, contextmanager
from datetime import datetime
from functools import partial
from typing import Any, overload
from uuid import UUID

from carafe.jobs import Client, Job, JobRecord, State, SyncClient
from carafe.jobs.actions import act
from carafe.jobs.statements import RUN_NOW
from carafe.steward.promoter import Promoter
from carafe.testing.databases import in_thread
from carafe.testing.enqueued import EnqueuedJob, check, expected, read
from carafe.testing.executor import Executor, attempt_all
from carafe.testing.queues import InlineQueue, ManualQueue

MAX_ATTEMPTS = 10_000
"""Attempts after which `drain` gives up: jobs that enqueue or snooze themselves for ever."""


@overload
def inline(client: Client) -> AbstractAsyncContextManager[None]: ...
@overload
def inline(client: SyncClient) -> AbstractContextManager[None]: ...
def inline(client: Client | SyncClient) -> Any:
    """Within the block, `client` runs each job once as soon as it is accepted: enqueue returns after that attempt.

    With ``session=`` the job runs after that commit, and not at all after a rollback. (With a plain ``Session`` on an
    ``async`` client it runs in a task, which `client.wait` waits for.) Jobs for later stay scheduled, a failed attempt
    leaves its job retrying. Nothing that a handler does is raised here: look at ``client.get(id)``.
    """
    return _inline(client) if isinstance(client, Client) else _inline_sync(client)


@overload
def manual(client: Client) -> "AbstractAsyncContextManager[Manual]": ...
@overload
def manual(client: SyncClient) -> "AbstractContextManager[SyncManual]": ...
def manual(client: Client | SyncClient) -> Any:
    """Within the block nothing runs by itself: assert on what was enqueued, and run it by `drain`.

    Gives a `Manual`, or a `SyncManual` for a `SyncClient`.
    """
    return _manual(client) if isinstance(client, Client) else _manual_sync(client)


class _Assertions:
    """What both kinds of manual mode know of the jobs enqueued since they began, whoever enqueued them."""

    def __init__(self, client: Client, since: datetime) -> None:
        self._client, self._since = client, since

    def assert_enqueued(self, job: type[Job] | Job, /, *, count: int | None = None, **arguments: Any) -> list[EnqueuedJob]:
        """Assert that `count` jobs (None: at least one) of this class with these arguments were enqueued and committed.

        Given a job object, all its arguments must be the same. A job counts in whatever state it is by now. Returns the
        jobs. Raises ``AssertionError`` with what was enqueued instead, ``TypeError`` for an argument that does not exist.
        """
        kind, wanted = expected(job, arguments)
        return check(self.enqueued(), kind, wanted, count)

    def assert_not_enqueued(self, job: type[Job] | Job, /, **arguments: Any) -> None:
        """Assert that no such job was enqueued."""
        self.assert_enqueued(job, count=0, **arguments)

    def enqueued(self) -> list[EnqueuedJob]:
        """All jobs enqueued and committed since the block began, oldest first, whatever has become of them."""
        # In a thread on a connection of its own: the same plain call in tests with and without an event loop.
        return [read(row) for row in in_thread(partial(_fetch, self._client.database.url, ENQUEUED, self._since))]


class Manual(_Assertions):
    """Manual mode of a `Client`."""

    async def drain(self, *, with_retries: bool = False, with_scheduled: bool = False) -> list[JobRecord]:
        """Run all jobs that are due, those that they enqueue too, one after the other, until none is left.

        `with_retries` also runs failed jobs' next attempts at once, `with_scheduled` jobs for later (snoozed ones too).
        Returns the records of all that ran, in the order of their first attempt. Raises `NoHandler`, or ``AssertionError``
        after 10,000 attempts.
        """
        return await _drain(self._client, with_retries=with_retries, with_scheduled=with_scheduled)


class SyncManual(_Assertions):
    """Manual mode of a `SyncClient`."""

    def __init__(self, client: SyncClient, since: datetime) -> None:
        super().__init__(client._client, since)
        self._portal = client._portal

    def drain(self, *, with_retries: bool = False, with_scheduled: bool = False) -> list[JobRecord]:
        """See `Manual.drain`."""
        return self._portal.call(partial(_drain, self._client, with_retries=with_retries, with_scheduled=with_scheduled))


@asynccontextmanager
async def _inline(client: Client) -> AsyncIterator[None]:
    original = client.queue
    client.queue = InlineQueue(original, _executor(client))
    try:
        yield
    finally:
        client.queue = original


@contextmanager
def _inline_sync(client: SyncClient) -> Iterator[None]:
    inner = client._client
    original = inner.queue
    inner.queue = InlineQueue(original, _executor(inner))
    try:
        yield
    finally:
        inner.queue = original


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


def _executor(client: Client) -> Executor:
    return Executor(client.database, result_limit=client.limits.result_bytes)


async def _drain(client: Client, *, with_retries: bool, with_scheduled: bool) -> list[JobRecord]:
    executor = _executor(client)
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
    await act(client.database, RUN_NOW, [row["id"] for row in rows], (State.QUEUED,))


async def _queued(client: Client) -> list[tuple[UUID, str]]:
    async with client.database.connection() as connection:
        rows = await connection.fetch("select id, kind from carafe.jobs where state = 'queued' order by hinted_at, id")
    return [(row["id"], row["kind"]) for row in rows]


ENQUEUED = """
    select id, kind, state, cast(args as text) as args, version, unique_key from carafe.jobs where created_at >= $1
    union all
    select id, kind, state, cast(args as text), version, unique_key from carafe.jobs_ended where created_at >= $1
    order by id
"""


def _now(client: Client) -> datetime:
    """Postgres's clock, which stamps the jobs."""
    [row] = in_thread(partial(_fetch, client.database.url, "select clock_timestamp() as now"))
    now: datetime = row["now"]
    return now


async def _fetch(url: str, query: str, *values: Any) -> Any:
    from carafe.postgres_url import connect

    connection = await connect(url)
    try:
        return await connection.fetch(query, *values)
    finally:
        await connection.close()
