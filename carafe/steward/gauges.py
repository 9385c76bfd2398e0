"""Samples gauges into a table of their own: the numbers of waiting, running and dead jobs, the oldest wait, workers and
slots.

On Kubernetes it also samples how many workers the autoscaler's formula asks for.
"""

import asyncio
import time
from typing import ClassVar

from carafe.steward.service import Service
from carafe.steward.statements import SAMPLE
from carafe.store.database import Database

SHARE = 0.02
"""The largest share of the time for which sampling may keep Postgres busy. So samples are taken less often when many jobs
wait."""

KEEP = 8 * 86_400.0
"""Seconds that samples are kept: eight days, for charts of a week."""


class Sampler(Service):
    """The service that samples the gauges."""

    name = "sampler"
    interval: ClassVar[float] = 5.0

    def __init__(self, database: Database, *, scales: bool = False) -> None:
        """`scales` says that an autoscaler sets the number of workers by its formula."""
        super().__init__()
        self._database, self._scales = database, scales
        self._took = 0.0

    async def work(self) -> bool:
        began = time.monotonic()
        async with self._database.connection() as connection:
            await SAMPLE.execute(connection, scales=self._scales)
        self._took = time.monotonic() - began
        return False

    async def pause(self) -> None:
        """Wait for the next round as every service does, or longer if samples take so long that their share of the time
        would exceed `SHARE`."""
        await super().pause()
        await asyncio.sleep(max(0.0, self._took / SHARE - self.interval))
