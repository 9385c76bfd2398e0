"""Tasks that would run forever are ended, even if a cancellation is lost."""

import asyncio

import pytest

from carafe import Client
from carafe.process.cancelling import end
from carafe.process.metrics import vitals
from carafe.queue.queue import Queue

pytestmark = pytest.mark.anyio


async def test_a_task_that_takes_a_cancellation_for_something_else_is_cancelled_again() -> None:
    lost = 0

    async def forever() -> None:
        nonlocal lost
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                lost += 1
                if lost == 2:
                    raise

    async def failing() -> None:
        raise ValueError

    tasks = [asyncio.create_task(forever()), asyncio.create_task(failing())]
    await asyncio.sleep(0)
    async with asyncio.timeout(10):
        await end(tasks)
    assert lost == 2
    assert all(task.done() for task in tasks)


async def test_nothing_to_end() -> None:
    await end([])


async def test_what_connects_to_redis_at_that_moment_ends_too(carafe_client: Client, carafe_redis_url: str) -> None:
    """The client loses about every third cancellation that comes while it connects."""
    async with carafe_client.database.connection():
        pass  # Postgres is connected to already
    async with asyncio.timeout(30):
        for turns in range(20):
            queue = Queue(carafe_redis_url)
            async with vitals(carafe_client.database, queue):
                for _ in range(turns):
                    await asyncio.sleep(0)
            await queue.close()
