"""The groups of dead letters: unresolved dead jobs by kind and error fingerprint.

Groups are counted in the order of an index, slice by slice, from the first group to the last and then from the first again.
Each call counts for at most `COUNTING` seconds. If that is not enough for all groups, the next call goes on from there;
groups that were not counted keep their last number, marked as estimated. Each call also reads the newest deaths since the
call before, so that new groups and their newest errors show at once.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from carafe.jobs.records import Count, as_uuid
from carafe.readmodel.records import DeadGroup, DeadGroups
from carafe.readmodel.statements import DEAD_ERRORS, DEAD_FIRST, DEAD_GROUP_KEYS, DEAD_GROUPS, DEAD_NEW_KEYS, DEAD_SLICE
from carafe.store.database import Connection
from carafe.store.pages import first_line
from carafe.store.statements import NOW

GROUPS = 1_000
"""The maximum number of groups that are shown. If there are more, these are the first in alphabetical order."""

SLICE = 20_000
"""The maximum number of jobs that one statement counts."""

COUNTING = 0.04
"""Seconds after which a call counts no further slice."""

PATIENCE = 0.2
"""Seconds after which a call counts no further slice while the number of some group is unknown, or older than `STALE`
seconds."""

STALE = 120.0
"""Seconds after which a number that was not counted again is too old: everything may have changed while nobody looked."""

FEWEST = 20
"""A new group, whose turn to be counted has not come yet, is at first counted up to this many jobs."""

NEW = 5_000
"""The maximum number of new deaths that one call reads. When there are more, all groups are searched for again."""

LATE = timedelta(seconds=15)
"""A new death is found if its row is committed at most this long after the job died."""

Key = tuple[str, str]

_START = ("", "", datetime(1970, 1, 1, tzinfo=UTC), UUID(int=0))


@dataclass(slots=True)
class _Group:
    """What is known of a group. `number` is its number of jobs. `round` is the number of the call that counted the group (0:
    not counted yet), and `at` is when that call began, in monotonic seconds. `passed` is the number of the last pass through
    all groups that found the group. `example` is its newest job."""

    number: int
    first_at: datetime
    last_at: datetime
    example: UUID
    round: int
    at: float
    passed: int


class DeadLetters:
    """Counts the groups of dead letters, and remembers them from one call to the next."""

    def __init__(self, *, seconds: float = COUNTING, patience: float = PATIENCE) -> None:
        """`seconds` takes the place of `COUNTING`, `patience` that of `PATIENCE`."""
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
        """Returns the groups as they are now, the largest first. Raises what the database raises."""
        self._round += 1
        at: datetime = await NOW.fetchval(connection)
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
        """Returns one group as it is now; None if it has no jobs. If it has `SLICE` jobs or more, its number is the one that
        `groups` has found, marked as estimated.

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
        error = await DEAD_ERRORS.fetchrow(connection, ids=[row["id"]], ends=[row["last_at"]])
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
        """Go on counting until all groups are counted or the time is over. Returns whether all are counted."""
        began = time.monotonic()
        through = False
        while True:
            kind, fingerprint, at, job_id = self._position
            through = (
                self._take(
                    await DEAD_SLICE.fetch(connection, kind=kind, fingerprint=fingerprint, at=at, id=job_id, limit=SLICE),
                    began,
                )
                or through
            )
            if through and all(group.round == self._round for group in self._groups.values()):
                return True
            stale = self._pass == 0 or any(group.at < began - STALE for group in self._groups.values())
            if time.monotonic() - began >= (self._patience if stale else self._seconds):
                return False

    def _take(self, rows: Sequence[Any], began: float) -> bool:
        """Add a slice to the numbers of its groups. Returns whether it was the last slice of this pass through all
        groups."""
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
        """Store the group that was being counted: all its jobs are counted now."""
        if self._under_way is not None:
            self._groups[self._position[:2]] = self._under_way
            self._under_way = None

    async def _look(self, connection: Connection) -> None:
        """Find the newest deaths: they update known groups, also those not counted in this call, and show which groups are
        new."""
        began = time.monotonic()
        found: list[Any] = []
        if self._looked is not None:
            found = await DEAD_NEW_KEYS.fetch(connection, since=self._looked - LATE, limit=NEW)
        for row in found:
            group = self._groups.get(_key(row))
            if group is not None and row["last_at"] > group.last_at:
                group.last_at, group.example = row["last_at"], as_uuid(row["id"])
        if self._looked is None or sum(row["number"] for row in found) == NEW:
            found = await DEAD_GROUP_KEYS.fetch(connection, limit=GROUPS)
        unknown = [_key(row) for row in found if _key(row) not in self._groups][: max(0, GROUPS - len(self._groups))]
        rows = await _newest(connection, unknown, FEWEST + 1)
        first = await _first(connection, [_key(row) for row in rows if row["number"] > FEWEST])
        for row in rows:
            first_at, last_at, example = first.get(_key(row), row["first_at"]), row["last_at"], as_uuid(row["id"])
            self._groups[_key(row)] = _Group(row["number"], first_at, last_at, example, 0, began, self._pass)

    async def _name(self, connection: Connection) -> None:
        """Read the error of each group's newest job, if that error is not known yet."""
        newest = {group.example: group.last_at for group in self._groups.values()}
        self._errors = {job_id: error for job_id, error in self._errors.items() if job_id in newest}
        unknown = [job_id for job_id in newest if job_id not in self._errors]
        if unknown:
            for row in await DEAD_ERRORS.fetch(connection, ids=unknown, ends=[newest[job_id] for job_id in unknown]):
                self._errors[as_uuid(row["id"])] = (row["error_class"], first_line(row["error"]) or "")

    def _number(self, key: Key) -> int:
        """Returns how many jobs of the group are known."""
        known = self._groups.get(key)
        under_way = self._under_way if key == self._position[:2] else None
        return max(0 if known is None else known.number, 0 if under_way is None else under_way.number)


def _key(row: Any) -> Key:
    return row["kind"], row["fingerprint"]


async def _newest(connection: Connection, keys: Sequence[Key], limit: int) -> list[Any]:
    if not keys:
        return []
    kinds, fingerprints = zip(*keys, strict=True)
    return list(await DEAD_GROUPS.fetch(connection, kinds=list(kinds), fingerprints=list(fingerprints), limit=limit))


async def _first(connection: Connection, keys: Sequence[Key]) -> dict[Key, datetime]:
    if not keys:
        return {}
    kinds, fingerprints = zip(*keys, strict=True)
    rows = await DEAD_FIRST.fetch(connection, kinds=list(kinds), fingerprints=list(fingerprints))
    return {(row["kind"], row["fingerprint"]): row["first_at"] for row in rows}
