"""Jobs whose time has come are queued and hinted."""

import asyncio
from collections.abc import Callable
from uuid import UUID

from carafe import Client, State
from carafe.steward import Steward
from carafe.steward.promoter import BATCH, Promoter
from tests.jobs.by_hand import ByHand, count, make_due
from tests.jobs.kinds import Greet

Hinted = Callable[[], list[UUID]]


async def test_due_jobs_are_queued_and_hinted_and_others_are_not(
    carafe_client: Client, steward: Steward, worker: ByHand, hinted: Hinted
) -> None:
    due = await carafe_client.enqueue(Greet(name="due"), delay=60)
    later = await carafe_client.enqueue(Greet(name="later"), delay=60)
    failed = await carafe_client.enqueue(Greet(name="failed"))
    [claim] = await worker.claim(failed.id)
    await worker.fail(claim, delay=0)
    await make_due(carafe_client.database, due.id)

    await steward.promoter.round()

    assert [(await carafe_client.get(job.id)).state for job in (due, later, failed)] == ["queued", "scheduled", "queued"]
    assert set(hinted()) - {failed.id} == {due.id}
    assert hinted().count(failed.id) == 2  # its first hint was never popped here
    assert steward.promoter.promoted == 2
    assert (await carafe_client.get(failed.id)).attempt == 1


async def test_many_are_promoted_in_batches_within_one_round(
    carafe_client: Client, steward: Steward, hinted: Hinted
) -> None:
    number = 2 * BATCH + 10
    await carafe_client.enqueue_many([Greet(name="x")] * 3)
    async with carafe_client.database.connection() as connection:
        await connection.execute(
            """insert into carafe.jobs (id, kind, state, args, version, max_attempts, timeout, created_at, due_at)
               select gen_random_uuid(), 'tests.greet', 'scheduled', '{"name": "x"}', 1, 4, 60, now(), now() - interval '1 s'
               from generate_series(1, $1)""",
            number,
        )

    await steward.promoter.round()

    assert steward.promoter.promoted == number
    assert len(hinted()) == number + 3


async def test_two_at_once_promote_each_job_once(carafe_client: Client, hinted: Hinted) -> None:
    jobs = [await carafe_client.enqueue(Greet(name=str(number)), delay=60) for number in range(50)]
    for job in jobs:
        await make_due(carafe_client.database, job.id)
    promoters = [Promoter(carafe_client.database, carafe_client.queue) for _ in range(4)]

    await asyncio.gather(*(promoter.round() for promoter in promoters))

    assert sum(promoter.promoted for promoter in promoters) == 50
    assert sorted(hinted()) == sorted(job.id for job in jobs)


async def test_a_cancelled_job_is_not_promoted(carafe_client: Client, steward: Steward) -> None:
    job = await carafe_client.enqueue(Greet(name="Ada"), delay=60)
    await make_due(carafe_client.database, job.id)
    await carafe_client.cancel(job.id)

    await steward.promoter.round()

    assert (await carafe_client.get(job.id)).state is State.CANCELLED
    assert await count(carafe_client.database) == 0
