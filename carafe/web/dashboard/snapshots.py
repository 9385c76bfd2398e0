"""The state of everything as one process last read it: one snapshot a second whoever asks, however many look.

Guarantees: no more than one statement a second for it, and none while nobody looks; that Postgres or Redis is away is
known here, in words.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from carafe.database import AWAY
from carafe.logging import get_logger
from carafe.postgres_away import details, words
from carafe.web.dashboard.formatting import stamp

if TYPE_CHECKING:
    from carafe.readmodel.model import ReadModel
    from carafe.readmodel.records import Snapshot

log = get_logger(__name__)

KEPT = 0.9
"""Seconds that a snapshot is fresh."""

PATIENCE = 1.5
"""Seconds that a page waits for a fresh snapshot before it does with the last one."""


class Snapshots:
    """Keeps the last snapshot. Bound to the loop that uses it."""

    def __init__(self, model: "ReadModel", clock: Callable[[], float] = time.monotonic) -> None:
        self._model = model
        self._clock = clock
        self._last: Snapshot | None = None
        self._read_at = float("-inf")
        self._reading: asyncio.Task[None] | None = None
        self._down: datetime | None = None
        self._why = ""

    def latest(self) -> "Snapshot | None":
        """The last snapshot; None before the first one and while Postgres is away."""
        return self._last if self._down is None else None

    def trouble(self) -> Mapping[str, str | None]:
        """What is down, in words, under ``postgres`` and ``redis``, and who paused, under ``paused``; None: all is well."""
        postgres = redis = paused = None
        if self._down is not None:
            postgres = (
                f"Postgres {self._why} since {self._down:%H:%M:%S} UTC. Nothing can be shown or done until it can be "
                "used again; jobs are not lost."
            )
        elif self._last is not None and self._last.redis is not None:
            redis = f"Redis cannot be used ({self._last.redis}). Jobs are accepted and kept; they start when it is back."
        # While Postgres is away it is paused as it was.
        if self._last is not None and self._last.paused_at is not None:
            by = f" by {self._last.paused_by}" if self._last.paused_by else ""
            why = f": {self._last.paused_reason}" if self._last.paused_reason else ""
            paused = f"Paused since {stamp(self._last.paused_at)}{by}{why}. No new job starts."
        return {"postgres": postgres, "redis": redis, "paused": paused}

    async def fresh(self) -> "Snapshot | None":
        """A snapshot at most a second old; None while Postgres is away. Never raises for Postgres."""
        if self._clock() - self._read_at >= KEPT and (self._reading is None or self._reading.done()):
            self._reading = asyncio.create_task(self._read(), name="dashboard snapshot")
        if self._reading is not None and not self._reading.done():
            await asyncio.wait([self._reading], timeout=PATIENCE)
        return self.latest()

    def doubt(self) -> None:
        """Somebody could not read: look at once when asked next."""
        self._read_at = float("-inf")

    async def close(self) -> None:
        """End a read that is under way."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait([self._reading])

    async def _read(self) -> None:
        try:
            self._last = await self._model.snapshot()
        except AWAY as error:
            self._why = words(error)
            if self._down is None:
                self._down = datetime.now(UTC)
                log.warning("dashboard cannot read", why=self._why, error=details(error))
        except Exception:
            # A fault of ours: the pages say what they can, the log says why; the next second tries again.
            log.exception("snapshot failed")
        else:
            self._down = None
        self._read_at = self._clock()
