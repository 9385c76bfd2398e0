"""Makes the day partitions of ended jobs, and of what jobs logged, ahead of their day.

Nobody waits for long behind a partition that is made: where somebody is in the way, or another process makes them at this
moment, the next round does it. They are made days ahead, and a day without one loses nothing.
"""

from typing import ClassVar

import asyncpg

from carafe.database import Database
from carafe.steward.service import Service, log

AHEAD = 3
"""Days for which there is always a partition."""


class Partitioner(Service):
    """See the module."""

    name = "partitioner"
    interval: ClassVar[float] = 3600.0

    def __init__(self, database: Database) -> None:
        super().__init__()
        self._database = database

    async def work(self) -> bool:
        try:
            async with self._database.connection() as connection:
                await connection.execute("select carafe.ensure_partitions($1)", AHEAD)
        except asyncpg.LockNotAvailableError:
            log.info("partitions left for the next round, somebody is in the way")
        return False
