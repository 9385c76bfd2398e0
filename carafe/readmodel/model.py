"""The read model: every question that a page, the API or the command line asks about the system, in one object.

Each answer is a frozen record (see carafe.readmodel.records), made by a handful of bounded statements on one connection.
What all viewers share (the counts, the groups of dead letters, the kinds) is remembered for a moment, so that many viewers
cost what one costs.
Must never: write anything, or keep what it remembers longer than it says.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from uuid import UUID

from carafe.database import DISCONNECTED, PASSING, Database
from carafe.errors import Busy, Unavailable
from carafe.jobs.acceptance import Acceptance
from carafe.jobs.bulk import BulkActionRecord, bulk_record
from carafe.jobs.errors import InvalidOption
from carafe.jobs.filters import JobFilter
from carafe.jobs.moves import Connection
from carafe.jobs.queue import Queue
from carafe.jobs.records import Count
from carafe.jobs.states import State
from carafe.readmodel import audits, jobview, overview, pages, workforce
from carafe.readmodel.counting import Counts, count, count_live, total
from carafe.readmodel.dead import COUNTING, DeadLetters
from carafe.readmodel.facts import redis_trouble
from carafe.readmodel.memory import Memory
from carafe.readmodel.records import (
    AuditPage,
    DeadGroup,
    DeadGroups,
    JobsPage,
    JobView,
    Range,
    Series,
    Snapshot,
    Workers,
)
from carafe.readmodel.series import axis_of, series
from carafe.readmodel.statements import BULK_ACTIONS, KINDS

TRYING = 0.03
"""Seconds that rows are tried for where a filter has no index: for a page, and a third of it for counts."""

LIVE, COUNTED, GROUPS, KINDS_KEPT = 0.5, 2.0, 5.0, 10.0
"""Seconds that counts of live jobs, counts by filter, groups of dead letters and kinds are remembered."""

GROUPS_RENEWED = 2.5
"""Seconds after which somebody who asks for the groups has them counted anew for the next."""

NEWEST = 10_000
"""Live jobs whose kinds count as known."""

WATCHED = 1_000
"""Jobs that can be asked about at once."""


class ReadModel:
    """Asks one database (best one of its own: read-only, few connections, a statement timeout) and looks at Redis.

    `queue` None: Redis is not looked at. `max_replicas`: of workers, where an autoscaler keeps to one; None: not known.
    Every method raises `Unavailable` when Postgres cannot be used. Safe to share between tasks of one loop.
    """

    def __init__(
        self,
        database: Database,
        queue: Queue | None = None,
        *,
        acceptance: Acceptance | None = None,
        max_replicas: int | None = None,
        trying: float = TRYING,
    ) -> None:
        """`acceptance`: whether a job would be accepted; None: nobody looks. `trying`: seconds that rows are tried for where
        a filter has no index."""
        self._acceptance = acceptance
        self._database, self._queue, self._max_replicas = database, queue, max_replicas
        self._trying = trying
        self._memory = Memory()
        self._dead = DeadLetters(seconds=max(COUNTING, trying))

    async def snapshot(self) -> Snapshot:
        """The state of everything now."""
        redis, postgres = await asyncio.gather(redis_trouble(self._queue), self._refuses())
        live = await self._live()
        slower = await self._memory.get("slow", overview.SLOW, lambda: self._slow(live))
        async with self._connection() as connection:
            return await overview.snapshot(
                connection, live, slower, redis=redis, postgres=postgres, max_replicas=self._max_replicas
            )

    async def series(self, range: Range = "1h", kind: str | None = None) -> Series:  # noqa: A002  the word on the page
        """The charts' points and markers. With `kind`, rates and percentiles are that kind's; gauges are always of all.

        Raises `InvalidOption`.
        """
        if kind is not None and not kind.isprintable():
            raise InvalidOption("kind", "must be printable characters")

        async def ask() -> Series:
            async with self._connection() as connection:
                return await series(connection, range, kind)

        return await self._memory.get(("series", range, kind), axis_of(range).kept, ask)

    async def jobs(self, filter: JobFilter, *, cursor: str | None = None, limit: int = 50) -> JobsPage:  # noqa: A002
        """A page of jobs, newest first: live ones by creation, ended ones by their end. `limit` from 1 to 500.

        Raises `InvalidOption` for a cursor that is not one.
        """
        live = await self._live() if filter.touches("live") else {}
        async with self._connection() as connection:
            return await pages.page(connection, filter, live, cursor=cursor, limit=limit, seconds=self._trying)

    async def counts(self, filter: JobFilter) -> Mapping[State, Count]:  # noqa: A002
        """How many jobs of each state match, whatever states the filter names (for tabs)."""
        return await self._counts(filter, frozenset(State))

    async def matching(self, filter: JobFilter) -> Count:  # noqa: A002
        """How many jobs match."""
        return total(await self._counts(filter, filter.states or frozenset(State)))

    async def job(self, job_id: UUID) -> JobView | None:
        """All about one job; None: there is none with this id."""
        async with self._connection() as connection:
            return await jobview.job_view(connection, self._queue, job_id, max_replicas=self._max_replicas)

    async def versions(self, ids: Sequence[UUID]) -> Mapping[UUID, str]:
        """The `JobView.version` of each of these jobs that exists, in one statement (at most 1,000 ids)."""
        if len(ids) > WATCHED:
            raise InvalidOption("ids", f"at most {WATCHED:,} jobs can be watched (got {len(ids):,})")
        async with self._connection() as connection:
            return await jobview.versions(connection, ids)

    async def dead_groups(self) -> DeadGroups:
        """Unresolved dead jobs by kind and fingerprint, at most 5 s old."""

        async def ask() -> DeadGroups:
            async with self._connection() as connection:
                return await self._dead.groups(connection)

        return await self._memory.get("dead groups", GROUPS, ask, renew=GROUPS_RENEWED)

    async def dead_group(self, kind: str, fingerprint: str) -> DeadGroup | None:
        """One of these groups as it is now; None: it is empty."""
        async with self._connection() as connection:
            return await self._dead.group(connection, kind, fingerprint)

    async def workers(self) -> Workers:
        """Workers, and pods that should be workers."""
        async with self._connection() as connection:
            return await workforce.workers(connection)

    async def kinds(self) -> tuple[str, ...]:
        """The kinds that are known from workers, statistics and jobs, in order of the alphabet."""

        async def ask() -> tuple[str, ...]:
            async with self._connection() as connection:
                rows = await connection.fetch(KINDS.positional, *KINDS.arguments(limit=NEWEST))
            return tuple(row["kind"] for row in rows if row["kind"] is not None)

        return await self._memory.get("kinds", KINDS_KEPT, ask)

    async def audit(self, *, target: str | None = None, cursor: str | None = None, limit: int = 50) -> AuditPage:
        """Actions, newest first; with `target` those on it alone. Raises `InvalidOption` for a cursor that is not one."""
        async with self._connection() as connection:
            return await audits.audit_page(connection, target=target, cursor=cursor, limit=limit)

    async def bulk_actions(self, *, limit: int = 50) -> tuple[BulkActionRecord, ...]:
        """Bulk actions, those under way first, then the newest."""
        if not 1 <= limit <= 500:
            raise InvalidOption("limit", f"must be from 1 to 500 (got {limit})")
        async with self._connection() as connection:
            rows = await connection.fetch(BULK_ACTIONS.positional, *BULK_ACTIONS.arguments(limit=limit))
        return tuple(bulk_record(row) for row in rows)

    async def _counts(self, filter: JobFilter, states: frozenset[State]) -> Counts:  # noqa: A002
        filter = replace(filter, states=frozenset())  # noqa: A001

        async def ask() -> Counts:
            live = await self._live()
            async with self._connection() as connection:
                return await count(connection, filter, states, live, seconds=self._trying / 3)

        return await self._memory.get(("counts", filter, states), COUNTED, ask)

    async def _refuses(self) -> str | None:
        return None if self._acceptance is None else await self._acceptance.trouble()

    async def _live(self) -> Counts:
        async def ask() -> Counts:
            async with self._connection() as connection:
                return await count_live(connection)

        return await self._memory.get("live", LIVE, ask)

    async def _slow(self, live: Counts) -> overview.Slow:
        async with self._connection() as connection:
            return await overview.slow(connection, live)

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Connection]:
        try:
            async with self._database.connection() as connection:
                yield connection
        except PASSING as error:
            raise Busy(error) from error
        except DISCONNECTED as error:
            if isinstance(error, ValueError):
                raise  # asyncpg's word for a value that it cannot encode
            raise Unavailable(error) from error
