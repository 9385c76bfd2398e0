"""The groups of dead letters: unresolved dead jobs by kind and error fingerprint.

They are counted in the order of the index, slice by slice, from the first group to the last and then anew. A look counts all
of them, however many groups there are, when that takes no longer than `COUNTING`. Of more it counts a part, the next look
goes on from there, and what was not counted this time keeps its number, marked as estimated; of deaths since the last look
the newest are asked for each time, so that new groups and newest errors show at once.
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

SLICE = 20_000
"""Jobs that one statement counts."""

COUNTING = 0.04
"""Seconds after which no further slice is counted."""

PATIENCE = 0.2
"""The same when a number is older than `STALE`, or none is known yet."""

STALE = 120.0
"""Seconds after which a number that was not counted again is too old to be shown for long: all may have changed while nobody
looked."""

FEWEST = 20
"""Up to how many jobs a group is counted at first that appeared out of turn."""

NEW = 5_000
"""Deaths since the last look that are asked for. Of more, all groups are looked for anew."""

LATE = timedelta(seconds=15)
"""How long after its time the row of a death may be committed, to be among the new ones."""

Key = tuple[str, str]

_START = ("", "", datetime(1970, 1, 1, tzinfo=UTC), UUID(int=0))


@dataclass(slots=True)
class _Group:
    """What is known of a group: its number, counted in a look (its `round`; 0: not yet) that began `at` (monotonic), and the
    pass through all groups in which it was seen last."""

    number: int
    first_at: datetime
    last_at: datetime
    example: UUID
    round: int
    at: float
    passed: int


class DeadLetters:
    """Counts groups, and remembers them from one look to the next."""

    def __init__(self, *, seconds: float = COUNTING, patience: float = PATIENCE) -> None:
        """`seconds` and `patience`: see `COUNTING` and `PATIENCE`."""
        self._seconds, self._patience = seconds, max(seconds, patience)
        self._groups: dict[Key, _Group] = {}
        self._errors: dict[UUID, tuple[str | None, str]] = {}
        self._round = 0
        self._looked: datetime | None = None
        # The pass that is under way: how far it has come, how many groups it saw, and what it counted of the last of these.
        self._pass = 0
        self._position = _START
        self._seen = 0
        self._under_way: _Group | None = None

    async def groups(self, connection: Connection) -> DeadGroups:
        """The groups as they are now. Raises what the database raises."""
        self._round += 1
        at: datetime = await connection.fetchval(NOW.positional)
        if not await self._count(connection):
            await self._look(connection)
        self._looked = at
        await self._name(connection)
        groups = [
            DeadGroup(
                kind=kind,
                fingerprint=fingerprint,
                error_class=self._errors.get(group.example, (None, ""))[0],
                error=self._errors.get(group.example, (None, ""))[1],
                count=Count(self._number((kind, fingerprint)), group.round != self._round),
                first_at=group.first_at,
                last_at=group.last_at,
                example=group.example,
            )
            for (kind, fingerprint), group in self._groups.items()
        ]
        groups.sort(key=lambda group: (-group.count.number, group.kind, group.fingerprint))
        total = Count(sum(group.count.number for group in groups), any(group.count.estimated for group in groups))
        return DeadGroups(at, tuple(groups), total)

    async def group(self, connection: Connection, kind: str, fingerprint: str) -> DeadGroup | None:
        """One group as it is now; None: it is empty. Of one with more than `SLICE` jobs the number is what `groups` knows.

        Raises what the database raises.
        """
        rows = await _newest(connection, [(kind, fingerprint)], SLICE)
        if not rows:
            return None
        [row] = rows
        number, first_at = Count(row["number"]), row["first_at"]
        if row["number"] == SLICE:
            number = Count(max(SLICE, self._number((kind, fingerprint))), estimated=True)
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

    async def _count(self, connection: Connection) -> bool:
        """Go on counting until all are counted, True, or the time is over."""
        began = time.monotonic()
        through = False
        while True:
            kind, fingerprint, at, job_id = self._position
            arguments = DEAD_SLICE.arguments(kind=kind, fingerprint=fingerprint, at=at, id=job_id, limit=SLICE)
            through = self._take(await connection.fetch(DEAD_SLICE.positional, *arguments), began) or through
            if through and all(group.round == self._round for group in self._groups.values()):
                return True
            stale = self._pass == 0 or any(group.at < began - STALE for group in self._groups.values())
            if time.monotonic() - began >= (self._patience if stale else self._seconds):
                return False

    def _take(self, rows: Sequence[Any], began: float) -> bool:
        """Add a slice to what is counted; whether it was the last of its pass."""
        last: bool = sum(row["number"] for row in rows) < SLICE
        for row in rows:
            if _key(row) != self._position[:2]:
                self._close()
                if self._seen == GROUPS:
                    last = True
                    break
                self._seen += 1
                first_at, last_at, example = row["first_at"], row["last_at"], as_uuid(row["id"])
                self._under_way = _Group(0, first_at, last_at, example, self._round, began, self._pass)
            group = self._under_way
            assert group is not None
            group.number += row["number"]
            group.last_at, group.example = row["last_at"], as_uuid(row["id"])
            self._position = (*_key(row), group.last_at, group.example)
        if last:
            self._close()
            self._groups = {key: group for key, group in self._groups.items() if group.passed == self._pass}
            self._pass, self._position, self._seen = self._pass + 1, _START, 0
        return last

    def _close(self) -> None:
        """The group under way is counted to its end."""
        if self._under_way is not None:
            self._groups[self._position[:2]] = self._under_way
            self._under_way = None

    async def _look(self, connection: Connection) -> None:
        """Find the groups and the newest deaths that have appeared where this time nothing was counted."""
        began = time.monotonic()
        found: list[Any] = []
        if self._looked is not None:
            arguments = DEAD_NEW_KEYS.arguments(since=self._looked - LATE, limit=NEW)
            found = await connection.fetch(DEAD_NEW_KEYS.positional, *arguments)
        for row in found:
            group = self._groups.get(_key(row))
            if group is not None and row["last_at"] > group.last_at:
                group.last_at, group.example = row["last_at"], as_uuid(row["id"])
        if self._looked is None or sum(row["number"] for row in found) == NEW:
            found = await connection.fetch(DEAD_GROUP_KEYS.positional, *DEAD_GROUP_KEYS.arguments(limit=GROUPS))
        unknown = [_key(row) for row in found if _key(row) not in self._groups][: max(0, GROUPS - len(self._groups))]
        rows = await _newest(connection, unknown, FEWEST + 1)
        first = await _first(connection, [_key(row) for row in rows if row["number"] > FEWEST])
        for row in rows:
            first_at, last_at, example = first.get(_key(row), row["first_at"]), row["last_at"], as_uuid(row["id"])
            self._groups[_key(row)] = _Group(row["number"], first_at, last_at, example, 0, began, self._pass)

    async def _name(self, connection: Connection) -> None:
        """What the newest jobs of the groups died of, of those that were not the newest before."""
        newest = {group.example: group.last_at for group in self._groups.values()}
        self._errors = {job_id: error for job_id, error in self._errors.items() if job_id in newest}
        unknown = [job_id for job_id in newest if job_id not in self._errors]
        if unknown:
            arguments = DEAD_ERRORS.arguments(ids=unknown, ends=[newest[job_id] for job_id in unknown])
            for row in await connection.fetch(DEAD_ERRORS.positional, *arguments):
                self._errors[as_uuid(row["id"])] = (row["error_class"], first_line(row["error"]) or "")

    def _number(self, key: Key) -> int:
        """How many are known of a group."""
        known = self._groups.get(key)
        under_way = self._under_way if key == self._position[:2] else None
        return max(0 if known is None else known.number, 0 if under_way is None else under_way.number)


def _key(row: Any) -> Key:
    return row["kind"], row["fingerprint"]


async def _newest(connection: Connection, keys: Sequence[Key], limit: int) -> list[Any]:
    if not keys:
        return []
    kinds, fingerprints = zip(*keys, strict=True)
    arguments = DEAD_GROUPS.arguments(kinds=list(kinds), fingerprints=list(fingerprints), limit=limit)
    return list(await connection.fetch(DEAD_GROUPS.positional, *arguments))


async def _first(connection: Connection, keys: Sequence[Key]) -> dict[Key, datetime]:
    if not keys:
        return {}
    kinds, fingerprints = zip(*keys, strict=True)
    arguments = DEAD_FIRST.arguments(kinds=list(kinds), fingerprints=list(fingerprints))
    rows = await connection.fetch(DEAD_FIRST.positional, *arguments)
    return {(row["kind"], row["fingerprint"]): row["first_at"] for row in rows}
