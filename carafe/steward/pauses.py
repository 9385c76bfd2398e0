"""Keeps the list of a paused queue empty, so that the autoscaler requests no workers for it.

The list of hints is emptied when a queue is paused, but hints can come into it later: from an enqueue that was under way,
from a worker that drains, or from a Redis that was restarted with older data. Dropping a hint loses nothing, since the
steward can push it again from the job's row.
"""

from typing import ClassVar

from carafe.jobs.queue_name import QUEUE
from carafe.queue.queue import Queue
from carafe.steward.service import Service
from carafe.store.database import Database
from carafe.store.statements import PAUSED
from carafe.telemetry.loggers import get_logger

log = get_logger("carafe.steward.pauses")


class Pauser(Service):
    """The service that keeps the list of a paused queue empty."""

    name = "pauser"
    interval: ClassVar[float] = 1.0

    def __init__(self, database: Database, queue: Queue) -> None:
        super().__init__()
        self._database, self._queue = database, queue
        self._failed = False

    async def work(self) -> bool:
        async with self._database.connection() as connection:
            paused = await PAUSED.fetch(connection)
        if any(row["name"] == QUEUE for row in paused):
            error = await self._queue.empty()
            if error is not None and not self._failed:  # once, and not at each try until Redis is back
                log.warning("a paused queue's list was not emptied; this is tried until it succeeds", error=error)
            self._failed = error is not None
        return False
