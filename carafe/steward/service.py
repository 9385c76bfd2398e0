"""The shape of an upkeep service: a name, a jittered interval, and one bounded piece of work at a time."""

import asyncio
import random
from abc import ABC, abstractmethod
from typing import ClassVar

import asyncpg
import structlog

from carafe.database import AWAY, PASSING
from carafe.postgres_away import details, words

log = structlog.stdlib.get_logger("carafe.steward")


class Pauses:
    """Why services cannot work now. The log has each reason once, however many services meet it and however often, until all
    go on."""

    def __init__(self) -> None:
        self._of: dict[str, str] = {}

    def waits(self, service: str, error: BaseException) -> None:
        """A service has met what passes by itself."""
        why = f"Postgres {words(error)}"
        new = why not in self._of.values()
        self._of[service] = why
        if new:
            log.warning("upkeep paused", service=service, why=why, error=details(error))

    def goes_on(self, service: str) -> None:
        """A service has done its work."""
        if self._of.pop(service, None) is not None and not self._of:
            log.info("upkeep goes on")


class Service(ABC):
    """One duty. `rounds` counts its finished rounds, and `round_done` is set after each: tests wait on it. The
    services of a steward share their `pauses`."""

    name: ClassVar[str]
    interval: ClassVar[float]

    def __init__(self) -> None:
        self.pauses = Pauses()
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
            self.pauses.goes_on(self.name)
        except (*AWAY, *PASSING) as error:
            self.pauses.waits(self.name, error)
            await asyncio.sleep(1)
        except (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError) as error:
            self.pauses.waits(self.name, error)
            await asyncio.sleep(5)
        except Exception:
            log.exception("upkeep failed", service=self.name)
            await asyncio.sleep(1)
        self.rounds += 1
        self.round_done.set()

    async def pause(self) -> None:
        """Wait for the next round: the interval, give or take a quarter."""
        await asyncio.sleep(self.interval * random.uniform(0.75, 1.25))
