"""Adds up the statistics of ended jobs in buckets of 10 s, 1 min and 10 min, by kind and for all kinds together.

Each statement that ends jobs inserts rows with the number of these jobs and their times (deltas). This service adds batches
of deltas to the buckets and deletes them, which is called folding.
Guarantees: each delta counts exactly once, even if several processes fold or one of them dies, since one statement both adds
and deletes. A bucket of the past can still grow, by the deltas of transactions that were slow to commit.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar

from carafe.steward.service import Service
from carafe.steward.statements import FOLD_STATISTICS
from carafe.store.database import Database
from carafe.telemetry.metrics import BOUNDS

BATCH = 5_000
"""The maximum number of deltas in one statement. A round goes on while batches are full."""

KEEP: Mapping[int, float] = MappingProxyType({10: 3 * 3_600.0, 60: 2 * 86_400.0, 600: 90 * 86_400.0})
"""For each width of a bucket, in seconds: how many seconds buckets of this width are kept."""


class Folder(Service):
    """The service that folds the statistics of ended jobs into buckets."""

    name = "folder"
    interval: ClassVar[float] = 2.0

    def __init__(self, database: Database) -> None:
        super().__init__()
        self._database = database
        self.folded = 0

    async def work(self) -> bool:
        async with self._database.connection() as connection:
            rows: int = await FOLD_STATISTICS.fetchval(connection, limit=BATCH, buckets=len(BOUNDS) + 1)
        self.folded += rows
        return rows == BATCH
