"""Bulk actions: retry, cancel, discard or run now all jobs that meet a filter. Here they are started, read and steered.

A bulk action is a durable row: who wants what done to which jobs, why, how fast, and how far it has come. The steward works
it off in batches (carafe.steward.bulk). Guarantees: what it concerns is frozen at its start, filter and cutoff both, on
Postgres's clock; starting, pausing, resuming and cancelling each write their audit row in their own transaction.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final, Literal, cast, get_args
from uuid import UUID

import asyncpg
import orjson

from carafe.jobs.audit import Actor, checked_reason, record
from carafe.jobs.errors import BulkActionEnded, BulkActionNotFound, InvalidOption
from carafe.jobs.filters import JobFilter
from carafe.jobs.identifiers import uuid7
from carafe.jobs.moves import Connection
from carafe.jobs.records import Count, as_uuid
from carafe.jobs.statements import BULK_GET, BULK_LIST, BULK_START, BULK_STEER
from carafe.jobs.states import ENDED, LIVE, State
from carafe.jobs.stored_json import readable

# ruff: noqa: S608  the text is ours alone; every value is bound

Action = Literal["retry", "cancel", "discard", "run_now"]
BulkState = Literal["running", "paused", "cancelled", "done"]

ACTIONS: Final[tuple[Action, ...]] = get_args(Action)

STATES: Mapping[Action, frozenset[State]] = {
    "retry": frozenset({State.DEAD}),
    "cancel": frozenset({State.SCHEDULED, State.QUEUED, State.RUNNING, State.RETRYING}),
    "discard": frozenset({State.DEAD}),
    "run_now": frozenset({State.SCHEDULED, State.RETRYING}),
}
"""What a bulk action can be done to: jobs in these states, all in one table."""

RATED_ABOVE = 1_000
"""Matching jobs above which a retry is given a rate, unless the caller gives one."""

DEFAULT_RATE = 50.0
"""Jobs a second, of such a retry: what caused the deaths may not stand all of them at once."""

SLOWEST, FASTEST = 0.01, 100_000.0
"""Jobs a second that a rate may be."""

COUNTING = 2.0
"""Seconds that the matching jobs are counted for at most; then the planner's estimate serves."""


@dataclass(frozen=True, slots=True)
class BulkActionRecord:
    """A bulk action as it stands. `rate` in jobs a second (None: as fast as it goes); `matched` was counted at its start.

    `done`, `skipped` (gone, or in another state by then) and `failed` (of which `last_error` is the last) are true totals.
    """

    id: UUID
    action: Action
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
    """A record from a row of ``carafe.bulk_actions``."""
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


def narrow(action: Action, wanted: JobFilter) -> JobFilter:
    """The filter with the states that the action is for. Raises `InvalidOption` when nothing can be left of it.

    What has been discarded stays so: a retry leaves it out, unless the filter is a selection or asks for it by `resolved`.
    """
    if action not in STATES:
        raise InvalidOption("action", f"must be one of {', '.join(ACTIONS)} (got {str(action)[:40]!r})")
    possible = STATES[action]
    states = wanted.states & possible if wanted.states else possible
    named = ", ".join(state for state in State if state in possible)
    if not states:
        given = ", ".join(state for state in State if state in wanted.states)
        raise InvalidOption("state", f"{action} is for jobs that are {named} (the filter wants {given})")
    wanted = replace(wanted, states=states)
    if not possible <= ENDED:
        for name in ("fingerprint", "resolved"):
            if getattr(wanted, name):
                raise InvalidOption(name, f"only dead jobs have one; {action} is for jobs that are {named}")
        return wanted
    if action == "discard":
        if wanted.resolved:
            raise InvalidOption("resolved", "what is resolved has been discarded already")
        return replace(wanted, resolved=False)
    return wanted if wanted.resolved is not None or wanted.ids else replace(wanted, resolved=False)


def checked_rate(rate: float | None) -> float | None:
    """`rate` in jobs a second. Raises `InvalidOption` for one that is none."""
    if rate is not None and not SLOWEST <= rate <= FASTEST:
        raise InvalidOption("rate", f"must be from {SLOWEST:g} to {FASTEST:,.0f} jobs a second (got {rate})")
    return rate


