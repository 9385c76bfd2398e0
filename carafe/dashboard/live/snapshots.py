"""Keeps the current state of all jobs, queues and workers, which every page shows, as this process last read it.

Guarantees: the state is read at most once a second, however many pages are open, and not at all while no page is open. If
Postgres or Redis is away, `Snapshots.trouble` says so in words.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from carafe.dashboard.view.formatting import stamp
from carafe.postgres_away import details, words
from carafe.store.database import AWAY
from carafe.telemetry.loggers import get_logger

if TYPE_CHECKING:
    from carafe.readmodel.model import ReadModel
    from carafe.readmodel.records import Snapshot

log = get_logger(__name__)

KEPT = 0.9
"""The age in seconds above which a snapshot is too old, so that the next request reads a new one."""

PATIENCE = 1.5
"""Seconds that a page waits for a fresh snapshot before it shows the last one."""


class Snapshots:
    """Reads snapshots and keeps the last one. Used on one event loop only."""

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
        """Returns sentences about what is wrong, for every page: under ``postgres`` and ``redis`` if the server cannot be
        used, under ``paused`` if the queue is paused. A value is None where nothing is wrong."""
        postgres = redis = paused = None
        if self._down is not None:
            postgres = (
                f"Postgres {self._why} since {self._down:%H:%M:%S} UTC. Nothing can be shown or done until it can be "
                "used again; jobs are not lost."
            )
        elif self._last is not None and self._last.redis is not None:
            redis = f"Redis cannot be used ({self._last.redis}). Jobs are accepted and kept; they start when it is back."
        # While Postgres is away the last known pause is shown.
        if self._last is not None and self._last.paused_at is not None:
            by = f" by {self._last.paused_by}" if self._last.paused_by else ""
            why = f": {self._last.paused_reason}" if self._last.paused_reason else ""
            paused = f"Paused since {stamp(self._last.paused_at)}{by}{why}. No new job starts."
        return {"postgres": postgres, "redis": redis, "paused": paused}

    async def fresh(self) -> "Snapshot | None":
        """Returns a snapshot at most a second old, or the last one if reading takes over `PATIENCE`.

        Returns None while Postgres is away; raises no error for that.
        """
        if self._clock() - self._read_at >= KEPT and (self._reading is None or self._reading.done()):
            self._reading = asyncio.create_task(self._read(), name="dashboard snapshot")
        if self._reading is not None and not self._reading.done():
            await asyncio.wait([self._reading], timeout=PATIENCE)
        return self.latest()

    def mark_stale(self) -> None:
        """Make the next call of `fresh` read again. Called when a page could not use Postgres, or has changed something."""
        self._read_at = float("-inf")

    async def close(self) -> None:
        """Cancel a read that is under way."""
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
            # A bug of ours: the pages show what they can, the log says why; the next second tries again.
            log.exception("snapshot failed")
        else:
            self._down = None
        self._read_at = self._clock()
