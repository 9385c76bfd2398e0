"""Cancel requests over Redis: a word that something in Postgres wants this worker's attention now, best effort.

The word decides nothing: it only brings the next heartbeat forward, which reads what is wanted from Postgres. Without Redis
a cancel is noticed at the next beat.
"""

import asyncio
import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING

import structlog
from redis.asyncio import Redis

from carafe.jobs import redis_away
from carafe.jobs.redis_rights import CANCELS

if TYPE_CHECKING:
    from carafe.settings import Settings

log = structlog.stdlib.get_logger("carafe.requests")

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
            except redis_away.AWAY as error:
                # Once an outage: the heartbeat looks anyway.
                if said != (said := redis_away.words(error)):
                    log.info("cancellations are noticed at the next beat only", error=redis_away.details(error))
            finally:
                with contextlib.suppress(*redis_away.AWAY):
                    await redis.aclose()
            await asyncio.sleep(AGAIN)
