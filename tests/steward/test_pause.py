"""While a queue is paused, none of its jobs starts and nothing in Redis requests workers. No job is lost when it is
resumed."""

from collections.abc import Callable
from uuid import UUID

import pytest
from redis import Redis
from structlog.testing import capture_logs

from carafe import Client, NewJob, QueueNotFound, State, SyncClient
from carafe.jobs.queue_name import QUEUE
from carafe.jobs.states import ENDED
from carafe.steward.pauses import Pauser
from carafe.steward.promoter import Promoter
from carafe.steward.repairer import Repairer
from carafe.steward.statements import RESCUE
from carafe.store.audit import Actor
from tests.jobs.by_hand import ByHand, make_due, row_of, run
from tests.jobs.conftest import hinted, worker
from tests.jobs.kinds import Greet

Hinted = Callable[[], list[UUID]]
__all__ = ["hinted", "worker"]

ADA = Greet(name="Ada")
OPS = Actor("ops", "cli")


async def test_pausing_says_since_when_by_whom_and_why(carafe_client: Client) -> None:
    paused = await carafe_client.pause(reason="the webhook is down", by=OPS)

    assert paused.paused_at is not None
    assert (paused.name, paused.paused_by, paused.paused_reason) == ("default", "ops", "the webhook is down")
    again = await carafe_client.pause(reason="another", by=Actor("somebody else", "api"))
    assert again.paused_at == paused.paused_at
    assert (again.paused_by, again.paused_reason) == ("ops", "the webhook is down")
    resumed = await carafe_client.resume()
    assert (resumed.paused_at, resumed.paused_by, resumed.paused_reason) == (None, None, None)


async def test_a_queue_that_is_not_there(carafe_client: Client) -> None:
    with pytest.raises(QueueNotFound, match="no queue 'other'"):
        await carafe_client.pause("other")
    with pytest.raises(QueueNotFound):
        await carafe_client.resume("other")


async def test_pausing_empties_the_list_and_nothing_is_claimed(
    carafe_client: Client, worker: ByHand, hinted: Hinted
) -> None:
    running = (await carafe_client.enqueue(ADA)).id
    [claim] = await worker.claim(running)
    waiting = (await carafe_client.enqueue(ADA)).id

    await carafe_client.pause()

    assert hinted() == []
    assert await worker.claim(waiting) == []
    assert (await carafe_client.get(waiting)).note.startswith("The queue is paused since ")  # type: ignore[union-attr]
    await worker.succeed(claim)
    assert (await carafe_client.get(running)).state is State.SUCCEEDED


async def test_enqueueing_goes_on_without_hints(carafe_client: Client, hinted: Hinted) -> None:
    await carafe_client.pause()

    one = await carafe_client.enqueue(ADA)
    now, later = await carafe_client.enqueue_many([ADA, NewJob(ADA, delay=60)])
    keyed = await carafe_client.enqueue(ADA, unique_key="only")
    async with carafe_client.database.sessions()() as session, session.begin():
        in_session = await carafe_client.enqueue(ADA, session=session)

    assert [job.state for job in (one, now, keyed, in_session)] == [State.QUEUED] * 4
    assert later.state is State.SCHEDULED
    assert hinted() == []
    await carafe_client.resume()
    assert hinted() == [one.id, now.id, keyed.id, in_session.id]


