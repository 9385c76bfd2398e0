"""What these tests share: a worker by hand on the client's database, a look into the list in Redis, and proxies of both."""

from collections.abc import AsyncIterator, Callable
from uuid import UUID

import orjson
import pytest
from redis import Redis

from carafe import Client
from carafe.jobs.queue_name import QUEUE
from carafe.queue.hints import decode
from tests.jobs.by_hand import ByHand
from tests.proxy import Proxy, proxy_to


@pytest.fixture
def worker(carafe_client: Client) -> ByHand:
    """A worker that does what the test says."""
    return ByHand(carafe_client.database)


@pytest.fixture
def hinted(carafe_redis_url: str) -> Callable[[], list[UUID]]:
    """The jobs whose hints are in the list, the next one first."""

    def read() -> list[UUID]:
        with Redis.from_url(carafe_redis_url) as redis:
            messages: list[bytes] = redis.lrange(QUEUE, 0, -1)
        hints = [decode(orjson.loads(message)) for message in reversed(messages)]
        return [hint.id for hint in hints if hint is not None]

    return read


@pytest.fixture
async def postgres(carafe_database_url: str) -> AsyncIterator[Proxy]:
    async with proxy_to(carafe_database_url) as proxy:
        yield proxy


@pytest.fixture
async def redis(carafe_redis_url: str) -> AsyncIterator[Proxy]:
    async with proxy_to(carafe_redis_url) as proxy:
        yield proxy
