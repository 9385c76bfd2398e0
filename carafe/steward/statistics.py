"""Folds the statistics that ended jobs leave behind into buckets of 10 s, 1 min and 10 min, by kind and for all kinds.

Guarantees that each delta counts exactly once, whoever folds and whatever dies meanwhile: a batch is folded and deleted in
one statement. A bucket of the past can still grow, by the deltas of transactions that were slow to commit.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar

from carafe.database import Database
from carafe.jobs.statements import FOLD_STATISTICS
from carafe.jobs.statistics import BOUNDS
from carafe.steward.service import Service

BATCH = 5_000
"""Deltas in one statement; `round` goes on while batches are full."""

KEEP: Mapping[int, float] = MappingProxyType({10: 3 * 3_600.0, 60: 2 * 86_400.0, 600: 90 * 86_400.0})
"""Seconds that buckets are kept, by their width in seconds."""


class Folder(Service):
    """See the module."""

    name = "folder"
    interval: ClassVar[float] = 2.0

    def __init__(self, database: Database) -> None:
        super().__init__()
        self._database = database
        self.folded = 0

    async def work(self) -> bool:
        async with self._database.connection() as connection:
            arguments = FOLD_STATISTICS.arguments(limit=BATCH, buckets=len(BOUNDS) + 1)
            rows: int = await connection.fetchval(FOLD_STATISTICS.positional, *arguments)
        self.folded += rows
        return rows == BATCH
