"""A steward inside another process: web processes and workers each carry one (setting STEWARD); one of them all leads."""

import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from carafe.database import Database
from carafe.jobs.queue import Queue
from carafe.steward.pruner import Retention
from carafe.steward.steward import Steward

if TYPE_CHECKING:
    from carafe.settings import Settings


@asynccontextmanager
async def hosted(settings: "Settings", database: Database, queue: Queue, role: str) -> AsyncIterator[None]:
    """Run the upkeep for as long as the block lasts, if the settings say so; `role` and the host say who leads."""
    if not settings.steward:
        yield
        return
    name = f"{role} {socket.gethostname()}:{os.getpid()}"
    steward = Steward(database, queue, name=name, retention=Retention.of(settings))
    steward.start()
    try:
        yield
    finally:
        await steward.stop()
