"""Celery's consumer with our way of losing Redis: retried within a second, without a limit, and ticking meanwhile.

Connected is not enough: a Redis that would refuse the pop is away, too. It is asked again over another connection each time,
since the name may lead to another server by then.
"""

import time
from typing import Any

import structlog
from celery.worker.consumer import Consumer as CeleryConsumer
from celery.worker.state import maybe_shutdown

from carafe.jobs import redis_away

AGAIN = 1.0
"""Seconds between two tries."""

TURN = 0.1
"""Seconds between two ticks meanwhile."""

log = structlog.stdlib.get_logger("carafe.consumer")


class Consumer(CeleryConsumer):
    """Set as ``worker_consumer``; the engine is found on the controller."""

    def ensure_connected(self, conn: Any) -> Any:
        """Connect to a Redis that can be used, however long that takes; Celery's own waits 2, 4, … 32 s, gives up after 100
        tries, and takes a replica for well."""
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
            except redis_away.AWAY as error:
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
        """It consumes from now on."""
        self.controller.side.away = None
        super().on_ready()

    def on_connection_error_before_connected(self, exc: Exception) -> None:
        """Connected, and lost again at once."""
        self.controller.side.away = redis_away.words(exc)
        super().on_connection_error_before_connected(exc)

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        """The connection is lost: say so in one line; Celery's own handling follows."""
        self.controller.side.away = redis_away.words(exc)
        log.warning("lost the connection to Redis", error=redis_away.details(exc))
        super().on_connection_error_after_connected(exc)
