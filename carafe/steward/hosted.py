"""A steward inside another process. Each web process and each worker hosts a steward (unless the setting STEWARD is off),
and one of these processes leads. Each process also exports its own metrics (carafe.process.metrics), even if STEWARD is off.
"""

import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from carafe.process.metrics import vitals
from carafe.queue.queue import Queue
from carafe.steward.pruner import Retention
from carafe.steward.steward import Steward
from carafe.store.acceptance import Acceptance
from carafe.store.database import Database

if TYPE_CHECKING:
    from carafe.settings.settings import Settings


@asynccontextmanager
async def hosted(
    settings: "Settings", database: Database, queue: Queue, role: str, acceptance: Acceptance | None = None
) -> AsyncIterator[None]:
    """Context manager. While its block runs, hosts a steward (unless the setting STEWARD is off) and exports the process's
    own metrics. `role` is the first word of this process's name in the lease and in the log. `acceptance` is passed to
    `vitals`."""
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
