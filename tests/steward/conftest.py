"""What these tests share: a worker by hand, the list in Redis, and time that passes when a test says so."""

from collections.abc import Awaitable, Callable

import pytest

from carafe.jobs import Client
from carafe.steward import Steward
from tests.jobs.by_hand import ByHand
from tests.jobs.conftest import hinted, worker

__all__ = ["hinted", "worker"]

Later = Callable[..., Awaitable[None]]


@pytest.fixture
def later(carafe_client: Client) -> Later:
    """Lets seconds pass for the hints of queued jobs: their stamps are moved back."""

    async def move(seconds: float = 10.0) -> None:
        async with carafe_client.database.connection() as connection:
            await connection.execute(
                "update carafe.jobs set hinted_at = hinted_at - $1 * interval '1 second' where state = 'queued'", seconds
            )

    return move


@pytest.fixture
def steward(carafe_client: Client) -> Steward:
    """A steward whose services the test drives by hand."""
    return Steward(carafe_client.database, carafe_client.queue, name="by hand")


async def announce(worker: ByHand, *, kinds: list[str] | None = None) -> None:
    """The worker's row, as its heartbeat writes it."""
    async with worker.database.connection() as connection:
        await connection.execute(
            """insert into carafe.workers (id, name, host, pid, incarnation, version, kinds, concurrency, state)
               values ($1, 'by hand', 'here', 1, 'x', '0', $2, 5, 'running')""",
            worker.id,
            kinds or [],
        )
