"""The queue in Redis: pushes hints, best effort. Redis may be down, slow or wiped; nothing here ever fails an enqueue.

A push that does not succeed within the timeout opens a breaker, so that a dead Redis costs one timeout now and then and
not one a call; the steward pushes what was missed.
"""

import contextlib
import time
from collections.abc import Sequence

import structlog
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from carafe import metrics
from carafe.jobs.hints import QUEUE, Hint, encode

log = structlog.stdlib.get_logger("carafe.queue")

CANCELS = "carafe:cancels"
"""The pub/sub channel that says: look at your running jobs, somebody wants one cancelled."""

PUSH_AT_ONCE = 1000
"""Hints in one LPUSH."""


class Queue:
    """One process's access to the queue, for pushing. Bound to the event loop that first uses it."""

    def __init__(self, url: str, *, timeout: float = 0.25, name: str = "carafe") -> None:
        """`timeout` in seconds, for connecting and for each reply."""
        self._url, self._timeout, self._name = url, timeout, name
        self._redis: Redis | None = None
        self._closed_until = 0.0
        metrics.HINTS_UNPUSHED.add(metrics.QUEUED, 0)
        self._failures = 0

    @property
    def redis(self) -> Redis:
        """The client, for other best-effort uses. It neither retries nor waits beyond the timeout."""
        if self._redis is None:
            self._redis = Redis.from_url(
                self._url,
                socket_timeout=self._timeout,
                socket_connect_timeout=self._timeout,
                retry=Retry(NoBackoff(), 0),
                client_name=self._name,
            )
        return self._redis

    async def push(self, hints: Sequence[Hint]) -> bool:
        """Push hints, the first to be popped first. False when Redis did not take them all; never raises for Redis."""
        if not hints:
            return True
        if time.monotonic() < self._closed_until:
            metrics.HINTS_UNPUSHED.add(metrics.QUEUED, len(hints))
            return False
        begin = 0
        try:
            for begin in range(0, len(hints), PUSH_AT_ONCE):
                await self.redis.lpush(QUEUE, *map(encode, hints[begin : begin + PUSH_AT_ONCE]))
        except (RedisError, OSError, TimeoutError) as error:
            self._failures += 1
            pause = min(5.0, 0.25 * 2 ** min(self._failures, 5))
            self._closed_until = time.monotonic() + pause
            metrics.HINTS_UNPUSHED.add(metrics.QUEUED, len(hints) - begin)
            log.warning(
                "hints not pushed; the steward will push them",
                count=len(hints),
                error=type(error).__name__,
                pause=pause,
            )
            return False
        self._failures = 0
        return True

    async def empty(self) -> bool:
        """Drop every hint, of a queue that is paused. False when Redis did not do it; never raises for Redis."""
        try:
            await self.redis.unlink(QUEUE)
        except (RedisError, OSError, TimeoutError) as error:
            log.warning("the list of a paused queue is not emptied; the steward will do it", error=type(error).__name__)
            return False
        return True

    async def announce_cancel(self) -> None:
        """Tell the workers to look for running jobs that somebody wants cancelled. Best effort."""
        if time.monotonic() >= self._closed_until:
            with contextlib.suppress(RedisError, OSError, TimeoutError):
                await self.redis.publish(CANCELS, b"")

    async def close(self) -> None:
        """Close the connections."""
        if self._redis is not None:
            await self._redis.aclose()
            self._redis = None
