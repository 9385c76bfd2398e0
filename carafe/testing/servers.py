"""The servers of a test session: embedded servers, each started at its first use, or servers that pytest's options name.

Must never: import `carafe.dev.embedded` before an embedded server is needed, since it may not be installed.
"""

from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from carafe.dev.embedded import EmbeddedPostgres, EmbeddedValkey

    Server = TypeVar("Server", EmbeddedPostgres, EmbeddedValkey)


class Servers:
    """A Postgres and a Redis for tests. Embedded ones are started without durability, and `stop` ends them. Before the first
    of them starts, those that a killed test run left behind are ended."""

    def __init__(self, data_dir: Path, *, postgres_url: str | None = None, redis_url: str | None = None) -> None:
        self._postgres_url, self._redis_url = postgres_url or None, redis_url or None
        self._data_dir = data_dir
        self._postgres: EmbeddedPostgres | None = None
        self._valkey: EmbeddedValkey | None = None
        self._alone = False

    @property
    def postgres_url(self) -> str:
        """The URL of Postgres, which is started if need be. Raises `EmbeddedServerError` if it cannot be started, and
        ``ModuleNotFoundError`` if the embedded servers are not installed."""
        if self._postgres_url is not None:
            return self._postgres_url
        if self._postgres is None:
            from carafe.dev.embedded import EmbeddedPostgres

            self._postgres = EmbeddedPostgres(self._data_dir / "postgres", durable=False)
        return self._started(self._postgres).url

    @property
    def redis_url(self) -> str:
        """The URL of Redis; an embedded Valkey is started if need be. Raises like `postgres_url`."""
        if self._redis_url is not None:
            return self._redis_url
        if self._valkey is None:
            from carafe.dev.embedded import EmbeddedValkey

            self._valkey = EmbeddedValkey(self._data_dir / "valkey", persist=False)
        return self._started(self._valkey).url

    def _started(self, server: "Server") -> "Server":
        if not self._alone:
            from carafe.testing.abandoned import end_abandoned

            end_abandoned()
            self._alone = True
        return server.start()

    def stop(self) -> None:
        """Stop the servers that were started here."""
        try:
            if self._valkey is not None:
                self._valkey.stop()
        finally:
            if self._postgres is not None:
                self._postgres.stop()


def wipe(redis_url: str) -> None:
    """Delete everything in the Redis database at this URL."""
    from redis import Redis

    with Redis.from_url(redis_url) as connection:
        connection.flushdb()
