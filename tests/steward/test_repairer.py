"""A hint that Redis has lost is pushed again; one that is only waiting its turn is not."""

import asyncio
from collections.abc import Callable, Sequence
from uuid import UUID

import pytest
from redis import Redis

from carafe import Client
from carafe.engine.ledger import Hinted as HintInHand
from carafe.engine.statements import UNDEFER
from carafe.jobs.queue_name import QUEUE
from carafe.steward import Steward, repairer
from tests.hostile_hints import HOSTILE_HINTS
from tests.jobs.by_hand import ByHand, run
from tests.jobs.kinds import Greet, Unhandled
from tests.steward.conftest import Later

Hinted = Callable[[], list[UUID]]


async def enqueue(client: Client, number: int) -> list[UUID]:
    return [job.id for job in await client.enqueue_many([Greet(name=str(index)) for index in range(number)])]


def forget(redis_url: str, job_ids: Sequence[UUID] | None = None) -> None:
    """Lose the hints of these jobs, or everything."""
    with Redis.from_url(redis_url) as redis:
        if job_ids is None:
            redis.flushall()
            return
        for message in redis.lrange(QUEUE, 0, -1):
            if any(str(job_id).encode() in message for job_id in job_ids):
                redis.lrem(QUEUE, 1, message)


async def test_after_a_wipe_every_queued_job_is_hinted_again_in_order(
    carafe_client: Client, steward: Steward, hinted: Hinted, later: Later, carafe_redis_url: str
) -> None:
    ids = await enqueue(carafe_client, 2_500)
    forget(carafe_redis_url)
    await steward.repairer.round()
    assert hinted() == []  # the pushes of those might still be under way

    await later()
    await steward.repairer.round()

    assert sorted(hinted()) == ids
    await steward.repairer.round()
    assert len(hinted()) == 2_500  # once is enough


async def test_a_round_pushes_each_hint_once_however_long_it_takes(
    carafe_client: Client,
    steward: Steward,
    hinted: Hinted,
    later: Later,
    carafe_redis_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ids = await enqueue(carafe_client, 2_500)
    forget(carafe_redis_url)
    await later()
    # A round that takes longer than the grace: the first batch is past it when the last one is read.
    monkeypatch.setattr(repairer, "GRACE", 0.0)

    async with asyncio.timeout(60):
        await steward.repairer.round()

    assert sorted(hinted()) == ids


async def test_a_lost_hint_is_found_while_newer_jobs_flow(
    carafe_client: Client, steward: Steward, hinted: Hinted, later: Later, carafe_redis_url: str
) -> None:
    old = await enqueue(carafe_client, 3)
    forget(carafe_redis_url, old)
    await later()
    new = await enqueue(carafe_client, 3)
    assert hinted() == new

    await steward.repairer.round()

    assert hinted() == new + old
    assert steward.repairer.repaired == 3


async def test_a_backlog_that_waits_its_turn_is_left_alone(carafe_client: Client, steward: Steward, hinted: Hinted) -> None:
    # An hour old, hints and rows alike: the next one to be popped is the oldest of all.
    ids = await enqueue(carafe_client, 5)

    await steward.repairer.round()

    assert hinted() == ids
    assert steward.repairer.repaired == 0


async def test_running_jobs_and_jobs_for_later_need_no_hint(
    carafe_client: Client, steward: Steward, worker: ByHand, hinted: Hinted, later: Later, carafe_redis_url: str
) -> None:
    [running, queued] = await enqueue(carafe_client, 2)
    await carafe_client.enqueue(Greet(name="later"), delay=60)
    await worker.claim(running)
    forget(carafe_redis_url)
    await later()

    await steward.repairer.round()

    assert hinted() == [queued]


async def test_a_paused_queue_is_not_repaired_until_it_goes_on(
    carafe_client: Client, steward: Steward, hinted: Hinted, later: Later, carafe_redis_url: str
) -> None:
    ids = await enqueue(carafe_client, 2)
    forget(carafe_redis_url)
    await later()
    async with carafe_client.database.connection() as connection:
        await connection.execute("update carafe.queues set paused_at = now()")
        await steward.repairer.round()
        assert hinted() == []
        await connection.execute("update carafe.queues set paused_at = null")

    await steward.repairer.round()

    assert hinted() == ids


async def test_a_kind_that_no_worker_knew_comes_back_after_a_growing_pause(
    carafe_client: Client, steward: Steward, worker: ByHand, hinted: Hinted, later: Later, carafe_redis_url: str
) -> None:
    job = await carafe_client.enqueue(Unhandled())
    pauses = []
    for _ in range(4):
        forget(carafe_redis_url)
        await worker.ledger.defer([HintInHand(job.id, job.kind, b"")])
        await steward.repairer.round()
        assert hinted() == []  # in its pause
        async with carafe_client.database.connection() as connection:
            pauses.append(await connection.fetchval("select extract(epoch from hinted_at - now())::float8 from carafe.jobs"))
        await later(100)
        await steward.repairer.round()
        assert hinted() == [job.id]

    assert pauses == sorted(pauses)
    assert pauses[-1] > 4 * pauses[0] > 0


async def test_a_worker_that_knows_a_deferred_kind_gets_it_at_once(
    carafe_client: Client, steward: Steward, worker: ByHand, hinted: Hinted, carafe_redis_url: str
) -> None:
    known, other = await carafe_client.enqueue(Unhandled()), await carafe_client.enqueue(Greet(name="Ada"))
    forget(carafe_redis_url)
    await worker.ledger.defer([HintInHand(job.id, job.kind, b"") for job in (known, other)])

    await run(carafe_client.database, UNDEFER, kinds=["tests.unhandled"], limit=10)
    await steward.repairer.round()

    assert hinted() == [known.id]


@pytest.mark.parametrize("message", HOSTILE_HINTS.values(), ids=HOSTILE_HINTS)
async def test_a_foreign_message_at_the_end_of_the_list_stops_nothing_for_long(
    carafe_client: Client,
    steward: Steward,
    hinted: Hinted,
    later: Later,
    carafe_redis_url: str,
    message: bytes,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(repairer, "GRACE", 0.0)
    ids = await enqueue(carafe_client, 1)
    forget(carafe_redis_url)
    await later()
    with Redis.from_url(carafe_redis_url) as redis:
        redis.rpush(QUEUE, message)
        for _ in range(3):
            await steward.repairer.round()
        # Beside it nothing is lost: else each round would push all that waits once more.
        assert redis.llen(QUEUE) == 1
        redis.rpop(QUEUE)  # a worker drops it

    await steward.repairer.round()

    assert hinted() == ids


async def test_a_look_that_has_become_dear_is_taken_less_often(steward: Steward, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr("carafe.steward.repairer.asyncio.sleep", sleep)

    async def paused(took: float) -> float:
        slept.clear()
        steward.repairer._took = took
        await steward.repairer.pause()
        return sum(slept)

    assert 0.75 <= await paused(0.001) <= 1.25
    assert 1.75 <= await paused(0.2) <= 2.25, "a tenth of the time at most"
    assert 3.75 <= await paused(5.0) <= 4.25, "and no longer than a hint may be late"
