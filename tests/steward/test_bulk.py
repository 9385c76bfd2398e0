"""Bulk actions: each job that met the filter at the start is changed once, with hooks and audit, whatever happens."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID

import asyncpg
import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from carafe import Change, Client, InvalidOption, Job, NewJob, NotAllowedInState, State, hook
from carafe.jobs.errors import BulkActionEnded, BulkActionNotFound
from carafe.jobs.identifiers import uuid7
from carafe.steward import bulk as bulk_module
from carafe.steward.bulk import BulkWorker
from carafe.steward.bulk_walk import Walk
from carafe.store import actions as store_actions
from carafe.store.audit import Actor
from carafe.store.bulk import BulkActionRecord
from carafe.store.database import plain_dsn
from carafe.store.filters import JobFilter
from tests.jobs.by_hand import ByHand, row_of
from tests.jobs.conftest import hinted, worker
from tests.jobs.kinds import Add, Fail, Greet, Unhandled

__all__ = ["hinted", "worker"]

ANA = Actor("ana", "dashboard")
DEAD = JobFilter(states=frozenset({State.DEAD}))

Hinted = Callable[[], list[UUID]]


class Ledgered(Job, kind="tests.ledgered", max_retries=0):
    """Its hook writes a row; with `refuses`, it raises after that."""

    refuses: bool = False


class Begun(Job, kind="tests.begun"):
    """Its hook writes a row when it begins to run."""


@hook(Begun, State.RUNNING)
async def begin(session: AsyncSession, change: Change) -> None:
    """One row a change."""
    await session.execute(text("insert into ledgered (job_id) values (:id)"), {"id": change.job_id})


@hook(Ledgered, State.QUEUED, State.CANCELLED)
async def write(session: AsyncSession, change: Change) -> None:
    """One row a change."""
    await session.execute(text("insert into ledgered (job_id) values (:id)"), {"id": change.job_id})
    if change.arguments["refuses"]:
        raise RuntimeError("the hook's own words")


@pytest.fixture(params=["without hooks", "with hooks"])
def bulk(request: pytest.FixtureRequest, carafe_client: Client, monkeypatch: pytest.MonkeyPatch) -> BulkWorker:
    """The service, as it works with and without hooks of the application (other tests of this process declare some)."""
    kinds = frozenset({"some.kind"}) if request.param == "with hooks" else frozenset[str]()
    monkeypatch.setattr(bulk_module, "hooked", lambda _: kinds)
    return BulkWorker(carafe_client.database, carafe_client.queue)


async def died(client: Client, worker: ByHand, jobs: Sequence[Job | NewJob], error: str = "it failed") -> list[UUID]:
    """These jobs, dead."""
    ids = [job.id for job in await client.enqueue_many(jobs)]
    await die_again(worker, ids, error)
    return ids


async def die_again(worker: ByHand, ids: Sequence[UUID], error: str = "it failed") -> None:
    from carafe.engine.completions import Failed

    for begin in range(0, len(ids), 500):
        claims = await worker.claim(*ids[begin : begin + 500])
        await worker.ledger.write(
            [Failed(claim, 0.1, "error", "ValueError", error, "trace", 60.0, final=True) for claim in claims]
        )


def greets(number: int) -> list[Job]:
    return [Greet(name=str(index)) for index in range(number)]


async def states(client: Client, ids: Sequence[UUID]) -> dict[str, int]:
    async with client.database.connection() as connection:
        rows = await connection.fetch(
            """select state, count(*) as number from (select id, state from carafe.jobs union all
               select id, state from carafe.jobs_ended) j where id = any($1::uuid[]) group by state""",
            list(ids),
        )
    return {row["state"]: row["number"] for row in rows}


async def audited(client: Client, **wanted: Any) -> list[dict[str, Any]]:
    where = " and ".join(f"{name} = ${index}" for index, name in enumerate(wanted, 1)) or "true"
    async with client.database.connection() as connection:
        rows = await connection.fetch(f"select * from carafe.audit where {where} order by at, id", *wanted.values())
    return [dict(row) for row in rows]


def totals(record: BulkActionRecord) -> tuple[str, int, int, int, int]:
    return record.state, record.matched.number, record.done, record.skipped, record.failed


async def due_at_once(client: Client) -> None:
    """Let the time pass that a rate asks for."""
    async with client.database.connection() as connection:
        await connection.execute("update carafe.bulk_actions set next_at = now() - interval '1 minute'")


async def test_every_dead_job_of_the_filter_is_retried_once(
    carafe_client: Client, worker: ByHand, bulk: BulkWorker, hinted: Hinted
) -> None:
    ids = await died(carafe_client, worker, greets(2_300))
    others = await died(carafe_client, worker, [Add(a=1, b=2)])
    await carafe_client.queue.empty()

    started = await carafe_client.start_bulk(
        "retry", JobFilter(kind="tests.greet"), rate=100_000, reason="the webhook is back", by=ANA
    )
    assert totals(started) == ("running", 2_300, 0, 0, 0)
    await bulk.round()

    ended = await carafe_client.bulk(started.id)
    assert totals(ended) == ("done", 2_300, 2_300, 0, 0)
    assert ended.ended_at is not None
    assert await states(carafe_client, ids) == {"queued": 2_300}
    assert await states(carafe_client, others) == {"dead": 1}
    assert sorted(hinted()) == sorted(ids)
    rows = await audited(carafe_client, action="retry")
    assert sorted(row["target"] for row in rows) == sorted(map(str, ids))
    assert {(row["actor"], row["via"], row["reason"], row["bulk"]) for row in rows} == {
        ("ana", "dashboard", "the webhook is back", started.id)
    }
    whole = await audited(carafe_client, target=str(started.id))
    assert [(row["action"], row["actor"], row["via"]) for row in whole] == [
        ("bulk start", "ana", "dashboard"),
        ("bulk done", "steward", "steward"),
    ]
    assert not await bulk.work()


async def test_what_ends_after_the_start_is_not_touched(carafe_client: Client, worker: ByHand, bulk: BulkWorker) -> None:
    before, again = await died(carafe_client, worker, greets(2))

    started = await carafe_client.start_bulk("retry", DEAD, by=ANA)
    [after] = await died(carafe_client, worker, greets(1))
    # Retried by somebody else meanwhile, and dead once more: it has the same id, and another end.
    await carafe_client.retry(again)
    await die_again(worker, [again])
    await bulk.round()

    assert totals(await carafe_client.bulk(started.id)) == ("done", 2, 1, 1, 0)
    assert (await audited(carafe_client, action="bulk done"))[-1]["details"] == '{"done": 1, "failed": 0, "skipped": 1}'
    assert (await carafe_client.get(before)).state is State.QUEUED
    assert (await carafe_client.get(after)).state is State.DEAD
    assert (await carafe_client.get(again)).state is State.DEAD


@pytest.mark.parametrize("estimated", [False, True])
async def test_what_left_the_filter_before_it_was_reached_is_skipped(
    carafe_client: Client, worker: ByHand, bulk: BulkWorker, estimated: bool
) -> None:
    jobs = [NewJob(Greet(name=str(index)), delay=timedelta(hours=1)) for index in range(6)]
    ids = [job.id for job in await carafe_client.enqueue_many(jobs)]
    started = await carafe_client.start_bulk("run_now", JobFilter(kind="tests.greet"), by=ANA)
    async with carafe_client.database.connection() as connection:
        await connection.execute("update carafe.bulk_actions set matched_estimated = $1", estimated)
    for job_id in ids[:2]:
        await carafe_client.cancel(job_id)
    await bulk.round()
    # What is left of an estimate says nothing about jobs.
    assert totals(await carafe_client.bulk(started.id)) == ("done", 6, 4, 0 if estimated else 2, 0)


@asynccontextmanager
async def holding(url: str, query: str, *values: Any) -> Any:
    """Another transaction that holds rows until the block says `commit`, or ends."""
    connection = await asyncpg.connect(plain_dsn(url))
    transaction = connection.transaction()
    await transaction.start()
    try:
        await connection.fetch(query, *values)
        yield transaction
    finally:
        await connection.close()


@pytest.mark.parametrize("commits", [True, False])
async def test_a_job_that_somebody_else_retries_at_that_moment(
    carafe_client: Client, carafe_database_url: str, worker: ByHand, bulk: BulkWorker, commits: bool
) -> None:
    ids = await died(carafe_client, worker, greets(3))
    started = await carafe_client.start_bulk("retry", DEAD, by=ANA)

    taken = "delete from carafe.jobs_ended where id = $1"
    async with holding(carafe_database_url, taken, ids[1]) as transaction:
        # It waits for nobody: the others are done, and this one is left for later.
        assert await bulk.work()
        assert not await bulk.work()
        assert totals(await carafe_client.bulk(started.id)) == ("running", 3, 2, 0, 0)
        if commits:
            await transaction.commit()
    await due_at_once(carafe_client)
    await bulk.round()

    ended = totals(await carafe_client.bulk(started.id))
    assert ended == (("done", 3, 2, 1, 0) if commits else ("done", 3, 3, 0, 0))


async def test_a_concurrent_retry_of_every_job_changes_each_once(
    carafe_client: Client, worker: ByHand, bulk: BulkWorker
) -> None:
    ids = await died(carafe_client, worker, greets(60))
    started = await carafe_client.start_bulk("retry", DEAD, rate=40, by=ANA)

    async def singly() -> int:
        done = 0
        for job_id in reversed(ids):
            found = await carafe_client.get(job_id)
            if found.state is State.DEAD:
                try:
                    await carafe_client.retry(job_id, by=Actor("bob", "api"))
                    done += 1
                except NotAllowedInState:
                    pass  # the bulk action was faster
        return done

    async def all_together() -> None:
        while (await carafe_client.bulk(started.id)).state == "running":
            await due_at_once(carafe_client)
            await bulk.work()

    async with asyncio.timeout(60):
        by_hand, _ = await asyncio.gather(singly(), all_together())

    ended = await carafe_client.bulk(started.id)
    assert await states(carafe_client, ids) == {"queued": 60}
    assert ended.done + by_hand == 60
    rows = await audited(carafe_client, action="retry")
    assert sorted(row["target"] for row in rows) == sorted(map(str, ids))
    assert sum(row["actor"] == "bob" for row in rows) == by_hand
    # One retry each: the fence of a dead job is 1, and its four attempts more are granted once.
    async with carafe_client.database.connection() as connection:
        granted = await connection.fetch("select distinct attempt, max_attempts, fence from carafe.jobs")
    assert [tuple(row) for row in granted] == [(1, 5, 1)]


async def test_two_leaders_for_a_moment_do_everything_once(carafe_client: Client, worker: ByHand, bulk: BulkWorker) -> None:
    ids = await died(carafe_client, worker, greets(1_500))
    started = await carafe_client.start_bulk("retry", DEAD, rate=100_000, by=ANA)
    other = BulkWorker(carafe_client.database, carafe_client.queue)

    async with asyncio.timeout(60):
        while (await carafe_client.bulk(started.id)).state == "running":
            await asyncio.gather(bulk.round(), other.round())

    assert totals(await carafe_client.bulk(started.id)) == ("done", 1_500, 1_500, 0, 0)
    assert len(await audited(carafe_client, action="retry")) == len(ids)


async def test_a_batch_that_is_cut_off_leaves_nothing_behind(
    carafe_client: Client, worker: ByHand, bulk: BulkWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = await died(carafe_client, worker, greets(30))
    started = await carafe_client.start_bulk("retry", DEAD, rate=20, by=ANA)
    await bulk.work()
    assert totals(await carafe_client.bulk(started.id)) == ("running", 30, 10, 0, 0)
    await due_at_once(carafe_client)

    async def cut_off(connection: Any, *_: Any, **__: Any) -> None:
        pid = connection.get_server_pid()
        async with carafe_client.database.connection() as other:
            await other.fetchval("select pg_terminate_backend($1, 5000)", pid)
        await connection.execute("select 1")

    with monkeypatch.context() as patched:
        patched.setattr(bulk_module, "record_each", cut_off)
        await bulk.round()

    assert totals(await carafe_client.bulk(started.id)) == ("running", 30, 10, 0, 0)
    assert await states(carafe_client, ids) == {"queued": 10, "dead": 20}
    assert len(await audited(carafe_client, action="retry")) == 10
    for _ in range(3):
        await due_at_once(carafe_client)
        await BulkWorker(carafe_client.database, carafe_client.queue).work()
    assert totals(await carafe_client.bulk(started.id)) == ("done", 30, 30, 0, 0)
    assert len({row["target"] for row in await audited(carafe_client, action="retry")}) == 30


async def test_a_rate_bounds_each_batch_and_the_time_to_the_next(
    carafe_client: Client, worker: ByHand, bulk: BulkWorker
) -> None:
    await died(carafe_client, worker, greets(40))
    started = await carafe_client.start_bulk("retry", DEAD, rate=20, by=ANA)

    async def apart() -> float:
        async with carafe_client.database.connection() as connection:
            return float(
                await connection.fetchval(
                    "select extract(epoch from next_at - created_at) from carafe.bulk_actions where id = $1", started.id
                )
            )

    assert await bulk.work()
    assert (await carafe_client.bulk(started.id)).done == 10  # half a second's worth
    assert await apart() == pytest.approx(0.5)
    # Wherever the clock stands: a batch comes when its time has come, and only then.
    async with carafe_client.database.connection() as connection:
        await connection.execute("update carafe.bulk_actions set next_at = now() + interval '1 hour'")
    assert not await bulk.work()
    assert (await carafe_client.bulk(started.id)).done == 10
    # Time that passed unused is caught up with for a second, not for an hour.
    async with carafe_client.database.connection() as connection:
        await connection.execute("update carafe.bulk_actions set next_at = now() - interval '1 hour'")
    assert await bulk.work()
    async with carafe_client.database.connection() as connection:
        behind = await connection.fetchval("select updated_at - next_at from carafe.bulk_actions")
    assert behind < timedelta(seconds=0.5)


async def test_a_large_replay_is_given_a_rate(carafe_client: Client, worker: ByHand) -> None:
    await died(carafe_client, worker, greets(1_001))

    assert (await carafe_client.start_bulk("retry", DEAD, by=ANA)).rate == 50
    assert (await carafe_client.start_bulk("retry", DEAD, rate=400, by=ANA)).rate == 400
    assert (await carafe_client.start_bulk("discard", DEAD, reason="gone", by=ANA)).rate is None
    some = JobFilter(ids=(uuid7(),))
    assert (await carafe_client.start_bulk("retry", some, by=ANA)).rate is None


async def test_it_can_be_paused_resumed_and_cancelled(carafe_client: Client, worker: ByHand, bulk: BulkWorker) -> None:
    ids = await died(carafe_client, worker, greets(30))
    started = await carafe_client.start_bulk("retry", DEAD, rate=20, by=ANA)
    await bulk.work()

    assert totals(await carafe_client.pause_bulk(started.id, by=Actor("bob", "api")))[:3] == ("paused", 30, 10)
    await due_at_once(carafe_client)
    assert not await bulk.work()
    assert (await carafe_client.resume_bulk(started.id, by=ANA)).state == "running"
    assert await bulk.work()
    cancelled = await carafe_client.cancel_bulk(started.id, by=Actor("eve", "cli"))
    assert totals(cancelled) == ("cancelled", 30, 20, 0, 0)
    assert cancelled.ended_at is not None
    await due_at_once(carafe_client)
    assert not await bulk.work()

    assert await states(carafe_client, ids) == {"queued": 20, "dead": 10}
    with pytest.raises(BulkActionEnded, match="is cancelled"):
        await carafe_client.resume_bulk(started.id, by=ANA)
    with pytest.raises(BulkActionNotFound):
        await carafe_client.pause_bulk(uuid7(), by=ANA)
    assert [(row["action"], row["actor"]) for row in await audited(carafe_client, target=str(started.id))] == [
        ("bulk start", "ana"),
        ("bulk pause", "bob"),
        ("bulk resume", "ana"),
        ("bulk cancel", "eve"),
    ]


@pytest.fixture
def ledgered(carafe_client: Client, carafe_database_url: str) -> Client:
    """The client, with the application's table in its database."""
    with psycopg.connect(carafe_database_url) as connection:
        connection.execute("create table ledgered (job_id uuid)")
    return carafe_client


