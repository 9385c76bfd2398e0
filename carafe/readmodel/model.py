"""The read model: one object with a method for every question that a page, the API or the command line asks about the
system.

Each answer is a frozen record (see carafe.readmodel.records), made by a handful of bounded statements on one connection.
Answers that all viewers share (the counts, the groups of dead letters, the kinds) are remembered for a moment, so that many
viewers cost no more than one.
Must never: write anything, or remember an answer for longer than stated here.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from uuid import UUID

from carafe.errors import Busy, Unavailable
from carafe.jobs.errors import InvalidOption
from carafe.jobs.records import Count, KindRecord, Page
from carafe.jobs.states import State
from carafe.queue.queue import Queue
from carafe.readmodel import audits, jobview, overview, workforce
from carafe.readmodel.dead import COUNTING, DeadLetters
from carafe.readmodel.kinds import KindFigures, KindView, all_figures, kind_view
from carafe.readmodel.memory import Memory
from carafe.readmodel.records import AuditPage, DeadGroup, DeadGroups, JobView, Range, Series, Snapshot, Workers
from carafe.readmodel.series import axis_of, series
from carafe.readmodel.statements import BULK_ACTIONS, KINDS
from carafe.store import pages
from carafe.store.acceptance import Acceptance
from carafe.store.bulk import BulkActionRecord, bulk_record
from carafe.store.counting import Counts, count, count_live, total
from carafe.store.database import DISCONNECTED, PASSING, Connection, Database
from carafe.store.filters import JobFilter
from carafe.store.keyset import weighs
from carafe.store.paused_kinds import pause_of
from carafe.store.status import redis_trouble

TRYING = 0.03
"""Seconds that a page of jobs may spend on checking rows one by one, if no index serves its filter. A count may spend a
third of that."""

LIVE, COUNTED, GROUPS, KINDS_KEPT = 0.5, 2.0, 5.0, 10.0
"""Seconds that answers are remembered: `LIVE` for counts of live jobs, `COUNTED` for counts by filter, `GROUPS` for the
groups of dead letters, `KINDS_KEPT` for the kinds."""

GROUPS_RENEWED = 2.5
"""When the groups of dead letters are older than this many seconds, a call has them counted again for the next caller."""

NEWEST = 10_000
"""How many of the newest live jobs are searched for kinds; these kinds count as known."""

WATCHED = 1_000
"""The maximum number of jobs whose versions one statement reads."""


class ReadModel:
    """Answers questions about the system from Postgres and Redis. Give it a `Database` of its own if you can: read-only,
    with few connections and a statement timeout.

    If `queue` is None, Redis is not asked. `max_replicas` is the autoscaler's maximum number of workers, or None if that is
    unknown. Every method raises `Unavailable` when Postgres cannot be used. Safe to share between tasks of one loop.
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
        """`acceptance` finds out whether a job would be accepted now; if it is None, that is not checked. `trying` is used
        instead of `TRYING`."""
        self._acceptance = acceptance
        self._database, self._queue, self._max_replicas = database, queue, max_replicas
        self._trying = trying
        self._memory = Memory()
        self._dead = DeadLetters(seconds=max(COUNTING, trying))

    async def snapshot(self) -> Snapshot:
        """Returns the state of the whole system now."""
        redis, postgres = await asyncio.gather(redis_trouble(self._queue), self._refuses())
        live = await self._live()
        slower = await self._memory.get("slow", overview.SLOW, lambda: self._slow(live))
        async with self._connection() as connection:
            return await overview.snapshot(
                connection, live, slower, redis=redis, postgres=postgres, max_replicas=self._max_replicas
            )

    async def series(self, range: Range = "1h", kind: str | None = None) -> Series:  # noqa: A002  the word on the page
        """Returns the charts' points and markers. With `kind`, rates and percentiles are that kind's, and pauses and
        bulk actions of other kinds have no marker; gauges are always of all kinds.

        Raises `InvalidOption` for a range or a kind that is not valid.
        """
        if kind is not None and not kind.isprintable():
            raise InvalidOption("kind", "must be printable characters")

        async def ask() -> Series:
            async with self._connection() as connection:
                return await series(connection, range, kind)

        return await self._memory.get(("series", range, kind), axis_of(range).kept, ask)

    async def jobs(self, filter: JobFilter, *, cursor: str | None = None, limit: int = 50) -> Page:  # noqa: A002
        """Returns a page of jobs, newest first: live jobs by their creation, ended jobs by their end. `limit` is from 1 to
        500. The jobs come without results and without long arguments, and with only the first line of an error.

        Raises `InvalidOption` for a cursor that is not valid.
        """
        live = await self._live() if weighs(filter) else {}
        async with self._connection() as connection:
            return await pages.page(connection, filter, live, cursor=cursor, limit=limit, seconds=self._trying, longest=0)

    async def counts(self, filter: JobFilter) -> Mapping[State, Count]:  # noqa: A002
        """Returns how many jobs of each state match the filter, for the tabs of a list. The filter's own condition on states
        is ignored."""
        return await self._counts(filter, frozenset(State))

    async def matching(self, filter: JobFilter) -> Count:  # noqa: A002
        """Returns how many jobs match the filter."""
        return total(await self._counts(filter, filter.states or frozenset(State)))

    async def job(self, job_id: UUID) -> JobView | None:
        """Returns everything that is known about one job; None when there is no job with this id."""
        async with self._connection() as connection:
            return await jobview.job_view(connection, self._queue, job_id, max_replicas=self._max_replicas)

    async def versions(self, ids: Sequence[UUID]) -> Mapping[UUID, str]:
        """Returns the `JobView.version` of each of these jobs that exists. Each statement reads at most `WATCHED` jobs."""
        found: dict[UUID, str] = {}
        async with self._connection() as connection:
            for begin in range(0, len(ids), WATCHED):
                found |= await jobview.versions(connection, ids[begin : begin + WATCHED])
        return found

    async def dead_groups(self) -> DeadGroups:
        """Returns the unresolved dead jobs in groups by kind and fingerprint. The answer is at most 5 s old."""

        async def ask() -> DeadGroups:
            async with self._connection() as connection:
                return await self._dead.groups(connection)

        return await self._memory.get("dead groups", GROUPS, ask, renew=GROUPS_RENEWED)

    async def dead_group(self, kind: str, fingerprint: str) -> DeadGroup | None:
        """Returns one group of unresolved dead jobs as it is now; None if the group has no jobs."""
        async with self._connection() as connection:
            return await self._dead.group(connection, kind, fingerprint)

    async def workers(self) -> Workers:
        """Returns the workers, live and gone, and the pods that should have a worker and have none yet."""
        async with self._connection() as connection:
            return await workforce.workers(connection)

    async def kinds(self) -> tuple[str, ...]:
        """Returns the kinds that are known from workers, statistics and live jobs, in alphabetical order."""

        async def ask() -> tuple[str, ...]:
            async with self._connection() as connection:
                rows = await KINDS.fetch(connection, limit=NEWEST)
            return tuple(row["kind"] for row in rows if row["kind"] is not None)

        return await self._memory.get("kinds", KINDS_KEPT, ask)

    async def kind_figures(self, declared: Iterable[str] = ()) -> tuple[KindFigures, ...]:
        """Returns the figures of all kinds: those that are known, as in `kinds`, and those in `declared`."""
        known = {*await self.kinds(), *declared}

        async def ask() -> tuple[KindFigures, ...]:
            async with self._connection() as connection:
                return await all_figures(connection, sorted(known))

        return await self._memory.get(("kind figures", frozenset(known)), COUNTED, ask)

    async def kind(self, kind: str) -> KindView:
        """Returns one kind as it is now, whether anybody knows it or not."""
        async with self._connection() as connection:
            return await kind_view(connection, kind)

    async def pause_of(self, kind: str) -> KindRecord | None:
        """Returns the pause of a kind; None if the kind is not paused."""
        async with self._connection() as connection:
            return await pause_of(connection, kind)

    async def audit(self, *, target: str | None = None, cursor: str | None = None, limit: int = 50) -> AuditPage:
        """Returns a page of the audit, newest first. With `target`, it has only actions on that job, worker or queue. Raises
        `InvalidOption` for a limit, target or cursor that is not valid."""
        async with self._connection() as connection:
            return await audits.audit_page(connection, target=target, cursor=cursor, limit=limit)

    async def bulk_actions(self, *, limit: int = 50) -> tuple[BulkActionRecord, ...]:
        """Returns bulk actions: those under way first, then the newest. Raises `InvalidOption` for a limit that is not from
        1 to 500."""
        if not 1 <= limit <= 500:
            raise InvalidOption("limit", f"must be from 1 to 500 (got {limit})")
        async with self._connection() as connection:
            rows = await BULK_ACTIONS.fetch(connection, limit=limit)
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
                raise  # asyncpg raises this for a value that it cannot encode
            raise Unavailable(error) from error
