"""Samples gauges into a table of their own: what waits, runs and is dead, the oldest wait, workers and slots, over time.

On Kubernetes also how many workers the autoscaler's formula asks for.
"""

import asyncio
import time
from typing import ClassVar

from carafe.database import Database
from carafe.jobs.statements import SAMPLE
from carafe.steward.service import Service

SHARE = 0.02
"""Of Postgres's time that sampling may take at most: with a deep backlog, samples are taken less often."""

KEEP = 8 * 86_400.0
"""Seconds that samples are kept: for charts of a week."""


class Sampler(Service):
    """See the module."""

    name = "sampler"
    interval: ClassVar[float] = 5.0

    def __init__(self, database: Database, *, scales: bool = False) -> None:
        """`scales`: there is an autoscaler that follows the formula."""
        super().__init__()
        self._database, self._scales = database, scales
        self._took = 0.0

    async def work(self) -> bool:
        began = time.monotonic()
        async with self._database.connection() as connection:
            await connection.execute(SAMPLE.positional, *SAMPLE.arguments(scales=self._scales))
        self._took = time.monotonic() - began
        return False

    async def pause(self) -> None:
        """Like any service's, and longer when sampling has become dear."""
        await super().pause()
        await asyncio.sleep(max(0.0, self._took / SHARE - self.interval))
