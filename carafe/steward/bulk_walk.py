"""How a bulk action goes through its jobs: batch after batch, each job once, from a cursor that the action's row keeps.

Dead jobs are walked in the order of their end, live ones in that of their creation, a selection in its own. Guarantees: a
batch looks at a bounded number of rows, whatever the filter; it locks what it returns and waits for no one; a job that
somebody else holds stays in the cursor (`left`) and is looked at again by the next batch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson

from carafe.jobs.bulk import BulkActionRecord, Source, source
from carafe.jobs.filters import JobFilter
from carafe.jobs.moves import Connection
from carafe.jobs.records import as_uuid

# ruff: noqa: S608  the text is ours alone; every value is bound


@dataclass(frozen=True, slots=True)
class Target:
    """A job that is locked for the batch. `held`: its unique key is another live job's, or that of one before it."""

    id: UUID
    kind: str
    held: bool


@dataclass(slots=True)
class Found:
    """The jobs of a batch. `missing`: how many of those asked for by id do not meet the filter (any more)."""

    locked: list[Target] = field(default_factory=list)
    missing: int = 0


class Walk:
    """The walk of one action. After `next`, `cursor` is what to keep; `through`: it has come to the end, and what others
    held is all that can be left; `finished`: there is nothing left."""

    def __init__(self, bulk: BulkActionRecord, kept: str | None) -> None:
        found: dict[str, Any] = orjson.loads(kept) if kept else {}
        self._bulk = bulk
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
        """Whether there is nothing left to do."""
        return self.through and not self._left

    @property
    def cursor(self) -> str:
        """As JSON."""
        kept: dict[str, Any] = {"left": self._left, "index": self._index, "through": self.through}
        if self._after is not None:
            kept |= {"at": self._after[0], "id": self._after[1]}
        return orjson.dumps(kept).decode()

    async def next(self, connection: Connection, limit: int, look: int) -> Found:
        """Lock the next jobs, at most `limit`, found among at most `look` rows."""
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
        return source(self._bulk.action, replace(self._filter, ids=()), self._bulk.cutoff)

    async def _standing(self, connection: Connection, ids: Sequence[UUID]) -> list[UUID]:
        """Those of `ids` that meet the filter, whoever holds them."""
        jobs = self._source()
        query = f"select j.id from {jobs.table} j where {jobs.where} and j.id = any({jobs.bind(list(ids))}::uuid[])"
        return [as_uuid(row["id"]) for row in await connection.fetch(query, *jobs.values)]

    async def _onwards(self, connection: Connection, limit: int, look: int) -> list[UUID]:
        """The next that meet the filter, from the cursor on."""
        dead = self._source().dead
        key = "j.ended_at, j.id" if dead else "j.id"
        # How far this batch may look: the walk goes on from there, even if nothing on the way meets the filter. Only by what
        # an index serves, so that finding the bound is bounded too.
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
        jobs = source(self._bulk.action, wanted, self._bulk.cutoff)
        if self._after is not None:
            at, job_id = self._after
            if jobs.dead:
                place = f"({jobs.bind(at)}::timestamptz, {jobs.bind(job_id)}::uuid)"
                jobs.conditions.append(f"(j.ended_at, j.id) > {place}")
            else:
                jobs.conditions.append(f"j.id > {jobs.bind(job_id)}::uuid")
        return jobs

    async def _lock(self, connection: Connection, ids: Sequence[UUID]) -> list[Target]:
        """Lock those that nobody else holds and that meet the filter still."""
        if not ids:
            return []
        jobs = self._source()
        held = "false"
        if self._bulk.action == "retry":
            held = """(j.unique_key is not null and exists (
                select from carafe.jobs l where l.unique_key = j.unique_key))"""
        query = f"""select j.id, j.kind, j.unique_key, {held} as held from {jobs.table} j
            where {jobs.where} and j.id = any({jobs.bind(list(ids))}::uuid[]) order by j.id for update of j skip locked"""
        targets = []
        keys: set[str] = set()
        for row in await connection.fetch(query, *jobs.values):
            key = row["unique_key"] if self._bulk.action == "retry" else None
            targets.append(Target(as_uuid(row["id"]), row["kind"], row["held"] or key in keys))
            if key is not None:
                keys.add(key)
        return targets


def _key(row: Mapping[str, Any], dead: bool) -> tuple[datetime | None, UUID]:
    return (row["ended_at"] if dead else None, as_uuid(row["id"]))
