"""Celery's consumer with our way of losing Redis: retried within a second, without a limit, and ticking meanwhile."""

from typing import Any

import structlog
from celery.worker.consumer import Consumer as CeleryConsumer
from celery.worker.state import maybe_shutdown

log = structlog.stdlib.get_logger("carafe.consumer")


class Consumer(CeleryConsumer):
    """Set as ``worker_consumer``; the engine is found on the controller."""

    def ensure_connected(self, conn: Any) -> Any:
        """Connect to Redis, however long it is away; Celery's own waits 2, 4, … 32 s and gives up after 100 tries."""
        failures = 0

        def failed(error: Exception, interval: float) -> None:
            nonlocal failures
            if failures % 30 == 0:
                log.warning("Redis is away, trying again every second", error=f"{type(error).__name__}: {error}")
            failures += 1

        def meanwhile() -> None:
            maybe_shutdown()
            self.controller.engine.tick_consumer()

        conn = conn.ensure_connection(
            failed, None, interval_start=0.1, interval_step=0.3, interval_max=1, callback=meanwhile
        )
        self.first_connection_attempt = False
        if failures:
            log.info("Redis is back")
        return conn

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        """The connection is lost: say so in one line; Celery's own handling follows."""
        log.warning("lost the connection to Redis", error=f"{type(exc).__name__}: {exc}")
        super().on_connection_error_after_connected(exc)
