"""Deletes what is older than its retention: ended jobs with their failed attempts, log lines of jobs, idempotency keys, the
audit and bulk actions, samples, statistics.

Guarantees: nothing is deleted before its time, and one statement never deletes more than a bounded batch. Ended jobs are
dropped by whole day partitions, which costs nothing per row and leaves nothing to vacuum. So a job stays up to a day longer
than its retention.
If another session reads a partition, the pruner does not wait for it, since processes that end jobs would have to wait
behind the pruner. It tries that partition again in the next round.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar, Self
from uuid import UUID

from carafe.steward import gauges, statistics
from carafe.steward.service import Service, log
from carafe.steward.statements import (
    PRUNABLE,
    PRUNE_ATTEMPTS,
    PRUNE_AUDIT,
    PRUNE_GAUGES,
    PRUNE_IDEMPOTENCY_KEYS,
    PRUNE_LOGS,
    PRUNE_OTHER_DAYS,
    PRUNE_PARTITION,
    PRUNE_PARTITIONS,
    PRUNE_STATISTICS,
)
from carafe.store.database import Database
from carafe.store.statement import Statement

if TYPE_CHECKING:
    from carafe.settings.settings import Settings

BATCH = 1_000
"""The maximum number of rows in one statement. A round goes on while batches are full."""

DAY = 86_400.0


@dataclass(frozen=True, slots=True)
class Retention:
    """Seconds that ended jobs are kept. Cancelled jobs are kept as long as succeeded jobs, because they are in the same
    partitions."""

    succeeded: float = 7 * DAY
    dead: float = 30 * DAY

    @classmethod
    def of(cls, settings: "Settings") -> Self:
        """Returns the retention that the settings define."""
        return cls(succeeded=settings.retention_succeeded, dead=settings.retention_dead)


@dataclass(frozen=True, slots=True)
class Prunable:
    """Something that pruning would delete: either a whole partition, for which `rows` is an estimate, or rows of a table,
    for which `bytes` is None."""

    name: str
    rows: int
    bytes: int | None = None

    @property
    def partition(self) -> bool:
        """Whether this is a partition, which is dropped as a whole."""
        return self.bytes is not None


class Pruner(Service):
    """The service that prunes. `pruned` counts deleted rows by table, and dropped partitions under ``partitions``. `in_use`
    has the names of the partitions that this round had to leave."""

    name = "pruner"
    interval: ClassVar[float] = 60.0

    def __init__(self, database: Database, retention: Retention | None = None) -> None:
        super().__init__()
        self._database, self._retention = database, retention or Retention()
        self._cursor: tuple[str, datetime, UUID] | None = None
        self.in_use: set[str] = set()
        self.pruned: Counter[str] = Counter()

    async def round(self) -> None:
        """Prune what is due. Partitions that were in use in an earlier round are tried again."""
        self.in_use.clear()
        await super().round()

    async def prune(self) -> None:
        """Prune everything that is due. Unlike `round`, which logs errors, this raises those of the database."""
        self.in_use.clear()
        while await self.work():
            pass

    async def prunable(self) -> list[Prunable]:
        """Returns what `prune` would delete now."""
        async with self._database.connection() as connection:
            partitions = await PRUNE_PARTITIONS.fetch(connection, **self._retained)
            tables = await PRUNABLE.fetch(
                connection,
                **self._retained,
                gauges=gauges.KEEP,
                widths=list(statistics.KEEP),
                keeps=list(statistics.KEEP.values()),
            )
        found = [Prunable(row["name"], row["rows"], row["bytes"]) for row in partitions]
        counted: Counter[str] = Counter()
        for row in tables:
            counted[row["name"]] += row["rows"]
        return found + [Prunable(name, rows) for name, rows in counted.items() if rows]

    async def work(self) -> bool:
        more = await self._prune_partition()
        for name, statement, values in self._batches():
            rows = await self._delete(statement, values)
            self.pruned[name] += rows
            more = more or rows >= BATCH
        return more

    def _batches(self) -> list[tuple[str, Statement, Mapping[str, Any]]]:
        return [
            ("other_days", PRUNE_OTHER_DAYS, self._retained),
            ("job_logs", PRUNE_LOGS, self._retained),
            ("idempotency_keys", PRUNE_IDEMPOTENCY_KEYS, {}),
            ("audit", PRUNE_AUDIT, {"keep": self._retention.dead}),
            ("gauges", PRUNE_GAUGES, {"keep": gauges.KEEP}),
            *(("statistics", PRUNE_STATISTICS, {"width": width, "keep": keep}) for width, keep in statistics.KEEP.items()),
        ]

    async def _delete(self, statement: Statement, values: Mapping[str, Any]) -> int:
        async with self._database.connection() as connection:
            rows: int = await statement.fetchval(connection, limit=BATCH, **values)
        return rows

    @property
    def _retained(self) -> dict[str, Any]:
        return {"dead": self._retention.dead, "succeeded": self._retention.succeeded}

    async def _prune_partition(self) -> bool:
        """Do one step of pruning the oldest partition that is due: delete the failed attempts of a page of its jobs, or drop
        the partition itself if no page is left. Returns False when no partition is due."""
        async with self._database.connection() as connection:
            rows = await PRUNE_PARTITIONS.fetch(connection, **self._retained)
        due = next((row for row in rows if row["name"] not in self.in_use), None)
        if due is None:
            return False
        if due["logs"] or not await self._forget_attempts(due):
            await self._drop(due)
        return True

    async def _forget_attempts(self, partition: Mapping[str, Any]) -> bool:
        """Delete the failed attempts of a page of the partition's jobs. Returns False when every job of the partition has
        been visited."""
        if self._cursor is None or self._cursor[0] != partition["name"]:
            self._cursor = (partition["name"], partition["begins"], UUID(int=0))
        _, after, after_id = self._cursor
        async with self._database.connection() as connection:
            last = await PRUNE_ATTEMPTS.fetchrow(
                connection, dead=partition["dead"], ends=partition["ends"], after=after, after_id=after_id, limit=BATCH
            )
        if last is None:
            return False
        self._cursor = (partition["name"], last["ended_at"], last["id"])
        self.pruned["attempts"] += last["forgotten"]
        return True

    async def _drop(self, partition: Mapping[str, Any]) -> None:
        name = partition["name"]
        async with self._database.connection() as connection:
            dropped = await PRUNE_PARTITION.fetchval(connection, name=name)
        if dropped:
            self.pruned["partitions"] += 1
            log.info("partition dropped", partition=name, rows=partition["rows"])
        else:
            self.in_use.add(name)
            log.info("partition in use, left for the next round", partition=name)
