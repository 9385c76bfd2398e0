"""Makes the day partitions of ended jobs ahead of their day."""

from typing import ClassVar

from carafe.database import Database
from carafe.steward.service import Service

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
        async with self._database.connection() as connection:
            await connection.execute("select carafe.ensure_partitions($1)", AHEAD)
        return False
