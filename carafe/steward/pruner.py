"""Prunes what has outlived its retention: ended jobs with their failed attempts, log lines of jobs, idempotency keys, the
audit and bulk actions, samples, statistics.

Guarantees: nothing goes before its time, and never more than a bounded batch in one statement. Ended jobs go by whole day
partitions, which costs nothing per row and leaves nothing to vacuum; so a job stays up to a day longer than its retention.
A partition that somebody reads is left for the next round rather than waited for, since those who end jobs would wait too.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar, Self
from uuid import UUID

from carafe.database import Database
from carafe.jobs.statements import (
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
    Statement,
)
from carafe.steward import gauges, statistics
from carafe.steward.service import Service, log

if TYPE_CHECKING:
    from carafe.settings import Settings

BATCH = 1_000
"""Rows in one statement; `round` goes on while batches are full."""

DAY = 86_400.0


@dataclass(frozen=True, slots=True)
class Retention:
    """Seconds that ended jobs are kept; succeeded and cancelled ones share their partitions, and so their retention."""

    succeeded: float = 7 * DAY
    dead: float = 30 * DAY

    @classmethod
    def of(cls, settings: "Settings") -> Self:
        """As the settings say."""
        return cls(succeeded=settings.retention_succeeded, dead=settings.retention_dead)


@dataclass(frozen=True, slots=True)
class Prunable:
    """What would go: a whole partition (its rows are an estimate), or rows of a table."""

    name: str
    rows: int
    bytes: int | None = None

    @property
    def partition(self) -> bool:
        """Whether it goes as a whole."""
        return self.bytes is not None


class Pruner(Service):
    """See the module. `pruned` counts rows by table, and ``partitions``; `in_use` names those the round had to leave."""

    name = "pruner"
    interval: ClassVar[float] = 60.0

    def __init__(self, database: Database, retention: Retention | None = None) -> None:
        super().__init__()
        self._database, self._retention = database, retention or Retention()
        self._cursor: tuple[str, datetime, UUID] | None = None
        self.in_use: set[str] = set()
        self.pruned: Counter[str] = Counter()

    async def round(self) -> None:
        """As ever; partitions that were in use are tried again."""
        self.in_use.clear()
        await super().round()

    async def prune(self) -> None:
        """Everything there is to prune, now. Raises what the database raises, unlike `round`."""
        self.in_use.clear()
        while await self.work():
            pass

    async def prunable(self) -> list[Prunable]:
        """What `prune` would do."""
        async with self._database.connection() as connection:
            partitions = await connection.fetch(PRUNE_PARTITIONS.positional, *self._retained(PRUNE_PARTITIONS))
            arguments = PRUNABLE.arguments(
                dead=self._retention.dead,
                succeeded=self._retention.succeeded,
                gauges=gauges.KEEP,
                widths=list(statistics.KEEP),
                keeps=list(statistics.KEEP.values()),
            )
            tables = await connection.fetch(PRUNABLE.positional, *arguments)
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
            ("other_days", PRUNE_OTHER_DAYS, {"dead": self._retention.dead, "succeeded": self._retention.succeeded}),
            ("job_logs", PRUNE_LOGS, {"dead": self._retention.dead, "succeeded": self._retention.succeeded}),
            ("idempotency_keys", PRUNE_IDEMPOTENCY_KEYS, {}),
            ("audit", PRUNE_AUDIT, {"keep": self._retention.dead}),
            ("gauges", PRUNE_GAUGES, {"keep": gauges.KEEP}),
            *(("statistics", PRUNE_STATISTICS, {"width": width, "keep": keep}) for width, keep in statistics.KEEP.items()),
        ]

    async def _delete(self, statement: Statement, values: Mapping[str, Any]) -> int:
        async with self._database.connection() as connection:
            rows: int = await connection.fetchval(statement.positional, *statement.arguments(limit=BATCH, **values))
        return rows

    def _retained(self, statement: Statement) -> tuple[Any, ...]:
        return statement.arguments(dead=self._retention.dead, succeeded=self._retention.succeeded)

    async def _prune_partition(self) -> bool:
        """A piece of the oldest partition that is due: a page of its jobs' failed attempts or, without any, itself."""
        async with self._database.connection() as connection:
            rows = await connection.fetch(PRUNE_PARTITIONS.positional, *self._retained(PRUNE_PARTITIONS))
        due = next((row for row in rows if row["name"] not in self.in_use), None)
        if due is None:
            return False
        if due["logs"] or not await self._forget_attempts(due):
            await self._drop(due)
        return True

    async def _forget_attempts(self, partition: Mapping[str, Any]) -> bool:
        """A page of them; False when there are no more."""
        if self._cursor is None or self._cursor[0] != partition["name"]:
            self._cursor = (partition["name"], partition["begins"], UUID(int=0))
        _, after, after_id = self._cursor
        async with self._database.connection() as connection:
            arguments = PRUNE_ATTEMPTS.arguments(
                dead=partition["dead"], ends=partition["ends"], after=after, after_id=after_id, limit=BATCH
            )
            last = await connection.fetchrow(PRUNE_ATTEMPTS.positional, *arguments)
        if last is None:
            return False
        self._cursor = (partition["name"], last["ended_at"], last["id"])
        self.pruned["attempts"] += last["forgotten"]
        return True

    async def _drop(self, partition: Mapping[str, Any]) -> None:
        name = partition["name"]
        async with self._database.connection() as connection:
            dropped = await connection.fetchval(PRUNE_PARTITION.positional, *PRUNE_PARTITION.arguments(name=name))
        if dropped:
            self.pruned["partitions"] += 1
            log.info("partition dropped", partition=name, rows=partition["rows"])
        else:
            self.in_use.add(name)
            log.info("partition in use, left for the next round", partition=name)
