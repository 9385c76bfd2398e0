"""The metrics of the whole installation, which the leader exports: the newest sample of the gauges in Postgres, and what the
leader reads from Redis.

Guarantees: a process shows these metrics only while it leads and while the values are fresh. So two processes do not export
the same value, which would count twice in a sum, and a former leader shows no old values.
"""

import contextlib
import time
from typing import Any, ClassVar

from carafe.jobs.queue_name import QUEUE
from carafe.queue import redis_away
from carafe.queue.queue import Queue
from carafe.queue.redis_rights import BUSY, COUNTS_FOR, RUNNING
from carafe.steward.lease import Lease
from carafe.steward.service import Service
from carafe.steward.statements import LATEST_GAUGES
from carafe.store.database import Database
from carafe.store.held_back import held_back
from carafe.telemetry import metrics
from carafe.telemetry.instruments import Gauge, Readings

# Entries that no worker renews are removed. While no worker has anything to publish, nobody else would remove what somebody
# has written into these sets, and the autoscaler would start workers for that, which have nothing to publish either.
COUNT = """#!lua flags=allow-oom
local now = tonumber(redis.call('TIME')[1])
local counts = {redis.call('LLEN', KEYS[1])}
for i = 2, #KEYS do
    redis.call('ZREMRANGEBYSCORE', KEYS[i], '-inf', '(' .. now)
    redis.call('ZREMRANGEBYSCORE', KEYS[i], '(' .. (now + tonumber(ARGV[1])), '+inf')
    counts[i] = redis.call('ZCARD', KEYS[i])
end
return counts
"""

FRESH = 60.0
"""Seconds after it was read from Postgres or Redis for which a value is shown. Later it counts as too old."""

COLUMNS = {
    metrics.JOBS_QUEUED: "queued",
    metrics.JOBS_HELD: "held",
    metrics.JOBS_RUNNING: "running",
    metrics.JOBS_SCHEDULED: "scheduled",
    metrics.JOBS_RETRYING: "retrying",
    metrics.JOBS_DEAD: "dead",
    metrics.OLDEST_WAIT: "oldest_wait",
    metrics.PAUSED: "paused",
}
"""For each metric, the column of the table carafe.gauges whose values it shows, one for each queue."""


class Exporter(Service):
    """The service that reads the metrics of the whole installation."""

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
            rows = await LATEST_GAUGES.fetch(connection)
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
            queued, running, busy = await redis.eval(COUNT, 3, QUEUE, RUNNING, BUSY, COUNTS_FOR)
        except redis_away.errors():
            return  # `carafe_redis_up` says so; old values are not shown
        policy = ""
        with contextlib.suppress(*redis_away.errors()):  # a managed Redis may not let everybody ask for it
            policy = str((await redis.info("memory")).get("maxmemory_policy", ""))
        self._values |= {
            metrics.SCALING_QUEUED: {(QUEUE,): queued},
            metrics.SCALING_RUNNING: {(QUEUE,): running},
            metrics.SCALING_BUSY: {(QUEUE,): busy},
            metrics.REDIS_NOEVICTION: {(): float(policy == "noeviction")} if policy else {},
        }
        self._read["redis"] = time.monotonic()

    def values(self, metric: Gauge) -> Readings:
        """Returns what the metric shows now. Returns an empty dictionary if this process does not lead, or if the values are
        older than `FRESH` seconds."""
        source = "redis" if metric in OF_REDIS else "postgres"
        if not self._lease.held or time.monotonic() - self._read[source] > FRESH:
            return {}
        return self._values.get(metric, {})


OF_REDIS = frozenset({metrics.SCALING_QUEUED, metrics.SCALING_RUNNING, metrics.SCALING_BUSY, metrics.REDIS_NOEVICTION})
"""The metrics whose values come from Redis. All other metrics of the leader come from Postgres."""
