"""How a bulk action goes through its jobs: batch after batch, each job once. The action's row keeps a cursor between
batches.

Dead jobs come in the order in which they ended, live jobs in the order of their creation, jobs that a user selected in the
order of the selection.
Guarantees: a batch searches a bounded number of rows, whatever the filter; it locks the jobs that it returns, and waits for
no lock; a job that somebody else has locked stays in the cursor (`left`) for the next batch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson

from carafe.jobs.records import as_uuid
from carafe.store.bulk import BulkActionRecord, Source, action_named, source
from carafe.store.database import Connection
from carafe.store.filters import ANY_ID, JobFilter

# ruff: noqa: S608  the text is ours alone; every value is bound


@dataclass(frozen=True, slots=True)
class Target:
    """A job that is locked for the batch. `held` says that the job cannot become live, since another live job, or an earlier
    job of the batch, has the same unique key."""

    id: UUID
    kind: str
    held: bool


@dataclass(slots=True)
class Found:
    """The jobs of a batch. `locked` has those that were locked. `missing` is the number of jobs that were looked up by id
    and did not meet the filter, or no longer met it."""

    locked: list[Target] = field(default_factory=list)
    missing: int = 0


class Walk:
    """The progress of one bulk action through its jobs. After each call of `next`, the caller must store `cursor`. `through`
    says that all jobs have been visited: only those that others had locked may still have to be changed."""

    def __init__(self, bulk: BulkActionRecord, kept: str | None) -> None:
        found: dict[str, Any] = orjson.loads(kept) if kept else {}
        self._bulk = bulk
        self._action = action_named(bulk.action)
        self._filter = JobFilter.from_json(bulk.filter)
        self._after: tuple[datetime | None, UUID] | None = None
        if "id" in found:
            at = found.get("at")
            self._after = (None if at is None else datetime.fromisoformat(at), UUID(found["id"]))
        self._index: int = found.get("index", 0)
        self._left = [UUID(job_id) for job_id in found.get("left", ())]
        self.through = bool(found.get("through", False))

    @property
    def finished(self) -> bool:
        """Whether no job is left to act on."""
        return self.through and not self._left

    @property
    def cursor(self) -> str:
        """How far the action has come, as JSON: the next batch starts from here."""
        kept: dict[str, Any] = {"left": self._left, "index": self._index, "through": self.through}
        if self._after is not None:
            kept |= {"at": self._after[0], "id": self._after[1]}
        return orjson.dumps(kept).decode()

    async def next(self, connection: Connection, limit: int, look: int) -> Found:
        """Find and lock the next jobs, and return them. Returns at most `limit` jobs, and searches at most `look` rows for
        them."""
        found = Found()
        asked = self._left[:limit]
        rest = self._left[limit:]
        if self._filter.ids and not self.through:
            chosen = self._filter.ids[self._index : self._index + limit - len(asked)]
            asked = [*asked, *chosen]
            self._index += len(chosen)
            self.through = self._index >= len(self._filter.ids)
        standing = await self._standing(connection, asked) if asked else []
        found.missing = len(asked) - len(standing)
        if not self.through and len(asked) < limit:
            standing += await self._onwards(connection, limit - len(asked), look)
        locked = await self._lock(connection, standing)
        found.locked = locked
        taken = {target.id for target in locked}
        self._left = [*rest, *(job_id for job_id in standing if job_id not in taken)]
        return found

    def _source(self) -> Source:
        return source(self._action, replace(self._filter, ids=ANY_ID), self._bulk.cutoff)

    async def _standing(self, connection: Connection, ids: Sequence[UUID]) -> list[UUID]:
        """Returns those of `ids` that meet the filter, whether somebody has locked them or not."""
        jobs = self._source()
        query = f"select j.id from {jobs.table} j where {jobs.where} and j.id = any({jobs.bind(list(ids))}::uuid[])"
        return [as_uuid(row["id"]) for row in await connection.fetch(query, *jobs.values)]

    async def _onwards(self, connection: Connection, limit: int, look: int) -> list[UUID]:
        """Returns the next jobs after the cursor that meet the filter, at most `limit` of them, and moves the cursor.
        Searches at most `look` rows."""
        dead = self._source().dead
        key = "j.ended_at, j.id" if dead else "j.id"
        # How far this batch may search: the next batch starts there, even if no job on the way meets the filter. Only
        # conditions that an index serves are used, so that finding this bound is bounded too.
        bound = self._beyond(JobFilter(kind=self._filter.kind if dead else None))
        query = f"select {key} from {bound.table} j where {bound.where} order by {key} offset {look - 1} limit 1"
        end = await connection.fetchrow(query, *bound.values)
        jobs = self._beyond(self._filter)
        if end is not None:
            last = _key(end, jobs.dead)
            if jobs.dead:
                jobs.conditions.append(f"({key}) <= ({jobs.bind(last[0])}::timestamptz, {jobs.bind(last[1])}::uuid)")
            else:
                jobs.conditions.append(f"{key} <= {jobs.bind(last[1])}::uuid")
        query = f"select {key} from {jobs.table} j where {jobs.where} order by {key} limit {limit}"
        rows = await connection.fetch(query, *jobs.values)
        if len(rows) == limit:
            self._after = _key(rows[-1], jobs.dead)
        elif end is not None:
            self._after = _key(end, jobs.dead)
        else:
            self.through = True
        return [as_uuid(row["id"]) for row in rows]

    def _beyond(self, wanted: JobFilter) -> Source:
        jobs = source(self._action, wanted, self._bulk.cutoff)
        if self._after is not None:
            at, job_id = self._after
            if jobs.dead:
                place = f"({jobs.bind(at)}::timestamptz, {jobs.bind(job_id)}::uuid)"
                jobs.conditions.append(f"(j.ended_at, j.id) > {place}")
            else:
                jobs.conditions.append(f"j.id > {jobs.bind(job_id)}::uuid")
        return jobs

    async def _lock(self, connection: Connection, ids: Sequence[UUID]) -> list[Target]:
        """Lock and return those jobs that still meet the filter and that nobody else has locked."""
        if not ids:
            return []
        jobs = self._source()
        held = "false"
        if self._action.revives:
            held = """(j.unique_key is not null and exists (
                select from carafe.jobs l where l.unique_key = j.unique_key))"""
        query = f"""select j.id, j.kind, j.unique_key, {held} as held from {jobs.table} j
            where {jobs.where} and j.id = any({jobs.bind(list(ids))}::uuid[]) order by j.id for update of j skip locked"""
        targets = []
        keys: set[str] = set()
        for row in await connection.fetch(query, *jobs.values):
            key = row["unique_key"] if self._action.revives else None
            targets.append(Target(as_uuid(row["id"]), row["kind"], row["held"] or key in keys))
            if key is not None:
                keys.add(key)
        return targets


def _key(row: Mapping[str, Any], dead: bool) -> tuple[datetime | None, UUID]:
    return (row["ended_at"] if dead else None, as_uuid(row["id"]))
