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


class Pauser(Service):
    """The service that keeps the list of a paused queue empty."""

    name = "pauser"
    interval: ClassVar[float] = 1.0

    def __init__(self, database: Database, queue: Queue) -> None:
        super().__init__()
        self._database, self._queue = database, queue

    async def work(self) -> bool:
        async with self._database.connection() as connection:
            paused = await PAUSED.fetch(connection)
        if any(row["name"] == QUEUE for row in paused):
            await self._queue.empty()
        return False
