"""The base class of the steward's services. A service has a name and a jittered interval. It does one bounded piece of work
at a time."""

import asyncio
import random
from abc import ABC, abstractmethod
from typing import ClassVar

from carafe.postgres_away import details, words
from carafe.store.database import AWAY, OLDER_SCHEMA, PASSING
from carafe.telemetry.loggers import get_logger

log = get_logger("carafe.steward")


class Pauses:
    """The reasons why services of a steward cannot work now. Each reason is logged only once, even if several services have
    it, until all services work again."""

    def __init__(self) -> None:
        self._of: dict[str, str] = {}

    def waits(self, service: str, error: BaseException) -> None:
        """Record that a service cannot work now, because of an error that is expected to go away by itself."""
        why = f"Postgres {words(error)}"
        new = why not in self._of.values()
        self._of[service] = why
        if new:
            log.warning("upkeep paused", service=service, why=why, error=details(error))

    def goes_on(self, service: str) -> None:
        """Record that a service has done its work."""
        if self._of.pop(service, None) is not None and not self._of:
            log.info("upkeep goes on")


class Service(ABC):
    """One duty of the steward. `rounds` counts the finished rounds. `round_done` is set after each round; tests wait for it.
    All services of a steward share one `Pauses`."""

    name: ClassVar[str]
    interval: ClassVar[float]

    def __init__(self) -> None:
        self.pauses = Pauses()
        self.rounds = 0
        self.round_done = asyncio.Event()

    @abstractmethod
    async def work(self) -> bool:
        """Do a bounded piece of work. Returns True if there is more to do, so that `work` must be called again without a
        pause."""

    async def round(self) -> None:
        """Work, piece by piece, until there is nothing more to do. Errors are logged, never raised."""
        try:
            while await self.work():  # noqa: ASYNC110  the pieces wait on the database themselves
                await asyncio.sleep(0)
            self.pauses.goes_on(self.name)
        except (*AWAY, *PASSING) as error:
            self.pauses.waits(self.name, error)
            await asyncio.sleep(1)
        except OLDER_SCHEMA as error:
            self.pauses.waits(self.name, error)
            await asyncio.sleep(5)
        except Exception:
            log.exception("upkeep failed", service=self.name)
            await asyncio.sleep(1)
        self.rounds += 1
        self.round_done.set()

    async def pause(self) -> None:
        """Wait for the next round: `interval` seconds, give or take a random quarter."""
        await asyncio.sleep(self.interval * random.uniform(0.75, 1.25))
