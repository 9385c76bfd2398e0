"""A steward inside another process: web processes and workers each carry one (setting STEWARD); one of them all leads.

With it goes what each such process says of itself to Prometheus (carafe.vitals), whatever the setting.
"""

import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from carafe.database import Database
from carafe.jobs.acceptance import Acceptance
from carafe.jobs.queue import Queue
from carafe.steward.pruner import Retention
from carafe.steward.steward import Steward
from carafe.vitals import vitals

if TYPE_CHECKING:
    from carafe.settings import Settings


@asynccontextmanager
async def hosted(
    settings: "Settings", database: Database, queue: Queue, role: str, acceptance: Acceptance | None = None
) -> AsyncIterator[None]:
    """Run the upkeep for as long as the block lasts, if the settings say so; `role` and the host say who leads.
    `acceptance`: see `vitals`."""
    async with vitals(database, queue, acceptance):
        if not settings.steward:
            yield
            return
        name = f"{role} {socket.gethostname()}:{os.getpid()}"
        steward = Steward(database, queue, name=name, retention=Retention.of(settings), retries=settings.job_max_retries)
        steward.start()
        try:
            yield
        finally:
            await steward.stop()
