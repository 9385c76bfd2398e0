"""The shape of an upkeep service: a name, a jittered interval, and one bounded piece of work at a time."""

import asyncio
import random
from abc import ABC, abstractmethod
from typing import ClassVar

import asyncpg
import structlog

from carafe.database import AWAY

log = structlog.stdlib.get_logger("carafe.steward")


class Service(ABC):
    """One duty. `rounds` counts its finished rounds, and `round_done` is set after each: tests wait on it."""

    name: ClassVar[str]
    interval: ClassVar[float]

    def __init__(self) -> None:
        self.rounds = 0
        self.round_done = asyncio.Event()

    @abstractmethod
    async def work(self) -> bool:
        """Do a bounded piece of work; True when there is more to do at once."""

    async def round(self) -> None:
        """Work until there is nothing more to do, one piece after the other; errors are logged, never raised."""
        try:
            while await self.work():  # noqa: ASYNC110  the pieces wait on the database themselves
                await asyncio.sleep(0)
        except AWAY as error:
            log.warning("upkeep paused, Postgres is away", service=self.name, error=type(error).__name__)
            await asyncio.sleep(1)
        except (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError):
            log.warning("upkeep waits for `carafe migrate`", service=self.name)
            await asyncio.sleep(5)
        except Exception:
            log.exception("upkeep failed", service=self.name)
            await asyncio.sleep(1)
        self.rounds += 1
        self.round_done.set()

    async def pause(self) -> None:
        """Wait for the next round: the interval, give or take a quarter."""
        await asyncio.sleep(self.interval * random.uniform(0.75, 1.25))
