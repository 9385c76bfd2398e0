"""The queue in Redis: pushes hints, best effort. Redis may be down, slow or wiped; nothing here ever fails an enqueue.

A push that does not succeed within the timeout opens a breaker, so that a dead Redis costs one timeout now and then and
not one a call; the steward pushes what was missed.
"""

import asyncio
import contextlib
import time
from collections.abc import Sequence

import structlog
from redis.asyncio import Redis

from carafe import metrics
from carafe.jobs import redis_away
from carafe.jobs.hints import QUEUE, Hint, encode
from carafe.jobs.redis_rights import CANCELS, PUSHING, refused

log = structlog.stdlib.get_logger("carafe.queue")

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
            self._redis = redis_away.connect_asynchronously(self._url, timeout=self._timeout, name=self._name)
        return self._redis

    async def require(self) -> None:
        """Raises what Redis, or the client, says when hints could not be pushed now: it is away, a replica, full, a right
        is missing, the list is none. Changes nothing."""
        found = await refused(self.redis, PUSHING)
        if found:
            raise found[0].error
        await self.redis.llen(QUEUE)

    async def trouble(self, *, within: float) -> str | None:
        """Why hints could not be pushed now, in words (see `redis_away.words`); None when they could. Never raises."""
        try:
            async with asyncio.timeout(within):
                await self.require()
        except Exception as error:
            return redis_away.words(error)
        return None

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
        except redis_away.AWAY as error:
            self._failures += 1
            pause = min(5.0, 0.25 * 2 ** min(self._failures, 5))
            self._closed_until = time.monotonic() + pause
            metrics.HINTS_UNPUSHED.add(metrics.QUEUED, len(hints) - begin)
            log.warning(
                "hints not pushed; the steward will push them",
                count=len(hints),
                error=redis_away.details(error),
                pause=pause,
            )
            return False
        self._failures = 0
        return True

    async def empty(self) -> bool:
        """Drop every hint, of a queue that is paused. False when Redis did not do it; never raises for Redis."""
        try:
            await self.redis.unlink(QUEUE)
        except redis_away.AWAY as error:
            log.warning("the list of a paused queue is not emptied; the steward will do it", error=redis_away.details(error))
            return False
        return True

    async def announce_cancel(self) -> None:
        """Tell the workers to look for running jobs that somebody wants cancelled. Best effort."""
        if time.monotonic() >= self._closed_until:
            with contextlib.suppress(*redis_away.AWAY):
                await self.redis.publish(CANCELS, b"")

    async def close(self) -> None:
        """Close the connections."""
        if self._redis is not None:
            await self._redis.aclose()
            self._redis = None
