"""Listens in Redis for cancel requests, so that a cancel is noticed at once. A message itself cancels nothing. It only makes
the next heartbeat happen sooner, and the heartbeat reads the requests from Postgres. Without Redis a cancel is noticed at
the next regular heartbeat.
"""

import asyncio
import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from redis.asyncio import Redis

from carafe.queue import redis_away
from carafe.queue.redis_rights import CANCELS
from carafe.telemetry.loggers import get_logger

if TYPE_CHECKING:
    from carafe.settings.settings import Settings

log = get_logger("carafe.requests")

AGAIN = 1.0
"""Seconds between the loss of the subscription and the next try to subscribe."""


class CancelRequests:
    """One worker's subscription to cancel requests, on the engine's loop. The function `look` is called for each request."""

    def __init__(self, settings: "Settings", look: Callable[[], None]) -> None:
        assert settings.redis_url is not None
        self._url = settings.redis_url.get_secret_value()
        self._look = look

    async def listen(self) -> None:
        """Listen until this coroutine is cancelled, and subscribe again after every outage of Redis."""
        said: str | None = None
        while True:
            redis = Redis.from_url(
                self._url, socket_connect_timeout=1, health_check_interval=5, client_name="carafe-cancels"
            )
            try:
                async with redis.pubsub() as subscription:
                    await subscription.subscribe(CANCELS)
                    async for message in subscription.listen():
                        said = None
                        if message["type"] == "message":
                            self._look()
            except redis_away.errors() as error:
                # Once an outage: the heartbeat looks anyway.
                if said != (said := redis_away.words(error)):
                    log.info("cancel requests are noticed only at the next heartbeat", error=redis_away.details(error))
            finally:
                with contextlib.suppress(*redis_away.errors()):
                    await redis.aclose()
            await asyncio.sleep(AGAIN)
