"""Makes the partitions for coming days: of the table of ended jobs and of the table of lines that jobs logged.

This never blocks other statements for long. If another session's lock is in the way, or another process makes partitions at
this moment, they are made in the next round. On a day without a partition no row is lost.
"""

from typing import ClassVar

import asyncpg

from carafe.steward.service import Service, log
from carafe.store.database import Database

AHEAD = 3
"""How many days ahead partitions are made."""


class Partitioner(Service):
    """The service that makes the partitions of the coming days."""

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
            log.info("partitions not made now because a lock is in the way: the next round makes them")
        return False