@pytest.mark.parametrize("action", ["retry", "cancel"])
async def test_one_bad_hook_fails_its_own_job(ledgered: Client, worker: ByHand, action: Any) -> None:
    client = ledgered
    jobs = [Ledgered(refuses=index == 3) for index in range(7)]
    if action == "retry":
        ids = await died(client, worker, jobs)
    else:
        ids = [job.id for job in await client.enqueue_many([NewJob(job, delay=3600) for job in jobs])]
    started = await client.start_bulk(action, JobFilter(kind="tests.ledgered"), by=ANA)

    await BulkWorker(client.database, client.queue).round()

    ended = await client.bulk(started.id)
    assert totals(ended) == ("done", 7, 6, 0, 1)
    assert "the hook's own words" in (ended.last_error or "")
    assert str(ids[3]) in (ended.last_error or "")
    good = {job_id for job_id in ids if job_id != ids[3]}
    async with client.database.connection() as connection:
        assert {row["job_id"] for row in await connection.fetch("select job_id from ledgered")} == good
    assert {UUID(row["target"]) for row in await audited(client, action=action)} == good
    assert (await client.get(ids[3])).state is (State.DEAD if action == "retry" else State.SCHEDULED)


async def test_a_running_job_that_is_asked_to_stop_enters_no_state_by_that(ledgered: Client, worker: ByHand) -> None:
    job = (await ledgered.enqueue(Begun())).id
    [claim] = await worker.claim(job)
    started = await ledgered.start_bulk("cancel", JobFilter(), by=ANA)

    await BulkWorker(ledgered.database, ledgered.queue).round()

    assert totals(await ledgered.bulk(started.id)) == ("done", 1, 1, 0, 0)
    assert (await ledgered.get(claim.id)).cancel_requested_at is not None
    async with ledgered.database.connection() as connection:
        assert await connection.fetchval("select count(*) from ledgered") == 1


