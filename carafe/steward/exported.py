"""What the leader exports of the whole installation: the newest sample of the gauges, and what Redis says.

Guarantees: a process shows these only while it leads and while they are fresh, so that the values of two replicas never add
up, nor those of a former leader stay.
"""

import contextlib
import time
from typing import Any, ClassVar

from carafe import metrics
from carafe.database import Database
from carafe.instruments import Gauge, Readings
from carafe.jobs import redis_away
from carafe.jobs.held_back import held_back
from carafe.jobs.hints import QUEUE
from carafe.jobs.queue import Queue
from carafe.jobs.redis_rights import BUSY, RUNNING
from carafe.jobs.statements import LATEST_GAUGES
from carafe.steward.lease import Lease
from carafe.steward.service import Service

FRESH = 60.0
"""Seconds after which what was read is shown no longer."""

COLUMNS = {
    metrics.JOBS_QUEUED: "queued",
    metrics.JOBS_RUNNING: "running",
    metrics.JOBS_SCHEDULED: "scheduled",
    metrics.JOBS_RETRYING: "retrying",
    metrics.JOBS_DEAD: "dead",
    metrics.OLDEST_WAIT: "oldest_wait",
    metrics.PAUSED: "paused",
}
"""Which column of carafe.gauges each metric shows, by queue."""


class Exporter(Service):
    """See the module."""

    name = "exporter"
    interval: ClassVar[float] = 5.0

    def __init__(self, database: Database, queue: Queue, lease: Lease) -> None:
        super().__init__()
        self._database, self._queue, self._lease = database, queue, lease
        self._values: dict[Gauge, Readings] = {}
        self._read = {"postgres": 0.0, "redis": 0.0}

    async def work(self) -> bool:
        await self._ask_redis()
        async with self._database.connection() as connection:
            rows = await connection.fetch(LATEST_GAUGES.positional)
            held = await held_back(connection)
        self._values |= {metric: {(row["queue"],): float(row[column]) for row in rows} for metric, column in COLUMNS.items()}
        if rows:
            newest = max(rows, key=lambda row: row["at"])
            self._values[metrics.WORKERS] = {(): newest["workers"]}
            self._values[metrics.WORKER_SLOTS] = {(): newest["slots"]}
            self._values[metrics.VACUUM_HELD] = {(): (held.holder.seconds or 0.0) if held.holder else 0.0}
            self._values[metrics.DEAD_ROWS] = {(): float(held.dead_rows)}
            self._read["postgres"] = time.monotonic()
        return False

    async def _ask_redis(self) -> None:
        redis: Any = self._queue.redis
        try:
            queued, running, busy = await redis.llen(QUEUE), await redis.zcard(RUNNING), await redis.zcard(BUSY)
        except redis_away.AWAY:
            return  # `carafe_redis_up` says so; these are shown no longer when they are old
        policy = ""
        with contextlib.suppress(*redis_away.AWAY):  # a managed Redis may not let everybody ask for it
            policy = str((await redis.info("memory")).get("maxmemory_policy", ""))
        self._values |= {
            metrics.SCALING_QUEUED: {(QUEUE,): queued},
            metrics.SCALING_RUNNING: {(QUEUE,): running},
            metrics.SCALING_BUSY: {(QUEUE,): busy},
            metrics.REDIS_NOEVICTION: {(): float(policy == "noeviction")} if policy else {},
        }
        self._read["redis"] = time.monotonic()

    def values(self, metric: Gauge) -> Readings:
        """What the metric shows now: nothing unless this process leads."""
        source = "redis" if metric in OF_REDIS else "postgres"
        if not self._lease.held or time.monotonic() - self._read[source] > FRESH:
            return {}
        return self._values.get(metric, {})


OF_REDIS = frozenset({metrics.SCALING_QUEUED, metrics.SCALING_RUNNING, metrics.SCALING_BUSY, metrics.REDIS_NOEVICTION})
"""Those that come from Redis; the others come from Postgres."""
