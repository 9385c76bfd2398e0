"""Pausing one kind: nothing of it starts or asks for workers, the others go on, and resuming loses nothing."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from redis import Redis

from carafe import Client, InvalidOption, KindNotFound, NewJob, State, SyncClient
from carafe.jobs.queue_name import QUEUE
from carafe.jobs.states import ENDED
from carafe.steward.gauges import Sampler
from carafe.steward.promoter import Promoter
from carafe.steward.repairer import Repairer
from carafe.steward.statements import RESCUE
from carafe.store.audit import Actor
from tests.jobs.by_hand import ByHand, make_due, row_of, run
from tests.jobs.conftest import hinted, worker
from tests.jobs.kinds import Fail, Greet
from tests.steward.conftest import Later

Hinted = Callable[[], list[UUID]]
__all__ = ["hinted", "worker"]

ADA, OTHER = Greet(name="Ada"), Fail()
PAUSED, GOES_ON = "tests.greet", "tests.fail"
OPS = Actor("ops", "cli")


async def stamps(client: Client, *jobs: UUID) -> list[Any]:
    return [(await row_of(client.database, job))["hinted_at"] for job in jobs]


async def test_it_says_since_when_by_whom_and_why(carafe_client: Client) -> None:
    paused = await carafe_client.pause_kind(PAUSED, reason="the webhook is down", by=OPS)

    assert paused.paused_at is not None
    assert (paused.kind, paused.paused_by, paused.paused_reason) == (PAUSED, "ops", "the webhook is down")
    again = await carafe_client.pause_kind(PAUSED, reason="another", by=Actor("somebody else", "api"))
    assert (again.paused_at, again.paused_by, again.paused_reason) == (paused.paused_at, "ops", "the webhook is down")
    assert (paused.unchanged, again.unchanged) == (False, True)
    assert [kind.kind for kind in await carafe_client.paused_kinds()] == [PAUSED]
    resumed = [await carafe_client.resume_kind(PAUSED, by=OPS) for _ in range(2)]
    assert [(kind.paused_at, kind.unchanged) for kind in resumed] == [(None, False), (None, True)]
    assert await carafe_client.paused_kinds() == []
    async with carafe_client.database.connection() as connection:
        rows = await connection.fetch("select action, actor, target, reason from carafe.audit order by at, id")
    assert [tuple(row) for row in rows] == [
        ("pause kind", "ops", PAUSED, "the webhook is down"),
        ("pause kind", "somebody else", PAUSED, "another"),
        ("resume kind", "ops", PAUSED, None),
        ("resume kind", "ops", PAUSED, None),
    ]


async def test_a_kind_that_nobody_knows_is_refused(carafe_client: Client) -> None:
    for act in (carafe_client.pause_kind, carafe_client.resume_kind):
        with pytest.raises(KindNotFound, match=r"no kind 'tests\.gret'"):
            await act("tests.gret", by=OPS)
    async with carafe_client.database.connection() as connection:
        assert await connection.fetch("select 1 from carafe.audit") == []
    with pytest.raises(InvalidOption, match="kind: must be 1 to 200 letters"):
        await carafe_client.pause_kind("a b")
    await carafe_client.enqueue(ADA)
    async with carafe_client.database.connection() as connection:
        # A kind of another application, which only a job shows.
        await connection.execute("update carafe.jobs set kind = 'elsewhere.kind'")
    assert (await carafe_client.pause_kind("elsewhere.kind")).held == 0
    async with carafe_client.database.connection() as connection:
        await connection.execute("delete from carafe.jobs")
    assert not (await carafe_client.resume_kind("elsewhere.kind")).unchanged


async def test_its_hints_leave_the_list_and_those_of_others_stay(
    carafe_client: Client, worker: ByHand, hinted: Hinted
) -> None:
    running = (await carafe_client.enqueue(ADA)).id
    [claim] = await worker.claim(running)
    waiting, other = (await carafe_client.enqueue(ADA)).id, (await carafe_client.enqueue(OTHER)).id

    await carafe_client.pause_kind(PAUSED)

    assert hinted() == [other]
    assert [claimed.id for claimed in await worker.claim(waiting, other)] == [other]
    assert (await carafe_client.get(waiting)).note.startswith(f"The kind {PAUSED!r} is paused since ")  # type: ignore[union-attr]
    await worker.succeed(claim)
    assert (await carafe_client.get(running)).state is State.SUCCEEDED


async def test_enqueueing_goes_on_without_hints(carafe_client: Client, hinted: Hinted) -> None:
    await carafe_client.pause_kind(PAUSED)

    one = await carafe_client.enqueue(ADA)
    now, later, other = await carafe_client.enqueue_many([ADA, NewJob(ADA, delay=60), OTHER])
    async with carafe_client.database.sessions()() as session, session.begin():
        in_session = await carafe_client.enqueue(ADA, session=session)

    assert [job.state for job in (one, now, other, in_session)] == [State.QUEUED] * 4
    assert later.state is State.SCHEDULED
    assert hinted() == [other.id]
    [kind] = await carafe_client.paused_kinds()
    assert kind.held == 3
    await carafe_client.resume_kind(PAUSED)
    assert hinted() == [other.id, one.id, now.id, in_session.id]


async def test_whatever_becomes_queued_gets_no_hint(
    carafe_client: Client, worker: ByHand, hinted: Hinted, later: Later
) -> None:
    database, queue = carafe_client.database, carafe_client.queue
    dead, lost, released, due, hastened = [(await carafe_client.enqueue(ADA)).id for _ in range(5)]
    claims = {claim.id: claim for claim in await worker.claim(dead, lost, released, due, hastened)}
    await worker.fail(claims[dead], final=True)
    await worker.snooze(claims[due])
    await worker.fail(claims[hastened])
    await carafe_client.pause_kind(PAUSED)

    await worker.release(claims[released])
    await make_due(database, due)
    await Promoter(database, queue).round()
    assert (await carafe_client.retry(dead)).state is State.QUEUED
    assert (await carafe_client.run_now(hastened)).state is State.QUEUED
    lost_worker = {"worker": worker.id, "worker_name": "by hand", "error": "lost", "fingerprint": "", "free_releases": 10}
    rows = await run(database, RESCUE, **lost_worker)
    assert [(row["id"], row["state"], row["hinted_at"]) for row in rows] == [(lost, "queued", None)]
    await later()
    await Repairer(database, queue).round()

    assert hinted() == []
    everything = [dead, lost, released, due, hastened]
    assert {(await row_of(database, job))["state"] for job in everything} == {"queued"}
    await carafe_client.resume_kind(PAUSED)
    assert set(hinted()) == set(everything)
    assert {claim.id for claim in await worker.claim(*everything)} == set(everything)


async def test_the_repairer_looks_at_a_held_job_once_and_repairs_the_others(
    carafe_client: Client, hinted: Hinted, later: Later, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("carafe.client.client.RESUMED_AT_ONCE", 0)
    monkeypatch.setattr("carafe.steward.repairer.BATCH", 4)
    held = [job.id for job in await carafe_client.enqueue_many([ADA] * 10)]
    others = [job.id for job in await carafe_client.enqueue_many([OTHER] * 6)]
    await carafe_client.pause_kind(PAUSED)
    assert hinted() == []
    await later()

    repairer = Repairer(carafe_client.database, carafe_client.queue)
    await repairer.round()

    assert sorted(hinted()) == sorted(others)
    assert repairer.repaired == len(others)
    assert await stamps(carafe_client, *held) == [None] * 10
    await later()
    await repairer.round()
    assert await stamps(carafe_client, *held) == [None] * 10
    assert (await carafe_client.paused_kinds())[0].held == 10


async def test_a_deep_backlog_comes_back_by_the_steward_while_another_kind_stays_paused(
    carafe_client: Client, hinted: Hinted, later: Later, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("carafe.client.client.RESUMED_AT_ONCE", 3)
    monkeypatch.setattr("carafe.steward.repairer.BATCH", 4)
    await carafe_client.pause_kind(GOES_ON)
    await carafe_client.pause_kind(PAUSED)
    await carafe_client.enqueue_many([OTHER] * 9)
    jobs = [job.id for job in await carafe_client.enqueue_many([ADA] * 11)]

    await carafe_client.resume_kind(PAUSED)
    assert len(hinted()) == 3
    await Repairer(carafe_client.database, carafe_client.queue).round()

    assert sorted(hinted()) == sorted(jobs)


async def test_a_job_that_missed_the_end_of_the_pause_is_found(carafe_client: Client, hinted: Hinted) -> None:
    await carafe_client.pause_kind(PAUSED)
    job = (await carafe_client.enqueue(ADA)).id
    async with carafe_client.database.connection() as connection:
        # The end of the pause is committed, and what it does afterwards is lost.
        await connection.execute("delete from carafe.paused_kinds")

    await Repairer(carafe_client.database, carafe_client.queue).round()

    assert hinted() == [job]


async def test_pauses_of_the_queue_and_of_a_kind_do_not_end_each_other(carafe_client: Client, hinted: Hinted) -> None:
    await carafe_client.pause_kind(PAUSED)
    await carafe_client.pause()
    held, other = (await carafe_client.enqueue(ADA)).id, (await carafe_client.enqueue(OTHER)).id

    await carafe_client.resume()
    assert hinted() == [other]
    await carafe_client.pause()
    await carafe_client.resume_kind(PAUSED)
    assert hinted() == []
    await carafe_client.resume()
    assert set(hinted()) == {held, other}


async def test_the_sampler_asks_for_no_worker_and_the_wait_is_not_counted(carafe_client: Client) -> None:
    await carafe_client.enqueue_many([ADA] * 12)
    await carafe_client.pause_kind(PAUSED)
    await carafe_client.enqueue_many([OTHER] * 2)
    async with carafe_client.database.connection() as connection:
        await connection.execute(
            "update carafe.jobs set due_at = now() - interval '1 hour' where kind = $1 and state = 'queued'", PAUSED
        )
        await Sampler(carafe_client.database, scales=True).round()
        row = await connection.fetchrow("select queued, held, wanted, oldest_wait from carafe.gauges")
    assert row is not None
    assert (row["queued"], row["held"], row["wanted"]) == (14, 12, 1)
    assert row["oldest_wait"] < 600
    [queue] = await carafe_client.queues()
    assert (queue.queued, queue.held) == (14, 12)
    assert queue.oldest_wait is not None
    assert queue.oldest_wait < 600


async def test_a_late_hint_is_dropped(carafe_client: Client, carafe_redis_url: str, worker: ByHand, hinted: Hinted) -> None:
    job = (await carafe_client.enqueue(ADA)).id
    with Redis.from_url(carafe_redis_url, decode_responses=False) as redis:
        older = redis.dump(QUEUE)
        await carafe_client.pause_kind(PAUSED)
        redis.restore(QUEUE, 0, older)  # as a push does that was under way
    assert hinted() == [job]
    assert await worker.claim(job) == []


async def test_without_redis_a_kind_can_be_paused_and_resumed(carafe_database_url: str, carafe_modules: None) -> None:
    async with Client.connect(database_url=carafe_database_url, redis_url="redis://127.0.0.1:1/0") as client:
        job = await client.enqueue(ADA)
        assert (await client.pause_kind(PAUSED)).paused_at is not None
        assert (await client.resume_kind(PAUSED)).paused_at is None
        assert (await client.get(job.id)).state not in ENDED


def test_the_synchronous_client_does_the_same(carafe_sync_client: SyncClient, hinted: Hinted) -> None:
    assert carafe_sync_client.pause_kind(PAUSED, by=OPS).paused_by == "ops"
    job = carafe_sync_client.enqueue(ADA)
    assert hinted() == []
    assert [kind.held for kind in carafe_sync_client.paused_kinds()] == [1]
    assert carafe_sync_client.resume_kind(PAUSED).paused_at is None
    assert hinted() == [job.id]


async def test_workers_of_a_release_without_such_pauses_are_named(carafe_client: Client) -> None:
    for name, kinds, versions, age in (
        ("old-1", [PAUSED], [], 0),
        ("old-2", [PAUSED, GOES_ON], [], 0),
        ("old-of-another-kind", [GOES_ON], [], 0),
        ("new", [PAUSED], [1], 0),
        ("old-but-silent", [PAUSED], [], 60),
    ):
        async with carafe_client.database.connection() as connection:
            await connection.execute(
                "insert into carafe.workers (id, name, host, pid, incarnation, version, kinds, versions, concurrency, state,"
                " beat_at) values (gen_random_uuid(), $1, 'h', 1, $1, '0.2.0', $2, $3, 5, 'running',"
                " now() - make_interval(secs => $4))",
                name,
                kinds,
                versions,
                float(age),
            )

    said = (await carafe_client.pause_kind(PAUSED)).note

    assert said is not None
    assert said.startswith("2 live workers of version 0.2.0 (old-")
    assert said.endswith(
        f"do not know pauses of kinds and still start jobs of {PAUSED!r}: replace them, or pause the queue."
    )
    assert all(name in said for name in ("old-1", "old-2"))
    assert [kind.note for kind in await carafe_client.paused_kinds()] == [said]
    async with carafe_client.database.connection() as connection:
        await connection.execute("delete from carafe.workers where name like 'old-_'")
    assert [kind.note for kind in await carafe_client.paused_kinds()] == [None]
