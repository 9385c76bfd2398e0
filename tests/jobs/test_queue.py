"""What a process reports about Redis."""

import pytest
import redis

from carafe import Client

pytestmark = pytest.mark.anyio


async def test_a_connection_that_was_lost_while_idle_is_no_trouble(carafe_client: Client, carafe_redis_url: str) -> None:
    with redis.Redis.from_url(carafe_redis_url) as other:
        for _ in range(20):
            assert await carafe_client.queue.trouble(within=5) is None
            other.client_kill_filter(_type="normal", skipme=True)