async def test_whatever_becomes_queued_gets_no_hint(carafe_client: Client, worker: ByHand, hinted: Hinted) -> None:
    database, queue = carafe_client.database, carafe_client.queue
    dead, lost, released, due, hastened = [(await carafe_client.enqueue(ADA)).id for _ in range(5)]
    claims = {claim.id: claim for claim in await worker.claim(dead, lost, released, due, hastened)}
    await worker.fail(claims[dead], final=True)
    await worker.snooze(claims[due])
    await worker.fail(claims[hastened])
    await carafe_client.pause()

    await worker.release(claims[released])
    await make_due(database, due)
    await Promoter(database, queue).round()
    assert (await carafe_client.retry(dead)).state is State.QUEUED
    assert (await carafe_client.run_now(hastened)).state is State.QUEUED
    lost_worker = {"worker": worker.id, "worker_name": "by hand", "error": "lost", "fingerprint": "", "free_releases": 10}
    rows = await run(database, RESCUE, **lost_worker)
    assert [(row["id"], row["state"], row["hinted_at"]) for row in rows] == [(lost, "queued", None)]
    await Repairer(database, queue).round()

    assert hinted() == []
    everything = {dead, lost, released, due, hastened}
    assert {(await row_of(database, job))["state"] for job in everything} == {"queued"}
    await carafe_client.resume()
    assert set(hinted()) == everything
    assert {claim.id for claim in await worker.claim(*everything)} == everything


async def test_a_deep_backlog_comes_back_in_order_by_the_steward(
    carafe_client: Client, hinted: Hinted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("carafe.client.client.RESUMED_AT_ONCE", 10)
    jobs = [job.id for job in await carafe_client.enqueue_many([ADA] * 30)]
    await carafe_client.pause()
    async with carafe_client.database.connection() as connection:
        # It has been paused for a while.
        await connection.execute("update carafe.jobs set hinted_at = hinted_at - interval '1 minute'")

    await carafe_client.resume()

    first = hinted()
    assert len(first) == 10
    await Repairer(carafe_client.database, carafe_client.queue).round()
    assert hinted()[:10] == first
    assert sorted(hinted()) == sorted(jobs)


async def test_what_waits_for_a_worker_that_knows_it_keeps_waiting(carafe_client: Client, hinted: Hinted) -> None:
    job = (await carafe_client.enqueue(ADA)).id
    await carafe_client.pause()
    async with carafe_client.database.connection() as connection:
        await connection.execute("update carafe.jobs set hinted_at = now() + interval '1 minute'")

    await carafe_client.resume()

    assert hinted() == []
    assert (await row_of(carafe_client.database, job))["state"] == "queued"


async def test_hints_that_come_back_are_dropped_and_the_pause_outlives_redis(
    carafe_client: Client, carafe_redis_url: str, hinted: Hinted
) -> None:
    await carafe_client.enqueue(ADA)
    with Redis.from_url(carafe_redis_url, decode_responses=False) as redis:
        older = redis.dump(QUEUE)
        await carafe_client.pause()
        redis.flushall()
        redis.restore(QUEUE, 0, older)  # as a restart with an older file does
    assert len(hinted()) == 1

    pauser = Pauser(carafe_client.database, carafe_client.queue)
    await pauser.round()

    assert hinted() == []
    assert (await carafe_client.queues())[0].paused_at is not None
    await carafe_client.resume()
    await pauser.round()
    assert len(hinted()) == 1


async def test_without_redis_a_queue_can_be_paused_and_resumed(carafe_database_url: str, carafe_modules: None) -> None:
    async with Client.connect(database_url=carafe_database_url, redis_url="redis://127.0.0.1:1/0") as client:
        job = await client.enqueue(ADA)
        with capture_logs() as lines:
            assert (await client.pause()).paused_at is not None
            pauser = Pauser(client.database, client.queue)
            for _ in range(3):
                await pauser.round()
        assert [line["event"].partition(";")[0] for line in lines] == ["a paused queue's list was not emptied"] * 2
        assert (await client.resume()).paused_at is None
        with capture_logs() as lines:
            await client.pause_kind(ADA.job_options.kind)
        assert lines[0]["event"] == "hints of a paused kind stay in Redis; workers drop them"
        await client.resume_kind(ADA.job_options.kind)
        assert (await client.get(job.id)).state not in ENDED


def test_the_synchronous_client_does_the_same(carafe_sync_client: SyncClient, hinted: Hinted) -> None:
    assert carafe_sync_client.pause(by=OPS).paused_by == "ops"
    job = carafe_sync_client.enqueue(ADA)
    assert hinted() == []
    assert carafe_sync_client.resume().paused_at is None
    assert hinted() == [job.id]
