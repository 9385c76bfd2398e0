"""The queue in Redis: pushes hints, best effort. An enqueue never fails because Redis is down, slow or wiped. A push that
does not succeed within the timeout opens a circuit breaker. So while Redis is down, only an occasional call waits for the
timeout, and not each one. The steward pushes the missed hints later."""

import asyncio
import contextlib
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from carafe.jobs.queue_name import QUEUE
from carafe.queue import redis_away
from carafe.queue.hints import LONGEST, Hint, encode
from carafe.queue.redis_rights import CANCELS, PUSHING, refused
from carafe.telemetry import metrics
from carafe.telemetry.loggers import get_logger

if TYPE_CHECKING:
    from redis.asyncio import Redis

log = get_logger("carafe.queue")

PUSH_AT_ONCE = 1000
"""The maximum number of hints in one LPUSH command."""

# Anyone who can write to Redis decides how long a message is, so its length is checked before it is sent to us.
FOLLOWING = """#!lua flags=no-writes
local message = redis.call('LINDEX', KEYS[1], -1)
if message and #message > tonumber(ARGV[1]) then return '' end
return message
"""


class Queue:
    """One process's access to the queue, for pushing hints. It only works on the event loop on which it is first used."""

    def __init__(self, url: str, *, timeout: float = 0.25, name: str = "carafe") -> None:
        """`timeout` in seconds, for connecting and for each reply."""
        self._url, self._timeout, self._name = url, timeout, name
        self._redis: Redis | None = None
        self._closed_until = 0.0
        metrics.HINTS_UNPUSHED.add(metrics.QUEUED, 0)
        self._failures = 0

    @property
    def redis(self) -> "Redis":
        """The Redis client, for other best-effort commands. It never retries, and waits no longer than the timeout."""
        if self._redis is None:
            from carafe.queue import redis_clients

            self._redis = redis_clients.connect_asynchronously(self._url, timeout=self._timeout, name=self._name)
        return self._redis

    async def require(self) -> None:
        """Raises the client's error if hints could not be pushed now. The cause may be that Redis is away, a replica or
        full, that a right is missing, or that the key holds something other than a list. Changes nothing in Redis."""
        found = await refused(self.redis, PUSHING)
        if found:
            raise found[0].error
        await self.redis.llen(QUEUE)

    async def trouble(self, *, within: float) -> str | None:
        """A text that says why hints could not be pushed now (see `redis_away.words`), or None if they could. Waits at most
        `within` seconds. Never raises."""
        try:
            async with asyncio.timeout(within):
                try:
                    await self.require()
                except redis_away.errors() as error:
                    if redis_away.code(error) is not None:
                        raise
                    # A lost idle connection says nothing about the server.
                    await self.require()
        except Exception as error:
            return redis_away.words(error)
        return None

    async def push(self, hints: Sequence[Hint]) -> bool:
        """Push hints; the first of them is popped first. Returns False when Redis did not take them all. Never raises an
        error of Redis."""
        if not hints:
            return True
        if time.monotonic() < self._closed_until:
            metrics.HINTS_UNPUSHED.add(metrics.QUEUED, len(hints))
            return False
        begin = 0
        try:
            for begin in range(0, len(hints), PUSH_AT_ONCE):
                await self.redis.lpush(QUEUE, *map(encode, hints[begin : begin + PUSH_AT_ONCE]))
        except redis_away.errors() as error:
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

    async def following(self) -> bytes | None:
        """The message that will be popped next. Empty if the message is too long for a hint, None if the list has no
        message. Raises the client's errors."""
        redis: Any = self.redis
        message: bytes | None = await redis.eval(FOLLOWING, 1, QUEUE, LONGEST)
        return message

    async def empty(self) -> str | None:
        """Remove every hint from the list, because of a pause. Returns None, or a text for the log that says why Redis did
        not do it. Never raises an error of Redis."""
        try:
            await self.redis.unlink(QUEUE)
        except redis_away.errors() as error:
            return redis_away.details(error)
        return None

    async def announce_cancel(self) -> None:
        """Ask all workers to check now whether somebody wants one of their running jobs cancelled. Best effort: if the
        message is lost, they notice later."""
        if time.monotonic() >= self._closed_until:
            with contextlib.suppress(*redis_away.errors()):
                await self.redis.publish(CANCELS, b"")

    async def close(self) -> None:
        """Close the connections."""
        if self._redis is not None:
            await self._redis.aclose()
            self._redis = None
