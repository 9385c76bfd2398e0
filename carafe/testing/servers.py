"""The servers of a test session: embedded servers, each started at its first use, or servers that pytest's options name."""

from pathlib import Path
from typing import TypeVar

from carafe.dev.embedded import EmbeddedPostgres, EmbeddedValkey
from carafe.testing.abandoned import end_abandoned

Server = TypeVar("Server", EmbeddedPostgres, EmbeddedValkey)


class Servers:
    """A Postgres and a Redis for tests. Embedded ones are started without durability, and `stop` ends them. Before the first
    of them starts, those that a killed test run left behind are ended."""

    def __init__(self, data_dir: Path, *, postgres_url: str | None = None, redis_url: str | None = None) -> None:
        self._postgres_url, self._redis_url = postgres_url or None, redis_url or None
        self.postgres = EmbeddedPostgres(data_dir / "postgres", durable=False)
        self.valkey = EmbeddedValkey(data_dir / "valkey", persist=False)
        self._alone = False

    @property
    def postgres_url(self) -> str:
        """The URL of Postgres, which is started if need be. Raises `EmbeddedServerError` if it cannot be started."""
        return self._postgres_url or self._started(self.postgres).url

    @property
    def redis_url(self) -> str:
        """The URL of Redis; an embedded Valkey is started if need be. Raises `EmbeddedServerError` if it cannot be
        started."""
        return self._redis_url or self._started(self.valkey).url

    def _started(self, server: Server) -> Server:
        if not self._alone:
            end_abandoned()
            self._alone = True
        return server.start()

    def stop(self) -> None:
        """Stop the servers that were started here."""
        try:
            self.valkey.stop()
        finally:
            self.postgres.stop()


def wipe(redis_url: str) -> None:
    """Delete everything in the Redis database at this URL."""
    from redis import Redis

    with Redis.from_url(redis_url) as connection:
        connection.flushdb()
