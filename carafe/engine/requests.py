"""Cancel requests over Redis: a word that something in Postgres wants this worker's attention now, best effort.

The word decides nothing: it only brings the next heartbeat forward, which reads what is wanted from Postgres. Without Redis
a cancel is noticed at the next beat.
"""

import asyncio
import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from redis.asyncio import Redis
from redis.exceptions import RedisError

from carafe.jobs.queue import CANCELS

if TYPE_CHECKING:
    from carafe.settings import Settings

AGAIN = 1.0
"""Seconds after which a lost subscription is tried again."""


class CancelRequests:
    """One worker's subscription. Lives on the engine's loop."""

    def __init__(self, settings: "Settings", look: Callable[[], None]) -> None:
        assert settings.redis_url is not None
        self._url = settings.redis_url.get_secret_value()
        self._look = look

    async def listen(self) -> None:
        """Listen until cancelled, through every outage of Redis."""
        while True:
            redis = Redis.from_url(
                self._url, socket_connect_timeout=1, health_check_interval=5, client_name="carafe-cancels"
            )
            try:
                async with redis.pubsub() as subscription:
                    await subscription.subscribe(CANCELS)
                    async for message in subscription.listen():
                        if message["type"] == "message":
                            self._look()
            except (RedisError, OSError, TimeoutError):
                pass  # the heartbeat looks anyway
            finally:
                with contextlib.suppress(RedisError, OSError):
                    await redis.aclose()
            await asyncio.sleep(AGAIN)
