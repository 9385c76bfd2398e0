"""The queue in Redis for code without an event loop: a `Queue` whose coroutines never suspend. They block, at most for the
timeout of each reply.

Guarantees: no thread and no event loop runs for it. Threads may share it. A forked process uses connections of its own (the
client library sees to that).
"""

from typing import TYPE_CHECKING, Any

from carafe.queue import redis_away
from carafe.queue.queue import Queue

if TYPE_CHECKING:
    from carafe.queue.redis_clients import Blocking


class BlockingQueue(Queue):
    """Access to the queue as this module describes."""

    def __init__(self, like: Queue) -> None:
        """Access to the Redis of `like`, with its options; `like` itself is not used."""
        super().__init__(like._url, timeout=like._timeout, name=like._name)
        self._blocking: Blocking | None = None

    @property
    def redis(self) -> Any:
        """The blocking Redis client, with the methods of an asynchronous one."""
        if self._blocking is None:
            from carafe.queue import redis_clients

            self._blocking = redis_clients.connect(self._url, timeout=self._timeout, name=self._name)
        return _Awaitable(self._blocking)

    async def trouble(self, *, within: float) -> str | None:
        """The reason why hints could not be pushed now, in words, or None if they could. Not `within` bounds the wait, but
        the queue's timeout for each reply. Never raises."""
        for last in (False, True):
            try:
                await self.require()
            except Exception as error:
                # A lost idle connection says nothing about the server.
                if last or not isinstance(error, redis_away.errors()) or redis_away.code(error) is not None:
                    return redis_away.words(error)
            else:
                return None
        return None

    async def close(self) -> None:
        """Close the connections."""
        if self._blocking is not None:
            self._blocking.close()
            self._blocking = None


class _Awaitable:
    """A blocking client, pool or connection, whose methods can be awaited. They block when they are called."""

    def __init__(self, blocking: Any) -> None:
        self._of = blocking

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._of, name)
        if name == "connection_pool":
            return _Awaitable(found)
        if name == "pack_commands" or not callable(found):
            return found

        async def call(*arguments: Any, nowait: bool = False) -> Any:
            given = [one._of if isinstance(one, _Awaitable) else one for one in arguments]
            value = found(*given)
            return _Awaitable(value) if name == "get_connection" else value

        return call
