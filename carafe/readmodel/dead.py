"""The groups of dead letters: unresolved dead jobs by kind and error fingerprint.

Which groups there are costs one step in the index for each, however many jobs they have; and is found out anew every
`LOOKED` seconds, in between the newest deaths tell of new ones. Small groups are counted each time; large ones slice by
slice, as many rows each time as the budget says, the one counted longest ago first. What could not be counted this time
keeps its number and is marked as estimated.
"""

import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from carafe.jobs.moves import Connection
from carafe.jobs.records import Count, as_uuid
from carafe.readmodel.pages import first_line
from carafe.readmodel.records import DeadGroup, DeadGroups
from carafe.readmodel.statements import (
    DEAD_ERRORS,
    DEAD_FIRST,
    DEAD_GROUP_KEYS,
    DEAD_GROUPS,
    DEAD_NEW_KEYS,
    DEAD_SLICE,
    NOW,
)

GROUPS = 1_000
"""Groups that are told apart; of more, those first in the alphabet."""

TOGETHER, SMALL = 50, 1_000
"""Groups of one statement, and up to how many jobs of each it counts."""

SLICE = 50_000
"""Jobs of a large group in one statement."""

BUDGET = 100_000
"""Jobs of large groups that are counted at a time."""

LOOKED = 30.0
"""Seconds between two walks through all groups; in between, new ones are those of the newest `NEW` deaths."""

NEW = 5_000

LATE = timedelta(seconds=15)
"""How long after its time the row of a death may be committed, to be among the new ones."""

Key = tuple[str, str]

_BEFORE_ALL = (datetime(1970, 1, 1, tzinfo=UTC), UUID(int=0))


@dataclass(slots=True)
class _Large:
    """A large group as it was counted last, in which round, and how far a count that is under way has come."""

    number: int = 0
    round: int = -1
    counted: int = 0
    reached: tuple[datetime, UUID] = _BEFORE_ALL


