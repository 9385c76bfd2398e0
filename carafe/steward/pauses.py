"""Keeps the list of a paused queue empty, so that the autoscaler asks for no workers for it.

Pausing empties it once; hints can come back into it: from an enqueue that was under way, a worker that drains, a Redis that
is restarted with older data. Dropping a hint costs nothing: the row has what the next one is made from.
"""

from typing import ClassVar

from carafe.database import Database
from carafe.jobs.hints import QUEUE
from carafe.jobs.queue import Queue
from carafe.jobs.statements import PAUSED
from carafe.steward.service import Service


class Pauser(Service):
    """See the module."""

    name = "pauser"
    interval: ClassVar[float] = 1.0

    def __init__(self, database: Database, queue: Queue) -> None:
        super().__init__()
        self._database, self._queue = database, queue

    async def work(self) -> bool:
        async with self._database.connection() as connection:
            paused = await connection.fetch(PAUSED.positional)
        if any(row["name"] == QUEUE for row in paused):
            await self._queue.empty()
        return False
