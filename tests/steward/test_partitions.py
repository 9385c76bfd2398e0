"""There are always partitions for the coming days."""

import asyncio

from carafe import Client, State
from carafe.steward import Steward
from carafe.steward.partitions import AHEAD, Partitioner
from tests.jobs.by_hand import ByHand
from tests.jobs.kinds import Greet

PARTITIONS = r"select relname from pg_class where relname ~ '^(jobs|job_logs)_(dead|done)_\d{8}$' order by relname"

SIDES = 4
"""Ended jobs and what jobs logged, each by what is kept longer and what is not."""


async def partitions(client: Client) -> list[str]:
    async with client.database.connection() as connection:
        return [row["relname"] for row in await connection.fetch(PARTITIONS)]


async def drop(client: Client) -> None:
    """As it will be some days from now."""
    async with client.database.connection() as connection:
        for name in await partitions(client):
            await connection.execute(f"drop table carafe.{name}")


async def test_partitions_are_made_ahead(carafe_client: Client, steward: Steward) -> None:
    made_by_the_migration = await partitions(carafe_client)
    await drop(carafe_client)

    await steward.partitioner.round()

    made = await partitions(carafe_client)
    assert len(made) == len(made_by_the_migration) == SIDES * (AHEAD + 1)
    # The migration may have run before midnight: the template is made once for all tests.
    assert len(set(made) - set(made_by_the_migration)) in (0, SIDES)


async def test_several_at_once_make_each_once(carafe_client: Client) -> None:
    await drop(carafe_client)
    partitioners = [Partitioner(carafe_client.database) for _ in range(5)]

    await asyncio.gather(*(partitioner.work() for partitioner in partitioners))

    assert len(await partitions(carafe_client)) == SIDES * (AHEAD + 1)


async def test_an_end_never_fails_for_want_of_a_partition(carafe_client: Client, worker: ByHand) -> None:
    await drop(carafe_client)
    job = await carafe_client.enqueue(Greet(name="Ada"))
    [claim] = await worker.claim(job.id)

    await worker.succeed(claim)

    assert (await carafe_client.get(job.id)).state is State.SUCCEEDED
