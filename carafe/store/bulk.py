"""Bulk actions: an operators' action on all jobs that match a filter. This module starts, reads and controls them.

A bulk action is a row in Postgres: the action, the filter, who started it and why, its rate and its progress. The steward
carries it out in batches (carafe.steward.bulk).
Guarantees: filter and cutoff (a time on Postgres's clock) are fixed when the bulk action starts. Starting, pausing, resuming
and cancelling each write their audit row in the same transaction.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal, cast
from uuid import UUID

import asyncpg
import orjson

from carafe.jobs.actions import ACTIONS, RATED_ABOVE, Action, ActionName, listed
from carafe.jobs.errors import BulkActionEnded, BulkActionNotFound, InvalidOption
from carafe.jobs.identifiers import uuid7
from carafe.jobs.numbers import is_number, is_whole
from carafe.jobs.records import Count, as_uuid
from carafe.jobs.states import LIVE, State
from carafe.jobs.stored_json import readable
from carafe.store.audit import Actor, checked_actor, checked_reason, record
from carafe.store.database import Connection
from carafe.store.filters import JobFilter
from carafe.store.statements import BULK_GET, BULK_LIST, BULK_START, BULK_STEER
from carafe.texts import shown

# ruff: noqa: S608  the text is ours alone; every value is bound

BulkState = Literal["running", "paused", "cancelled", "done"]

SLOWEST, FASTEST = 0.01, 100_000.0
"""The least and the greatest rate of a bulk action, in jobs a second."""

COUNTING = 2.0
"""The maximum number of seconds for counting the matching jobs. If counting takes longer, the planner's estimate is used."""


@dataclass(frozen=True, slots=True)
class BulkActionRecord:
    """A bulk action as it stands now. `rate` is in jobs a second, or None if there is no limit. `matched` is how many jobs
    matched when it was started.

    `done` and `failed` are exact numbers of jobs. `skipped`: jobs that matched at the start, and had changed state or were
    gone before the action reached them. The skipped jobs of an action by filter are only counted at its end: they are the
    jobs of `matched` that were neither done nor failed. If `matched` is an estimate, they are not counted. `last_error` is
    the reason of the last failure.
    """

    id: UUID
    action: ActionName
    filter: Mapping[str, Any]
    cutoff: datetime
    rate: float | None
    actor: str
    via: str
    reason: str | None
    state: BulkState
    matched: Count
    done: int
    skipped: int
    failed: int
    last_error: str | None
    created_at: datetime
    ended_at: datetime | None


def bulk_record(row: Mapping[str, Any]) -> BulkActionRecord:
    """The `BulkActionRecord` of a row of ``carafe.bulk_actions``."""
    kept = readable(row["filter"]) if isinstance(row["filter"], str | bytes) else row["filter"]
    return BulkActionRecord(
        id=as_uuid(row["id"]),
        action=row["action"],
        filter=kept if isinstance(kept, dict) else {},
        cutoff=row["cutoff"],
        rate=row["rate"],
        actor=row["actor"],
        via=row["via"],
        reason=row["reason"],
        state=row["state"],
        matched=Count(row["matched"], row["matched_estimated"]),
        done=row["done"],
        skipped=row["skipped"],
        failed=row["failed"],
        last_error=row["last_error"],
        created_at=row["created_at"],
        ended_at=row["ended_at"],
    )


def action_named(name: str) -> Action:
    """The action with this name. Raises `InvalidOption` for a name that this version does not know."""
    for action in ACTIONS.values():
        if action.name == name:
            return action
    raise InvalidOption("action", f"must be one of {', '.join(ACTIONS)} (got {str(name)[:40]!r})")


def narrow(action: Action, wanted: JobFilter) -> JobFilter:
    """Returns the filter `wanted`, narrowed to the states in which the action is possible. For a retry it also leaves out
    discarded jobs, unless the filter contains ids of jobs or a condition on `resolved`. Raises `InvalidOption` when no job
    can match."""
    states = wanted.states & action.states if wanted.states else action.states
    meant = f"{action.name} is for jobs that are {listed(action.states)}"
    if not states:
        raise InvalidOption("state", f"{meant} (the filter wants {listed(wanted.states)})")
    wanted = replace(wanted, states=states)
    if not action.of_ended:
        for name in ("fingerprint", "resolved"):
            if getattr(wanted, name):
                raise InvalidOption(name, f"only dead jobs have one; {meant}")
        return wanted
    if action.unresolved:
        if wanted.resolved:
            raise InvalidOption("resolved", "resolved jobs have been discarded already")
        return replace(wanted, resolved=False)
    return wanted if wanted.resolved is not None or wanted.ids else replace(wanted, resolved=False)


def checked_rate(rate: float | None) -> float | None:
    """Returns `rate`, in jobs a second. Raises `InvalidOption` when it is not from `SLOWEST` to `FASTEST`."""
    if rate is not None and not (is_number(rate) and SLOWEST <= rate <= FASTEST):
        raise InvalidOption("rate", f"must be from {SLOWEST:g} to {FASTEST:,.0f} jobs a second (got {shown(rate)})")
    return rate