async def test_a_unique_key_has_one_holder(carafe_client: Client, worker: ByHand, bulk: BulkWorker) -> None:
    # Two that died one after the other with the same key, and one whose key is another live job's now.
    first = await died(carafe_client, worker, [NewJob(Greet(name="1"), unique_key="a")])
    second = await died(carafe_client, worker, [NewJob(Greet(name="2"), unique_key="a")])
    third = await died(carafe_client, worker, [NewJob(Greet(name="3"), unique_key="b"), Greet(name="4")])
    await carafe_client.enqueue(Greet(name="5"), unique_key="b")
    started = await carafe_client.start_bulk("retry", DEAD, by=ANA)

    await bulk.round()

    ended = await carafe_client.bulk(started.id)
    assert totals(ended) == ("done", 4, 2, 0, 2)
    assert "unique key" in (ended.last_error or "")
    assert await states(carafe_client, first + second) == {"queued": 1, "dead": 1}
    assert await states(carafe_client, third) == {"dead": 1, "queued": 1}


async def test_a_unique_key_that_is_taken_in_that_moment(
    carafe_client: Client, worker: ByHand, bulk: BulkWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = await died(carafe_client, worker, [NewJob(Greet(name="1"), unique_key="a"), Greet(name="2")])
    started = await carafe_client.start_bulk("retry", DEAD, by=ANA)
    lock = Walk.next

    async def then_taken(self: Any, *given: Any) -> Any:
        found = await lock(self, *given)
        await carafe_client.enqueue(Greet(name="3"), unique_key="a")
        return found

    monkeypatch.setattr(Walk, "next", then_taken)
    await bulk.round()

    ended = await carafe_client.bulk(started.id)
    assert totals(ended) == ("done", 2, 1, 0, 1)
    assert [(await carafe_client.get(job_id)).state for job_id in ids] == [State.DEAD, State.QUEUED]


async def test_cancelling_ends_what_waits_and_asks_what_runs(
    carafe_client: Client, worker: ByHand, bulk: BulkWorker
) -> None:
    running = (await carafe_client.enqueue(Greet(name="1"))).id
    [claim] = await worker.claim(running)
    retrying = (await carafe_client.enqueue(Fail())).id
    [failing] = await worker.claim(retrying)
    await worker.fail(failing)
    queued = (await carafe_client.enqueue(Greet(name="2"))).id
    scheduled = (await carafe_client.enqueue(Greet(name="3"), delay=60)).id
    [dead] = await died(carafe_client, worker, greets(1))

    started = await carafe_client.start_bulk("cancel", JobFilter(), reason="not needed", by=ANA)
    later = (await carafe_client.enqueue(Greet(name="4"))).id
    await bulk.round()

    assert totals(await carafe_client.bulk(started.id)) == ("done", 4, 4, 0, 0)
    for job_id in (retrying, queued, scheduled):
        record = await carafe_client.get(job_id)
        assert (record.state, record.error) == (State.CANCELLED, "not needed")
    asked = await carafe_client.get(running)
    assert (asked.state, asked.cancel_requested_at is not None) == (State.RUNNING, True)
    await worker.cancel(claim)
    assert (await carafe_client.get(dead)).state is State.DEAD
    assert (await carafe_client.get(later)).state is State.QUEUED
    assert len(await audited(carafe_client, action="cancel")) == 4


async def test_a_job_that_begins_meanwhile_is_no_longer_one_of_those_that_wait(
    carafe_client: Client, worker: ByHand, bulk: BulkWorker
) -> None:
    one, other = (job.id for job in await carafe_client.enqueue_many(greets(2)))
    started = await carafe_client.start_bulk("cancel", JobFilter(states=frozenset({State.QUEUED})), by=ANA)
    await worker.claim(one)

    await bulk.round()

    assert totals(await carafe_client.bulk(started.id)) == ("done", 2, 1, 1, 0)
    assert (await carafe_client.get(one)).cancel_requested_at is None
    assert (await carafe_client.get(other)).state is State.CANCELLED


async def test_running_now(carafe_client: Client, worker: ByHand, bulk: BulkWorker, hinted: Hinted) -> None:
    later = [job.id for job in await carafe_client.enqueue_many([NewJob(Greet(name="1"), delay=60)] * 3)]
    [claim] = await worker.claim((await carafe_client.enqueue(Fail())).id)
    await worker.fail(claim)

    started = await carafe_client.start_bulk("run_now", JobFilter(), by=ANA)
    await bulk.round()

    assert totals(await carafe_client.bulk(started.id)) == ("done", 4, 4, 0, 0)
    assert await states(carafe_client, [*later, claim.id]) == {"queued": 4}
    assert set(hinted()) >= {*later, claim.id}
    assert len(await audited(carafe_client, action="run_now")) == 4


async def test_what_is_discarded_stays_findable_and_is_left_alone(
    carafe_client: Client, worker: ByHand, bulk: BulkWorker
) -> None:
    ids = await died(carafe_client, worker, greets(5))
    with pytest.raises(InvalidOption, match="reason: must be given"):
        await carafe_client.start_bulk("discard", DEAD, by=ANA)
    await carafe_client.discard(ids[0], reason="by hand", by=Actor("bob", "api"))

    started = await carafe_client.start_bulk("discard", DEAD, reason="the feed is gone", by=ANA)
    await bulk.round()

    assert totals(await carafe_client.bulk(started.id)) == ("done", 4, 4, 0, 0)
    record = await carafe_client.get(ids[1])
    assert (record.state, record.resolved_by, record.resolved_reason) == (State.DEAD, "ana", "the feed is gone")
    assert (await carafe_client.get(ids[0])).resolved_by == "bob"
    assert (await carafe_client.queues())[0].dead == 0
    assert {job.id for job in (await carafe_client.find(states=[State.DEAD])).jobs} == set(ids)
    retry = await carafe_client.start_bulk("retry", DEAD, by=ANA)
    assert retry.matched.number == 0
    await bulk.round()
    assert await states(carafe_client, ids) == {"dead": 5}
    # When the filter asks for them, they come back, and are like any other.
    again = await carafe_client.start_bulk("retry", JobFilter(resolved=True), by=ANA)
    await bulk.round()
    assert totals(await carafe_client.bulk(again.id)) == ("done", 5, 5, 0, 0)
    await die_again(worker, ids)
    assert (await carafe_client.queues())[0].dead == 5


async def test_a_selection_is_done_as_it_is(carafe_client: Client, worker: ByHand, bulk: BulkWorker) -> None:
    dead = await died(carafe_client, worker, greets(4))
    live = (await carafe_client.enqueue(Greet(name="1"))).id
    chosen = (dead[2], live, dead[0], uuid7())

    started = await carafe_client.start_bulk("retry", JobFilter(ids=chosen), rate=2, by=ANA)
    while (await carafe_client.bulk(started.id)).state == "running":
        await due_at_once(carafe_client)
        assert await bulk.work()

    assert totals(await carafe_client.bulk(started.id)) == ("done", 4, 2, 2, 0)
    assert await states(carafe_client, dead) == {"queued": 2, "dead": 2}
    assert [(await carafe_client.get(job_id)).state for job_id in (dead[2], dead[0])] == [State.QUEUED] * 2


@pytest.mark.parametrize("action", ["discard", "cancel"])
async def test_jobs_that_are_few_among_many_are_all_found(
    carafe_client: Client, worker: ByHand, bulk: BulkWorker, monkeypatch: pytest.MonkeyPatch, action: Any
) -> None:
    # Each batch may look at seven rows only: it goes on from there, whether or not it has found anything.
    monkeypatch.setattr(bulk_module, "LOOK", 7)
    monkeypatch.setattr(bulk_module, "LEAST_LOOK", 7)
    bulk._look = 7
    jobs: list[Job] = greets(60)
    for index in (0, 23, 24, 59):
        jobs[index] = Unhandled(value="rare")
    if action == "discard":
        ids = await died(carafe_client, worker, jobs)
    else:
        ids = [job.id for job in await carafe_client.enqueue_many(jobs)]

    wanted = JobFilter(argument=("value", "rare"))
    started = await carafe_client.start_bulk(action, wanted, reason="rare", by=ANA)
    await bulk.round()

    assert totals(await carafe_client.bulk(started.id)) == ("done", 4, 4, 0, 0)
    touched = {UUID(row["target"]) for row in await audited(carafe_client, action=action)}
    assert touched == {ids[index] for index in (0, 23, 24, 59)}


async def test_filters_by_error_and_time(carafe_client: Client, worker: ByHand, bulk: BulkWorker) -> None:
    timeouts = await died(carafe_client, worker, greets(2), "connect timeout")
    others = await died(carafe_client, worker, greets(2), "no such briefing")
    record = await carafe_client.get(timeouts[1])
    assert record.ended_at is not None
    moment = (await carafe_client.get(others[0])).ended_at

    started = await carafe_client.start_bulk("retry", JobFilter(text="CONNECT", until=moment), by=ANA)
    await bulk.round()

    assert totals(await carafe_client.bulk(started.id)) == ("done", 2, 2, 0, 0)
    assert await states(carafe_client, timeouts) == {"queued": 2}
    assert await states(carafe_client, others) == {"dead": 2}


@pytest.mark.parametrize(
    ("action", "wanted", "said"),
    [
        ("retry", JobFilter(states=frozenset({State.SUCCEEDED})), "state: retry is for jobs that are dead"),
        ("cancel", JobFilter(states=frozenset({State.DEAD})), "state: cancel is for jobs that are scheduled, queued"),
        ("cancel", JobFilter(fingerprint="abc"), "fingerprint: only dead jobs have one"),
        ("discard", JobFilter(resolved=True), "resolved: resolved jobs have been discarded already"),
        ("explode", JobFilter(), "action: must be one of retry, run_now, cancel, discard"),
    ],
)
async def test_what_cannot_be_done_is_refused(carafe_client: Client, action: Any, wanted: JobFilter, said: str) -> None:
    with pytest.raises(InvalidOption, match=said):
        await carafe_client.start_bulk(action, wanted, reason="why not", by=ANA)
    for rate in (0, -1, float("nan"), 1e9):
        with pytest.raises(InvalidOption, match="rate: must be from"):
            await carafe_client.start_bulk("retry", DEAD, rate=rate, by=ANA)
    assert await carafe_client.bulks() == []
    assert await audited(carafe_client) == []


async def test_each_kind_is_granted_its_own_attempts(carafe_client: Client, worker: ByHand, bulk: BulkWorker) -> None:
    [fails] = await died(carafe_client, worker, [Fail()])  # max_retries=2
    [greets_] = await died(carafe_client, worker, greets(1))

    await carafe_client.start_bulk("retry", DEAD, by=ANA)
    await bulk.round()

    rows = [await row_of(carafe_client.database, job_id) for job_id in (fails, greets_)]
    assert [(row["attempt"], row["max_attempts"], row["fence"]) for row in rows] == [(1, 4, 1), (1, 5, 1)]


async def test_in_a_paused_queue_nothing_is_hinted(
    carafe_client: Client, worker: ByHand, bulk: BulkWorker, hinted: Hinted
) -> None:
    ids = await died(carafe_client, worker, greets(3))
    await carafe_client.pause()

    await carafe_client.start_bulk("retry", DEAD, by=ANA)
    await bulk.round()

    assert hinted() == []
    assert await states(carafe_client, ids) == {"queued": 3}


async def test_a_batch_that_cannot_be_done_says_why_and_others_go_on(
    carafe_client: Client, worker: ByHand, bulk: BulkWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = await died(carafe_client, worker, greets(3))
    broken = await carafe_client.start_bulk("retry", JobFilter(ids=(ids[0],)), by=ANA)
    fine = await carafe_client.start_bulk("discard", JobFilter(ids=(ids[1],)), reason="gone", by=ANA)

    def breaks() -> str:
        raise RuntimeError("of its own")

    with monkeypatch.context() as patched:
        patched.setattr(store_actions, "grants", breaks)
        await bulk.round()
        await bulk.round()

    said = await carafe_client.bulk(broken.id)
    assert (totals(said), said.last_error) == (("running", 1, 0, 0, 0), "RuntimeError: of its own")
    assert (await carafe_client.bulk(fine.id)).state == "done"
    await due_at_once(carafe_client)
    await bulk.round()
    assert totals(await carafe_client.bulk(broken.id)) == ("done", 1, 1, 0, 0)


async def test_the_newest_come_first(carafe_client: Client) -> None:
    started = [await carafe_client.start_bulk("cancel", JobFilter(), by=ANA) for _ in range(3)]

    assert [one.id for one in await carafe_client.bulks()] == [one.id for one in reversed(started)]
    assert len(await carafe_client.bulks(limit=2)) == 2
