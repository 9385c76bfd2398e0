"""What an operator does to one job, and that the audit says so in the same transaction."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import orjson
import psycopg
import pytest
from pydantic import SecretStr
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from carafe import (
    Change,
    Client,
    InvalidArguments,
    InvalidOption,
    Job,
    JobNotFound,
    NotAllowedInState,
    QueueNotFound,
    State,
    SyncClient,
    hook,
)
from carafe.jobs.definition import REDACTED
from carafe.jobs.errors import WorkerNotFound
from carafe.jobs.identifiers import uuid7
from carafe.store.audit import Actor
from carafe.store.bulk import BulkActionRecord
from carafe.store.filters import JobFilter
from carafe.store.statements import GET, WORKER_START, WORKER_STOP
from carafe.store.transitions import HookFailed
from tests.jobs.by_hand import ByHand, row_of, run
from tests.jobs.kinds import Greet, Login
from tests.waiting import eventually

ANA = Actor("ana", "dashboard")
ODD_TIMES = ("infinity", "-infinity", "30000-01-01 00:00+00")


class Guarded(Job, kind="tests.guarded", max_retries=0):
    """Its hooks refuse every end and every return."""


@hook(Guarded, State.QUEUED, State.CANCELLED)
async def refuse(session: AsyncSession, change: Change) -> None:
    """After a row of its own."""
    await session.execute(text("select 1"))
    raise RuntimeError("the hook's own words")


class Versioned(Job, kind="tests.versioned", version=2):
    """Once its argument was called `text`."""

    message: str
    token: SecretStr = SecretStr("")

    @classmethod
    def upgrade(cls, arguments: dict[str, Any], version: int) -> dict[str, Any]:
        return {"message": arguments["text"], "token": arguments["token"]}


async def audited(client: Client) -> list[tuple[Any, ...]]:
    async with client.database.connection() as connection:
        rows = await connection.fetch("select actor, via, action, target, reason from carafe.audit order by at, id")
    return [tuple(row.values()) for row in rows]


async def details(client: Client, target: UUID) -> Any:
    async with client.database.connection() as connection:
        return await connection.fetchval("select details::text from carafe.audit where target = $1", str(target))


async def dead(client: Client, worker: ByHand, job: Job, **options: Any) -> UUID:
    accepted = await client.enqueue(job, **options)
    [claim] = await worker.claim(accepted.id)
    await worker.fail(claim, final=True)
    return accepted.id


async def test_each_action_is_written_down(carafe_client: Client, worker: ByHand) -> None:
    client = carafe_client
    job = await dead(client, worker, Greet(name="1"))
    later = (await client.enqueue(Greet(name="2"), delay=60)).id
    other = (await client.enqueue(Greet(name="3"), delay=60)).id
    api, cli = Actor("bob", "api"), Actor("eve", "cli")

    await client.discard(job, reason="the feed is gone", by=ANA)
    await client.retry(job, by=api)
    await client.run_now(later, reason="now", by=cli)
    await client.cancel(other, reason="not needed", by=ANA)
    await client.pause(reason="stop", by=api)
    await client.resume(by=cli)
    put_in = await client.enqueue(Greet(name="4"), by=ANA)

    assert await audited(client) == [
        ("ana", "dashboard", "discard", str(job), "the feed is gone"),
        ("bob", "api", "retry", str(job), None),
        ("eve", "cli", "run_now", str(later), "now"),
        ("ana", "dashboard", "cancel", str(other), "not needed"),
        ("bob", "api", "pause", "default", "stop"),
        ("eve", "cli", "resume", "default", None),
        ("ana", "dashboard", "enqueue", str(put_in.id), None),
    ]


@contextmanager
def no_job_is_read() -> Iterator[None]:
    sound = GET.numbered
    object.__setattr__(GET, "numbered", "select 1 / 0")
    try:
        yield
    finally:
        object.__setattr__(GET, "numbered", sound)


async def test_an_action_answers_with_the_row_of_its_own_statement(carafe_client: Client, worker: ByHand) -> None:
    client = carafe_client
    discarded, retried = [await dead(client, worker, Login(user="ada", password=SecretStr("hunter2"))) for _ in range(2)]
    later, other, running = [(await client.enqueue(Greet(name="2"), delay=delay)).id for delay in (60, 60, 0)]
    await worker.claim(running)
    with no_job_is_read():
        answers = [
            await client.discard(discarded, reason="gone", by=ANA),
            await client.retry(retried),
            await client.run_now(later),
            await client.cancel(other),
            await client.cancel(running),
        ]
    assert [answer.state for answer in answers] == ["dead", "queued", "queued", "cancelled", "running"]
    for answer in answers:
        assert replace(answer, note=None) == replace(await client.get(answer.id), note=None)


async def test_a_job_that_is_claimed_meanwhile_is_asked_to_stop(carafe_client: Client, worker: ByHand) -> None:
    client = carafe_client
    job = await client.enqueue(Greet(name="1"))
    other = await asyncpg.connect(client.database.url)
    try:
        async with other.transaction():
            claimed = "update carafe.jobs set state = 'running', fence = fence + 1, worker = $1, started_at = now()"
            await other.execute(claimed, worker.id)
            acting = asyncio.ensure_future(client.cancel(job.id, by=ANA))

            async def waits_for_it() -> bool:
                async with client.database.connection() as connection:
                    waiting = "select count(*) from pg_stat_activity where $1 = any(pg_blocking_pids(pid))"
                    return bool(await connection.fetchval(waiting, other.get_server_pid()))

            await eventually(waits_for_it)
        record = await acting
    finally:
        await other.close()
    assert (record.state, record.cancel_requested_at is not None) == (State.RUNNING, True)
    assert [row[2] for row in await audited(client)] == ["cancel"]


async def test_without_a_name_nothing_is_written_down(carafe_client: Client, worker: ByHand) -> None:
    job = await dead(carafe_client, worker, Greet(name="1"))
    await carafe_client.discard(job, reason="gone")
    await carafe_client.retry(job)
    await carafe_client.cancel(job)
    await carafe_client.pause()

    assert await audited(carafe_client) == []
    assert (await carafe_client.get(job)).error == "cancelled by an operator"


async def test_what_did_not_happen_is_not_written_down(carafe_client: Client, worker: ByHand) -> None:
    client = carafe_client
    guarded = await client.enqueue(Guarded(), delay=60)
    job = await dead(client, worker, Greet(name="1"))

    with pytest.raises(HookFailed):
        await client.cancel(guarded.id, by=ANA)
    with pytest.raises(HookFailed):
        await client.run_now(guarded.id, by=ANA)
    with pytest.raises(NotAllowedInState):
        await client.cancel(job, by=ANA)
    with pytest.raises(NotAllowedInState):
        await client.run_now(job, by=ANA)
    with pytest.raises(QueueNotFound):
        await client.pause("other", by=ANA)
    with pytest.raises(JobNotFound):
        await client.retry(uuid7(), by=ANA)

    assert await audited(client) == []
    assert (await client.get(guarded.id)).state is State.SCHEDULED


@pytest.mark.parametrize(
    "action", ["cancel", "run_now", "discard", "retry", "pause", "drain_worker", "enqueue", "start_bulk"]
)
async def test_without_its_audit_row_an_action_does_not_happen(
    carafe_client: Client, carafe_database_url: str, worker: ByHand, action: str
) -> None:
    client = carafe_client
    waiting = (await client.enqueue(Greet(name="1"), delay=60)).id
    job = await dead(client, worker, Greet(name="2"))
    await announced(client, worker)
    with psycopg.connect(carafe_database_url) as connection:
        connection.execute("alter table carafe.audit add check (actor <> 'ana')")
        before = everything(connection)

        with pytest.raises(Exception, match="audit_actor_check"):
            await done(client, action, waiting, job, worker.id)

        connection.rollback()
        assert everything(connection) == before


async def done(client: Client, action: str, waiting: UUID, job: UUID, worker: UUID) -> None:
    match action:
        case "cancel" | "run_now":
            await getattr(client, action)(waiting, by=ANA)
        case "discard":
            await client.discard(job, reason="gone", by=ANA)
        case "retry":
            await client.retry(job, by=ANA)
        case "pause":
            await client.pause(by=ANA)
        case "drain_worker":
            await client.drain_worker(worker, by=ANA)
        case "enqueue":
            await client.enqueue(Greet(name="3"), by=ANA)
        case "start_bulk":
            await client.start_bulk("retry", JobFilter(), by=ANA)
        case _:
            raise AssertionError(action)


def everything(connection: "psycopg.Connection[Any]") -> list[Any]:
    """All that an action could change."""
    tables = ("jobs", "jobs_ended", "queues", "bulk_actions", "audit", "workers")
    found: list[Any] = []
    for table in tables:
        found += connection.execute(f"select t::text from carafe.{table} t order by 1").fetchall()
    connection.commit()
    return found


async def test_a_discarded_job_can_be_found_and_retried(carafe_client: Client, worker: ByHand) -> None:
    client = carafe_client
    job = await dead(client, worker, Greet(name="1"))

    record = await client.discard(job, reason="  the feed is gone ", by=ANA)

    assert (record.state, record.resolved_by, record.resolved_reason) == (State.DEAD, "ana", "the feed is gone")
    assert record.resolved_at is not None
    [listed] = (await client.find(states=[State.DEAD])).jobs
    assert (listed.id, listed.resolved_by) == (job, "ana")
    assert (await client.queues())[0].dead == 0
    with pytest.raises(NotAllowedInState, match="discarded again: ana did"):
        await client.discard(job, reason="twice", by=ANA)
    with pytest.raises(NotAllowedInState, match=r"possible for this one: retry\)$"):
        await client.cancel(job, by=ANA)
    retried = await client.retry(job, by=ANA)
    assert (retried.state, retried.resolved_at) == (State.QUEUED, None)
    with pytest.raises(NotAllowedInState, match="is queued: it cannot be discarded"):
        await client.discard(job, reason="gone", by=ANA)


@pytest.mark.parametrize("reason", ["", "   ", None, "x" * 501, "a\0b", "\udcff", "a\nb", "\x1b[31m"])
async def test_a_discard_needs_a_reason(carafe_client: Client, worker: ByHand, reason: Any) -> None:
    job = await dead(carafe_client, worker, Greet(name="1"))
    with pytest.raises(InvalidOption, match=r"^reason: must"):
        await carafe_client.discard(job, reason=reason)
    assert (await carafe_client.get(job)).resolved_at is None


async def test_edited_and_run_as_a_new_job(carafe_client: Client, worker: ByHand) -> None:
    client = carafe_client
    job = Login(user="nobody", password=SecretStr("hunter2"), tokens=(SecretStr("one"), SecretStr("two")))
    old = await dead(client, worker, job, unique_key="login")
    shown = await client.get(old)
    assert shown.secrets == ("/password", "/tokens/0", "/tokens/1")

    arguments = {**shown.args, "user": "ada", "tokens": [REDACTED, "new"]}
    new = await client.edit_and_run(old, arguments, ["/password", "/tokens/0"], by=ANA)

    row = await row_of(client.database, new.id)
    assert row["args"] == '{"user": "ada", "tokens": ["one", "new"], "password": "hunter2"}'
    assert (row["kind"], row["created_by"], row["unique_key"], row["attempt"]) == ("tests.login", "ana", None, 0)
    assert (await client.get(new.id)).args["password"] == REDACTED
    assert (await client.get(old)).state is State.DEAD
    assert [row[:3] for row in await audited(client)] == [("ana", "dashboard", "edit and run")] * 2
    assert orjson.loads(await details(client, new.id)) == {
        "origin": str(old),
        "changed": ["user", "tokens"],
        "kept_secrets": ["/password", "/tokens/0"],
    }
    assert await details(client, old) == f'{{"new": "{new.id}"}}'


async def test_editing_says_what_is_wrong(carafe_client: Client, worker: ByHand) -> None:
    client = carafe_client
    old = await dead(client, worker, Login(user="nobody", password=SecretStr("hunter2")))

    with pytest.raises(InvalidArguments) as caught:
        await client.edit_and_run(old, {"user": 1, "password": REDACTED, "more": 2}, ["/password"], by=ANA)
    assert [fault.path for fault in caught.value.faults] == ["user", "more"]
    assert "hunter2" not in str(caught.value)
    with pytest.raises(InvalidOption, match="keep_secrets: '/user' is not a secret"):
        await client.edit_and_run(old, {"user": "x", "password": "y"}, ["/user"], by=ANA)
    with pytest.raises(JobNotFound):
        await client.edit_and_run(uuid7(), {}, by=ANA)
    assert await audited(client) == []


async def test_a_secret_has_a_place_only_where_there_is_one(carafe_client: Client, worker: ByHand) -> None:
    job = Login(user="nobody", password=SecretStr("hunter2"), tokens=(SecretStr("one"), SecretStr("two")))
    old = await dead(carafe_client, worker, job)
    with pytest.raises(InvalidOption, match="keep_secrets: the arguments have no place for '/tokens/1'"):
        await carafe_client.edit_and_run(old, {"user": "x", "password": "y", "tokens": ["z"]}, ["/tokens/1"])
    # Left out altogether, the secret is put back where it was.
    new = await carafe_client.edit_and_run(old, {"user": "x"}, ["/password"])
    assert '"hunter2"' in (await row_of(carafe_client.database, new.id))["args"]


async def test_arguments_of_an_older_version_are_brought_to_todays(carafe_client: Client, worker: ByHand) -> None:
    old = await dead(carafe_client, worker, Versioned(message="m", token=SecretStr("t")))
    async with carafe_client.database.connection() as connection:
        await connection.execute(
            """update carafe.jobs_ended set version = 1, secrets = '{/token}', args = '{"text": "hi", "token": "t"}'"""
        )

    new = await carafe_client.edit_and_run(old, {"text": "hello", "token": REDACTED}, ["/token"], by=ANA)

    row = await row_of(carafe_client.database, new.id)
    assert (row["args"], row["version"]) == ('{"token": "t", "message": "hello"}', 2)
    with pytest.raises(InvalidArguments, match="cannot be brought from version 1 to 2"):
        await carafe_client.edit_and_run(old, {"wrong": "hello"}, by=ANA)


async def test_an_edited_job_can_run_later(carafe_client: Client, worker: ByHand) -> None:
    old = await dead(carafe_client, worker, Greet(name="1"))
    when = datetime.now(UTC) + timedelta(hours=1)
    new = await carafe_client.edit_and_run(old, {"name": "2"}, run_at=when, by=ANA)
    record = await carafe_client.get(new.id)
    assert (record.state, record.due_at) == (State.SCHEDULED, when)


async def announced(client: Client, worker: ByHand) -> None:
    values = {
        "name": "w",
        "host": "h",
        "pid": 1,
        "incarnation": "x",
        "pod": "",
        "version": "0",
        "kinds": [],
        "versions": [],
        "concurrency": 1,
    }
    await run(client.database, WORKER_START, id=worker.id, **values)


async def test_a_worker_is_asked_to_drain(carafe_client: Client, worker: ByHand) -> None:
    await announced(carafe_client, worker)

    since = await carafe_client.drain_worker(worker.id, reason="a bad node", by=ANA)

    assert await carafe_client.drain_worker(worker.id, by=ANA) == since
    assert await audited(carafe_client) == [
        ("ana", "dashboard", "drain worker", str(worker.id), "a bad node"),
        ("ana", "dashboard", "drain worker", str(worker.id), None),
    ]
    await run(carafe_client.database, WORKER_STOP, id=worker.id)
    for gone in (worker.id, uuid7()):
        with pytest.raises(WorkerNotFound, match="carafe workers"):
            await carafe_client.drain_worker(gone, by=ANA)


async def test_an_enqueue_that_stores_nothing_new_is_not_written_down(carafe_client: Client) -> None:
    for _ in range(2):
        await carafe_client.enqueue(Greet(name="1"), unique_key="one", by=ANA)
    for _ in range(2):
        await carafe_client.enqueue(Greet(name="2"), idempotency_key="two", by=ANA)
    async with carafe_client.database.sessions()() as session:
        await carafe_client.enqueue(Greet(name="3"), session=session, by=ANA)
        await session.rollback()
        kept = await carafe_client.enqueue(Greet(name="4"), session=session, by=ANA)
        await session.commit()

    rows = await audited(carafe_client)
    assert [row[2] for row in rows] == ["enqueue"] * 3
    assert rows[-1][3] == str(kept.id)


def test_the_synchronous_client_does_the_same(carafe_sync_client: SyncClient, carafe_database_url: str) -> None:
    client = carafe_sync_client
    later = client.enqueue(Greet(name="1"), delay=60, by=ANA).id
    assert client.run_now(later, by=ANA).state is State.QUEUED
    started: BulkActionRecord = client.start_bulk("cancel", JobFilter(), by=ANA)
    assert client.pause_bulk(started.id, by=ANA).state == "paused"
    assert client.resume_bulk(started.id, by=ANA).state == "running"
    assert client.bulk(started.id).matched.number == 1
    assert client.cancel_bulk(started.id, by=ANA).state == "cancelled"
    assert [one.id for one in client.bulks()] == [started.id]
    new = client.edit_and_run(later, {"name": "2"}, by=ANA)
    for refused in (
        lambda: client.discard(new.id, reason="gone", by=ANA),
        lambda: client.drain_worker(uuid7(), by=ANA),
    ):
        check: Callable[[], Any] = refused
        with pytest.raises((NotAllowedInState, WorkerNotFound)):
            check()
    with psycopg.connect(carafe_database_url) as connection:
        [[count]] = connection.execute("select count(*) from carafe.audit").fetchall()
    assert count == 8


@pytest.mark.parametrize("by", [None, ANA], ids=["nobody", "somebody"])
async def test_an_action_with_hooks_reads_any_time(carafe_client: Client, by: Actor | None) -> None:
    """Its record is read over the connection of the hooks' session, before the commit."""
    for time in ODD_TIMES:
        job = await carafe_client.enqueue(Greet(name="odd"))
        async with carafe_client.database.connection() as connection:
            await connection.execute(
                "update carafe.jobs set created_at = $2::text::timestamptz, started_at = created_at where id = $1",
                job.id,
                time,
            )
        assert (await carafe_client.cancel(job.id, by=by)).state is State.CANCELLED
        assert (await carafe_client.get(job.id)).state is State.CANCELLED