async def start(
    connection: Connection,
    action: Action,
    wanted: JobFilter,
    *,
    rate: float | None,
    reason: str | None,
    by: Actor,
) -> BulkActionRecord:
    """See `Client.start_bulk`; in the caller's transaction. Raises `InvalidOption`."""
    wanted = narrow(action, wanted)
    rate = checked_rate(rate)
    needed = "it is kept with each job, for those who find it later" if action == "discard" else ""
    reason = checked_reason(reason, needed=needed)
    cutoff = await connection.fetchval("select now()")
    matched = Count(len(wanted.ids)) if wanted.ids else await _matching(connection, action, wanted, cutoff)
    if action == "retry" and rate is None and matched.number > RATED_ABOVE:
        rate = DEFAULT_RATE
    arguments = BULK_START.arguments(
        id=uuid7(),
        action=action,
        filter=orjson.dumps(wanted.to_json()).decode(),
        cutoff=cutoff,
        rate=rate,
        actor=by.name,
        via=by.via,
        reason=reason,
        matched=matched.number,
        estimated=matched.estimated,
    )
    started = bulk_record(await connection.fetchrow(BULK_START.positional, *arguments))
    details = {"action": action, "filter": started.filter, "rate": rate, "matched": matched.number}
    await record(connection, by, "bulk start", str(started.id), reason=reason, details=details)
    return started


async def get(connection: Connection, bulk_id: UUID) -> BulkActionRecord:
    """A bulk action as it stands. Raises `BulkActionNotFound`."""
    row = await connection.fetchrow(BULK_GET.positional, bulk_id)
    if row is None:
        raise BulkActionNotFound(bulk_id)
    return bulk_record(row)


async def latest(connection: Connection, limit: int) -> list[BulkActionRecord]:
    """The newest bulk actions, up to `limit` (500). Raises `InvalidOption`."""
    if not 1 <= limit <= 500:
        raise InvalidOption("limit", f"must be from 1 to 500 (got {limit})")
    return [bulk_record(row) for row in await connection.fetch(BULK_LIST.positional, limit)]


_MOVES: Mapping[str, BulkState] = {"bulk pause": "paused", "bulk resume": "running", "bulk cancel": "cancelled"}

Move = Literal["bulk pause", "bulk resume", "bulk cancel"]


async def steer(connection: Connection, bulk_id: UUID, move: Move, *, by: Actor) -> BulkActionRecord:
    """Pause, resume or cancel it, after the batch that is under way; in the caller's transaction.

    Raises `BulkActionNotFound`, `BulkActionEnded`.
    """
    row = await connection.fetchrow(BULK_STEER.positional, *BULK_STEER.arguments(id=bulk_id, state=_MOVES[move]))
    if row is not None:
        moved = bulk_record(row)
        counts = {"done": moved.done, "skipped": moved.skipped, "failed": moved.failed}
        await record(connection, by, move, str(bulk_id), details=counts)
        return moved
    raise BulkActionEnded(bulk_id, (await get(connection, bulk_id)).state)


def source(action: Action, wanted: JobFilter, cutoff: datetime) -> "Source":
    """Where the jobs of a bulk action are, and what they must meet; `wanted` is a filter that `narrow` gave."""
    values: list[Any] = []

    def bind(value: Any) -> str:
        values.append(value)
        return f"${len(values)}"

    dead = STATES[action] <= ENDED
    if dead:
        conditions = wanted.conditions("ended", bind)
    else:
        # In a form that no index of one state serves: the walk is along the ids (docs/plans.md).
        conditions = replace(wanted, states=frozenset()).conditions("live", bind)
        states = wanted.states or LIVE
        conditions.append(f"j.state || '' in ({', '.join(repr(state.value) for state in State if state in states)})")
    conditions.append(f"{'j.ended_at' if dead else 'j.created_at'} <= {bind(cutoff)}::timestamptz")
    return Source("carafe.jobs_dead" if dead else "carafe.jobs", dead, conditions, values)


@dataclass(slots=True)
class Source:
    """A table, called ``j``, with SQL conditions and the values that these bind; see `source`."""

    table: str
    dead: bool
    conditions: list[str]
    values: list[Any]

    def bind(self, value: Any) -> str:
        """The placeholder of one value more."""
        self.values.append(value)
        return f"${len(self.values)}"

    @property
    def where(self) -> str:
        """All that must hold."""
        return " and ".join(self.conditions)


async def _matching(connection: Connection, action: Action, wanted: JobFilter, cutoff: datetime) -> Count:
    """How many there are: counted, or estimated where that takes too long."""
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