async def start(
    connection: Connection,
    name: ActionName,
    wanted: JobFilter,
    *,
    rate: float | None,
    reason: str | None,
    by: Actor,
) -> BulkActionRecord:
    """Start a bulk action in the caller's transaction; see `Client.start_bulk`. Raises `InvalidOption`."""
    action = action_named(name)
    if not isinstance(wanted, JobFilter):
        raise InvalidOption("wanted", f"must be a JobFilter (got {shown(wanted)})")
    # As the steward will read it: what cannot be read, such as an empty text, is refused now, and never counted otherwise.
    wanted = narrow(action, JobFilter.from_json(wanted.to_json()))
    rate = checked_rate(rate)
    reason = checked_reason(reason, needed=action.reason_needed)
    checked_actor(by, needed=True)
    cutoff = await connection.fetchval("select now()")
    matched = Count(len(wanted.ids)) if wanted.ids else await _matching(connection, action, wanted, cutoff)
    if rate is None and matched.number > RATED_ABOVE:
        rate = action.bulk_rate
    [row] = await BULK_START.fetch(
        connection,
        id=uuid7(),
        action=name,
        filter=orjson.dumps(wanted.to_json()).decode(),
        cutoff=cutoff,
        rate=rate,
        actor=by.name,
        via=by.via,
        reason=reason,
        matched=matched.number,
        estimated=matched.estimated,
    )
    started = bulk_record(row)
    details = {"action": name, "filter": started.filter, "rate": rate, "matched": matched.number}
    await record(connection, by, "bulk start", str(started.id), reason=reason, details=details)
    return started


async def get(connection: Connection, bulk_id: UUID) -> BulkActionRecord:
    """The bulk action with this id, as it stands now. Raises `BulkActionNotFound`."""
    row = await BULK_GET.fetchrow(connection, id=bulk_id)
    if row is None:
        raise BulkActionNotFound(bulk_id)
    return bulk_record(row)


async def latest(connection: Connection, limit: int) -> list[BulkActionRecord]:
    """The newest bulk actions, at most `limit`. Raises `InvalidOption` for a limit that is not from 1 to 500."""
    if not (is_whole(limit) and 1 <= limit <= 500):
        raise InvalidOption("limit", f"must be from 1 to 500 (got {shown(limit)})")
    return [bulk_record(row) for row in await BULK_LIST.fetch(connection, limit=limit)]


_MOVES: Mapping[str, BulkState] = {"bulk pause": "paused", "bulk resume": "running", "bulk cancel": "cancelled"}

Move = Literal["bulk pause", "bulk resume", "bulk cancel"]


async def steer(connection: Connection, bulk_id: UUID, move: Move, *, by: Actor) -> BulkActionRecord:
    """Pause, resume or cancel a bulk action, in the caller's transaction. A batch that is being done is still completed.

    Returns the bulk action as it is after that. Raises `BulkActionNotFound`, or `BulkActionEnded`.
    """
    checked_actor(by, needed=True)
    row = await BULK_STEER.fetchrow(connection, id=bulk_id, state=_MOVES[move])
    if row is not None:
        moved = bulk_record(row)
        counts = {"done": moved.done, "skipped": moved.skipped, "failed": moved.failed}
        await record(connection, by, move, str(bulk_id), details=counts)
        return moved
    raise BulkActionEnded(bulk_id, (await get(connection, bulk_id)).state)


def source(action: Action, wanted: JobFilter, cutoff: datetime) -> "Source":
    """Returns the table that holds a bulk action's jobs, and the SQL conditions that these jobs meet. `wanted` is a filter
    that `narrow` has returned."""
    values: list[Any] = []

    def bind(value: Any) -> str:
        values.append(value)
        return f"${len(values)}"

    dead = action.of_ended
    if dead:
        conditions = wanted.conditions("ended", bind)
    else:
        # In a form that no index of one state serves: the table is read in the order of the ids (docs/plans.md).
        conditions = replace(wanted, states=frozenset()).conditions("live", bind)
        states = wanted.states or LIVE
        conditions.append(f"j.state || '' in ({', '.join(repr(state.value) for state in State if state in states)})")
    conditions.append(f"{'j.ended_at' if dead else 'j.created_at'} <= {bind(cutoff)}::timestamptz")
    return Source("carafe.jobs_dead" if dead else "carafe.jobs", dead, conditions, values)


@dataclass(slots=True)
class Source:
    """A table, called ``j`` in SQL, with conditions on its rows and the values that are bound in these conditions; see
    `source`."""

    table: str
    dead: bool
    conditions: list[str]
    values: list[Any]

    def bind(self, value: Any) -> str:
        """Add a value, and return its placeholder."""
        self.values.append(value)
        return f"${len(self.values)}"

    @property
    def where(self) -> str:
        """All conditions as one SQL expression."""
        return " and ".join(self.conditions)


async def _matching(connection: Connection, action: Action, wanted: JobFilter, cutoff: datetime) -> Count:
    """The number of matching jobs. It is counted; if counting takes longer than `COUNTING` seconds, the planner estimates
    it."""
    found = source(action, wanted, cutoff)
    try:
        async with connection.transaction():
            await connection.execute(f"set local statement_timeout = {int(COUNTING * 1000)}")
            number = await connection.fetchval(f"select count(*) from {found.table} j where {found.where}", *found.values)
            await connection.execute("set local statement_timeout to default")
        return Count(cast(int, number))
    except asyncpg.QueryCanceledError:
        query = f"explain (format json) select 1 from {found.table} j where {found.where}"
        plan = orjson.loads(await connection.fetchval(query, *found.values))
        return Count(int(plan[0]["Plan"]["Plan Rows"]), estimated=True)
