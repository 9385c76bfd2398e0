"""Clients of Redis that never retry and wait no longer than a timeout.

Guarantees: when a server replies that it cannot be used, the connection to it is closed and not used again, since the host
name may now lead to another server.
"""

from typing import Any, cast

from redis import Redis as BlockingRedis
from redis.asyncio import Redis as AsyncRedis
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from carafe.queue import redis_away


class Blocking(BlockingRedis):
    """A blocking client that closes a connection when the server replies that it cannot be used."""

    def parse_response(self, connection: Any, command_name: Any, **options: Any) -> Any:
        """Read one reply. If it is an error reply, raises the client library's error for it."""
        try:
            return super().parse_response(connection, command_name, **options)  # type: ignore[no-untyped-call]
        except RedisError as error:
            if redis_away.code(error) is not None:
                connection.disconnect()
            raise


class Asynchronous(AsyncRedis):
    """An asyncio client that closes a connection when the server replies that it cannot be used."""

    async def parse_response(self, connection: Any, command_name: Any, **options: Any) -> Any:
        """Read one reply. If it is an error reply, raises the client library's error for it."""
        try:
            return await super().parse_response(connection, command_name, **options)
        except RedisError as error:
            if redis_away.code(error) is not None:
                await connection.disconnect()
            raise


def connect(url: str, *, timeout: float, name: str) -> Blocking:
    """A blocking client that never retries, and waits at most `timeout` seconds to connect and for each reply."""
    return cast(Blocking, Blocking.from_url(url, retry=Retry(NoBackoff(), 0), **_options(timeout, name)))


def connect_asynchronously(url: str, *, timeout: float, name: str) -> Asynchronous:
    """An asyncio client that never retries, and waits at most `timeout` seconds to connect and for each reply. It only works
    on the event loop on which it is first used."""
    return cast(Asynchronous, Asynchronous.from_url(url, retry=AsyncRetry(NoBackoff(), 0), **_options(timeout, name)))


def _options(timeout: float, name: str) -> dict[str, Any]:
    return {"socket_timeout": timeout, "socket_connect_timeout": timeout, "client_name": name}
