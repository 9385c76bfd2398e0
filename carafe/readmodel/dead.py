"""The groups of dead letters: unresolved dead jobs by kind and error fingerprint.

Which groups there are costs one step in the index for each, however many jobs they have; and is found out anew every
`LOOKED` seconds, in between the newest deaths tell of new ones. Small groups are counted each time; large ones slice by
slice, as many rows each time as the budget says; of both the one counted longest ago first, and for so many seconds. What
could not be counted this time keeps its number and is marked as estimated.
"""

import time
from collections.abc import Sequence
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

FEWEST = 20
"""Up to how many jobs a group is counted once the time is over."""

SLICE = 20_000
"""Jobs of a large group in one statement."""

COUNTING = 0.04
"""Seconds after which no further small group is counted whole, and no further slice of a large one but the first."""

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

    def __init__(self, *, budget: int = BUDGET, seconds: float = COUNTING) -> None:
        """`budget`: jobs of large groups counted at a time; `seconds`: see `COUNTING`."""
        self._budget, self._seconds = budget, seconds
        self._small: dict[Key, tuple[int, int]] = {}  # the round in which each was counted whole, and its number then
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
        deadline = time.monotonic() + self._seconds
        rows, hurried = await self._count_small(connection, deadline)
        self._keys = {_key(row) for row in rows}
        self._at = at
        self._large = {key: group for key, group in self._large.items() if key in self._keys and key not in self._small}
        first = await _first(connection, [*self._large, *hurried])
        await self._count(connection, deadline)
        await self._name(connection, rows)
        groups = [
            DeadGroup(
                kind=row["kind"],
                fingerprint=row["fingerprint"],
                error_class=self._errors.get(as_uuid(row["id"]), (None, ""))[0],
                error=self._errors.get(as_uuid(row["id"]), (None, ""))[1],
                count=self._number(_key(row), row["number"], hurried=_key(row) in hurried),
                first_at=first.get(_key(row), row["first_at"]),
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

    async def _count_small(self, connection: Connection, deadline: float) -> tuple[list[Any], set[Key]]:
        """All groups, each small one counted whole; those whose turn comes after the deadline, whose keys are given too, and
        the large ones no further than `FEWEST`."""
        large = list(self._large)
        left = sorted(self._keys - set(large), key=lambda key: (self._small.get(key, (-1, 0))[0], key))
        rows: list[Any] = []
        while left and (not rows or time.monotonic() < deadline):
            for row in await _groups(connection, left[:TOGETHER], SMALL + 1):
                rows.append(row)
                self._sort(_key(row), row["number"], SMALL)
            left = left[TOGETHER:]
        hurried: set[Key] = set()
        if rest := [*left, *large]:
            for row in await _groups(connection, rest, FEWEST + 1):
                rows.append(row)
                if row["number"] <= FEWEST:
                    self._sort(_key(row), row["number"], FEWEST)
                elif _key(row) not in self._large:
                    hurried.add(_key(row))
        there = {_key(row) for row in rows}
        self._small = {key: known for key, known in self._small.items() if key in there}
        return rows, hurried

    def _sort(self, key: Key, number: int, whole: int) -> None:
        """A group was counted up to one more than `whole`."""
        if number <= whole:
            self._small[key] = (self._round, number)
        else:
            self._small.pop(key, None)
            self._large[key] = _Large(number)

    async def _count(self, connection: Connection, deadline: float) -> None:
        left = self._budget
        for key, group in sorted(self._large.items(), key=lambda item: item[1].round):
            while left > 0 and (left == self._budget or time.monotonic() < deadline):
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
                if group.number <= SMALL:
                    self._sort(key, group.number, SMALL)
                break

    def _number(self, key: Key, counted: int, *, hurried: bool) -> Count:
        group = self._large.get(key)
        if group is None or key in self._small:
            return Count(max(counted, self._small.get(key, (0, 0))[1]), True) if hurried else Count(counted)
        if group.round == self._round:
            # Fewer than before the count began: jobs were taken out meanwhile.
            return Count(group.number)
        return Count(max(counted, group.number, group.counted), True)


def _key(row: Any) -> Key:
    return row["kind"], row["fingerprint"]


async def _groups(connection: Connection, keys: Sequence[Key], limit: int) -> list[Any]:
    kinds, fingerprints = zip(*keys, strict=True)
    arguments = DEAD_GROUPS.arguments(kinds=list(kinds), fingerprints=list(fingerprints), limit=limit)
    return list(await connection.fetch(DEAD_GROUPS.positional, *arguments))


async def _first(connection: Connection, keys: list[Key]) -> dict[Key, datetime]:
    if not keys:
        return {}
    kinds, fingerprints = zip(*keys, strict=True)
    arguments = DEAD_FIRST.arguments(kinds=list(kinds), fingerprints=list(fingerprints))
    rows = await connection.fetch(DEAD_FIRST.positional, *arguments)
    return {(row["kind"], row["fingerprint"]): row["first_at"] for row in rows}
