"""How many jobs match: counted up to `FEW` (10,000), above that estimated and marked so.

Estimates come from the last sample (live jobs, dead ones), from the statistics (ended jobs of a kind, in a time) or, where a
filter has no index, from the share among the newest rows. An estimate is never below what was counted.
"""

import time
from collections.abc import Iterable, Mapping
from dataclasses import replace

from carafe.jobs.filters import JobFilter, Side
from carafe.jobs.moves import Connection
from carafe.jobs.records import Count
from carafe.jobs.states import ENDED, LIVE, State
from carafe.readmodel.statements import DEAD_SAMPLED, ENDED_IN_STATISTICS, LIVE_COUNTS
from carafe.readmodel.walks import FEW, Walk, walk_of
from carafe.readmodel.windows import fetched, windows

Counts = Mapping[State, Count]

NONE = Count(0)

# Ended states that are counted on one walk.
_TOGETHER = (frozenset({State.DEAD}), frozenset({State.SUCCEEDED, State.CANCELLED}))


async def count_live(connection: Connection) -> Counts:
    """All live jobs, by state."""
    row = await connection.fetchrow(LIVE_COUNTS.positional, *LIVE_COUNTS.arguments(limit=FEW + 1))
    assert row is not None
    counts = {}
    for state in LIVE:
        number, sampled = row[state.value], row[f"sampled_{state.value}"]
        estimated = number > FEW or (row["too_many"] and state in (State.SCHEDULED, State.RETRYING))
        counts[state] = Count(max(number, int(sampled or 0)), True) if estimated else Count(number)
    if counts[State.QUEUED].estimated and row["sampled_queued"] is None:
        # Nobody samples: what the planner knows of the whole table, less the others, must do.
        others = sum(counts[state].number for state in LIVE - {State.QUEUED})
        counts[State.QUEUED] = Count(max(FEW + 1, row["planned"] - others), True)
    return counts


async def count(
    connection: Connection,
    filter: JobFilter,  # noqa: A002
    states: Iterable[State],
    live: Counts,
    *,
    seconds: float,
) -> Counts:
    """Of each of `states`, how many match `filter`, whatever states it names itself.

    `live` as of `count_live`; `seconds` for trying rows."""
    wanted = frozenset(states)
    filter = replace(filter, states=frozenset())  # noqa: A001
    counts = dict.fromkeys(wanted, NONE)
    groups: list[tuple[Side, frozenset[State]]] = [("live", wanted & LIVE)]
    groups += [("ended", wanted & together) for together in _TOGETHER]
    left = [(side, group) for side, group in groups if group and replace(filter, states=group).touches(side)]
    for number, (side, group) in enumerate(left):
        began = time.monotonic()
        deadline = began + seconds / (len(left) - number)
        if side == "live":
            counts |= await _live(connection, filter, group, live, deadline)
        else:
            counts |= await _ended(connection, filter, group, deadline)
        seconds -= time.monotonic() - began
    return counts


def total(counts: Counts) -> Count:
    """Together."""
    return Count(sum(count.number for count in counts.values()), any(count.estimated for count in counts.values()))


async def _live(
    connection: Connection,
    filter: JobFilter,  # noqa: A002
    group: frozenset[State],
    live: Counts,
    deadline: float,
) -> Counts:
    if replace(filter, resolved=None) == JobFilter():
        return {state: live[state] for state in group}
    if filter.worker is not None:
        group &= {State.RUNNING}
    # Text is looked for in each one's last failure: too dear for thousands of them, however few those are.
    few = frozenset(state for state in group if not live[state].estimated and filter.text is None)
    counts: dict[State, Count] = {}
    for state in few:
        walk = walk_of(replace(filter, states=frozenset({state})), "live", live)
        assert walk is not None
        counts[state] = await _direct(connection, walk)
    many = group - few
    if many:
        walk = walk_of(replace(filter, states=many), "live", live)
        assert walk is not None
        found, share = await _tried(connection, walk, sum(count.number for count in live.values()), deadline)
        counts |= {state: _estimate(found.get(state, 0), share) for state in many}
    return counts


