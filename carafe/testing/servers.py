"""The servers of a test session: embedded ones, each started at its first use, or those that options name."""

from pathlib import Path

from carafe.embedded import EmbeddedPostgres, EmbeddedValkey


class Servers:
    """A Postgres and a Redis for tests, without durability. `stop` ends what was started here."""

    def __init__(self, data_dir: Path, *, postgres_url: str | None = None, redis_url: str | None = None) -> None:
        self._postgres_url, self._redis_url = postgres_url or None, redis_url or None
        self.postgres = EmbeddedPostgres(data_dir / "postgres", durable=False)
        self.valkey = EmbeddedValkey(data_dir / "valkey", persist=False)

    @property
    def postgres_url(self) -> str:
        """Starts Postgres if need be. Raises `EmbeddedServerError`."""
        return self._postgres_url or self.postgres.start().url

    @property
    def redis_url(self) -> str:
        """Starts Valkey if need be. Raises `EmbeddedServerError`."""
        return self._redis_url or self.valkey.start().url

    def stop(self) -> None:
        """End what was started."""
        try:
            self.valkey.stop()
        finally:
            self.postgres.stop()


def wipe(redis_url: str) -> None:
    """Empty the Redis database of this URL."""
    from redis import Redis

    with Redis.from_url(redis_url) as connection:
        connection.flushdb()
