"""Celery's consumer, with a different way to handle a lost Redis connection: it tries to connect again every second, without
a limit. Meanwhile it keeps reporting to the engine that the consumer's loop is not blocked.

A connection alone is not enough: Redis also counts as away if it would refuse to pop hints (a replica does, for example).
Each try makes a new connection, since the host name may have come to point to another server.
"""

import time
from typing import Any

from celery.worker.consumer import Consumer as CeleryConsumer
from celery.worker.state import maybe_shutdown

from carafe.queue import redis_away
from carafe.telemetry.loggers import get_logger

AGAIN = 1.0
"""Seconds between two tries to connect."""

TURN = 0.1
"""Seconds between two turns of the consumer's loop while Redis is away."""

log = get_logger("carafe.consumer")


class Consumer(CeleryConsumer):
    """The consumer class of a worker, set as ``worker_consumer``. It reaches the engine through its attribute `controller`,
    the worker."""

    def ensure_connected(self, conn: Any) -> Any:
        """Connect to Redis, and try again until it can be used. Returns the connection. Celery's own consumer waits 2, 4, …
        32 s between tries, gives up after 100 tries, and accepts a replica."""
        side = self.controller.side
        said: str | None = None

        def failed(error: Exception, interval: float) -> None:
            nonlocal said
            side.away = redis_away.words(error)
            if side.away != said:
                said = side.away
                log.warning("Redis is away, trying again every second", error=redis_away.details(error))

        def meanwhile() -> None:
            maybe_shutdown()
            self.controller.engine.tick_consumer()

        while True:
            try:
                side.require()
                break
            except redis_away.errors() as error:
                failed(error, AGAIN)
            until = time.monotonic() + AGAIN
            while time.monotonic() < until:
                meanwhile()
                time.sleep(TURN)
        conn = conn.ensure_connection(
            failed, None, interval_start=TURN, interval_step=0.3, interval_max=AGAIN, callback=meanwhile
        )
        self.first_connection_attempt = False
        if said is not None:
            log.info("Redis is back")
        return conn

    def on_ready(self) -> None:
        """Record that Redis can be used: the consumer takes messages from now on."""
        self.controller.side.away = None
        super().on_ready()

    def on_connection_error_before_connected(self, exc: Exception) -> None:
        """Record why Redis is away: the connection was lost again before the consumer was ready."""
        self.controller.side.away = redis_away.words(exc)
        super().on_connection_error_before_connected(exc)

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        """Record why the connection was lost, and log one line; Celery's own handling follows."""
        self.controller.side.away = redis_away.words(exc)
        log.warning("lost the connection to Redis", error=redis_away.details(exc))
        super().on_connection_error_after_connected(exc)