async def _ended(
    connection: Connection,
    filter: JobFilter,  # noqa: A002
    group: frozenset[State],
    deadline: float,
) -> Counts:
    together = next(together for together in _TOGETHER if group <= together)
    if State.DEAD not in together:
        filter = replace(filter, resolved=None)  # noqa: A001  only dead jobs are ever resolved
    counts: dict[State, Count] = {}
    cancelled = walk_of(replace(filter, states=frozenset({State.CANCELLED})), "ended", {})
    if State.CANCELLED in group and cancelled is not None and cancelled.direct:
        # They are few among those done, and have an index of their own.
        counts[State.CANCELLED] = await _direct(connection, cancelled)
        if not counts[State.CANCELLED].estimated:
            group -= {State.CANCELLED}
    walk = walk_of(replace(filter, states=together), "ended", {})
    if not group or walk is None:
        return counts
    found: dict[State, int] = {}
    share = 0.0
    timed = filter == JobFilter(kind=filter.kind, since=filter.since, until=filter.until)
    direct = await _direct(connection, walk) if walk.direct else None
    if direct is not None and not direct.estimated and group == together == {State.DEAD}:
        return {State.DEAD: direct}
    if direct is not None and not direct.estimated and counts:
        return counts | {State.SUCCEEDED: Count(direct.number - counts[State.CANCELLED].number)}
    if direct is None or not direct.estimated:
        found, share = await _tried(connection, walk, None, deadline)
        if share == 1.0:
            return counts | {state: Count(found.get(state, 0)) for state in group}
    elif together == {State.DEAD}:
        found = {State.DEAD: direct.number}
    seen = await _seen(connection, filter, together) if timed or share == 0.0 else None
    for state in group:
        number = found.get(state, 0)
        estimate = round(number / share) if seen is None else seen.get(state, 0)
        counts[state] = Count(max(number, estimate), True)
    return counts


async def _seen(connection: Connection, filter: JobFilter, states: frozenset[State]) -> dict[State, int]:  # noqa: A002
    """What the last sample says of dead jobs, if they are meant all, and else the statistics."""
    if states == {State.DEAD} and (filter.kind, filter.since, filter.until) == (None, None, None):
        sampled = await connection.fetchval(DEAD_SAMPLED.positional)
        if sampled is not None:
            return {State.DEAD: int(sampled)}
    return await _in_statistics(connection, filter, states)


async def _direct(connection: Connection, walk: Walk) -> Count:
    query = walk.number(FEW + 1)
    number: int = await connection.fetchval(query.text, *query.values)
    return Count(number, number > FEW)


async def _tried(connection: Connection, walk: Walk, among: int | None, deadline: float) -> tuple[dict[State, int], float]:
    """Numbers by state among the newest rows of a walk, and the share of the walk that these are (1.0: all of it; 0.0: not
    known). `among`: how many rows the walk has, where that is known."""
    found: dict[State, int] = {}
    tried = 0
    async for window in windows(connection, walk, None, deadline):
        query = walk.numbers(window.after, window.until)
        rows = await fetched(connection, query, window.given_up)
        if rows is None:
            break
        for row in rows:
            state = State.stored(row["state"])
            found[state] = found.get(state, 0) + row["number"]
        tried = window.tried
        if window.until is None:
            return found, 1.0
        if max(found.values(), default=0) > FEW:
            break
    if among is None:
        along = replace(walk.along, states=frozenset())
        states = walk.along.states or ENDED
        among = sum((await _in_statistics(connection, along, states)).values())
    return found, min(1.0 - 1e-9, tried / among) if among else 0.0


async def _in_statistics(connection: Connection, filter: JobFilter, states: Iterable[State]) -> dict[State, int]:  # noqa: A002
    """Ends of a kind, in a time, as far back as such jobs are kept."""
    arguments = ENDED_IN_STATISTICS.arguments(
        kind=filter.kind or "", since=filter.since, until=filter.until, outcomes=[state.value for state in states]
    )
    rows = await connection.fetch(ENDED_IN_STATISTICS.positional, *arguments)
    return {State(row["outcome"]): row["number"] for row in rows}


def _estimate(found: int, share: float) -> Count:
    if share == 1.0:
        return Count(found)
    return Count(round(found / share) if share else found, True)