class DeadLetters:
    """Counts groups, and remembers the large ones from one time to the next."""

    def __init__(self, *, budget: int = BUDGET) -> None:
        """`budget`: jobs of large groups counted at a time."""
        self._budget = budget
        self._large: dict[Key, _Large] = {}
        self._round = 0
        self._keys: set[Key] = set()
        self._looked = -LOOKED
        self._at = _BEFORE_ALL[0]
        self._errors: dict[UUID, tuple[str | None, str]] = {}

    async def groups(self, connection: Connection) -> DeadGroups:
        """The groups as they are now. Raises what the database raises."""
        self._round += 1
        at: datetime = await connection.fetchval(NOW.positional)
        await self._look(connection)
        rows: list[Any] = []
        keys = sorted(self._keys)
        for begin in range(0, len(keys), TOGETHER):
            kinds, fingerprints = zip(*keys[begin : begin + TOGETHER], strict=True)
            arguments = DEAD_GROUPS.arguments(kinds=list(kinds), fingerprints=list(fingerprints), limit=SMALL + 1)
            rows += await connection.fetch(DEAD_GROUPS.positional, *arguments)
        self._keys = {(row["kind"], row["fingerprint"]) for row in rows}
        self._at = at
        large = [(row["kind"], row["fingerprint"]) for row in rows if row["number"] > SMALL]
        self._large = {key: self._large.get(key) or _Large() for key in large}
        first = await _first(connection, large)
        await self._count(connection)
        await self._name(connection, rows)
        groups = [
            DeadGroup(
                kind=row["kind"],
                fingerprint=row["fingerprint"],
                error_class=self._errors.get(as_uuid(row["id"]), (None, ""))[0],
                error=self._errors.get(as_uuid(row["id"]), (None, ""))[1],
                count=self._number((row["kind"], row["fingerprint"]), row["number"]),
                first_at=first.get((row["kind"], row["fingerprint"]), row["first_at"]),
                last_at=row["last_at"],
                example=as_uuid(row["id"]),
            )
            for row in rows
        ]
        groups.sort(key=lambda group: (-group.count.number, group.kind, group.fingerprint))
        total = Count(sum(group.count.number for group in groups), any(group.count.estimated for group in groups))
        return DeadGroups(at, tuple(groups), total)

    async def group(self, connection: Connection, kind: str, fingerprint: str) -> DeadGroup | None:
        """One group as it is now; None: it is empty. Of a large one the number is what `groups` counted last.

        Raises what the database raises.
        """
        arguments = DEAD_GROUPS.arguments(kinds=[kind], fingerprints=[fingerprint], limit=SLICE)
        row = await connection.fetchrow(DEAD_GROUPS.positional, *arguments)
        if row is None:
            return None
        number, first_at = Count(row["number"]), row["first_at"]
        if row["number"] == SLICE:
            known = self._large.get((kind, fingerprint), _Large())
            number = Count(max(SLICE, known.number), estimated=True)
            first_at = (await _first(connection, [(kind, fingerprint)]))[kind, fingerprint]
        arguments = DEAD_ERRORS.arguments(ids=[row["id"]], ends=[row["last_at"]])
        error = await connection.fetchrow(DEAD_ERRORS.positional, *arguments)
        return DeadGroup(
            kind=kind,
            fingerprint=fingerprint,
            error_class=None if error is None else error["error_class"],
            error="" if error is None else first_line(error["error"]) or "",
            count=number,
            first_at=first_at,
            last_at=row["last_at"],
            example=as_uuid(row["id"]),
        )

    async def _look(self, connection: Connection) -> None:
        """Which groups there are."""
        now = time.monotonic()
        if now - self._looked < LOOKED:
            arguments = DEAD_NEW_KEYS.arguments(since=self._at - LATE, limit=NEW)
            rows = await connection.fetch(DEAD_NEW_KEYS.positional, *arguments)
            if sum(row["number"] for row in rows) < NEW:
                self._keys |= {(row["kind"], row["fingerprint"]) for row in rows}
                return
        rows = await connection.fetch(DEAD_GROUP_KEYS.positional, *DEAD_GROUP_KEYS.arguments(limit=GROUPS))
        self._keys = {(row["kind"], row["fingerprint"]) for row in rows}
        self._looked = now

    async def _name(self, connection: Connection, rows: list[Any]) -> None:
        """What the newest jobs of the groups died of, of those that were not the newest before."""
        newest = {as_uuid(row["id"]): row["last_at"] for row in rows}
        self._errors = {job_id: error for job_id, error in self._errors.items() if job_id in newest}
        unknown = [job_id for job_id in newest if job_id not in self._errors]
        if unknown:
            arguments = DEAD_ERRORS.arguments(ids=unknown, ends=[newest[job_id] for job_id in unknown])
            for row in await connection.fetch(DEAD_ERRORS.positional, *arguments):
                self._errors[as_uuid(row["id"])] = (row["error_class"], first_line(row["error"]) or "")

    async def _count(self, connection: Connection) -> None:
        left = self._budget
        for key, group in sorted(self._large.items(), key=lambda item: item[1].round):
            while left > 0:
                (kind, fingerprint), (at, job_id) = key, group.reached
                arguments = DEAD_SLICE.arguments(kind=kind, fingerprint=fingerprint, at=at, id=job_id, limit=SLICE)
                row = await connection.fetchrow(DEAD_SLICE.positional, *arguments)
                left -= max(row["number"], 1)
                group.counted += row["number"]
                if row["number"] == SLICE:
                    group.reached = (row["at"], as_uuid(row["id"]))
                    continue
                group.number, group.round = group.counted, self._round
                group.counted, group.reached = 0, _BEFORE_ALL
                break

    def _number(self, key: Key, counted: int) -> Count:
        group = self._large.get(key)
        if group is None:
            return Count(counted)
        if group.round == self._round:
            # Fewer than before the count began: jobs were taken out meanwhile.
            return Count(group.number)
        return Count(max(counted, group.number, group.counted), True)


async def _first(connection: Connection, keys: list[Key]) -> dict[Key, datetime]:
    if not keys:
        return {}
    kinds, fingerprints = zip(*keys, strict=True)
    arguments = DEAD_FIRST.arguments(kinds=list(kinds), fingerprints=list(fingerprints))
    rows = await connection.fetch(DEAD_FIRST.positional, *arguments)
    return {(row["kind"], row["fingerprint"]): row["first_at"] for row in rows}
