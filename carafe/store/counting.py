"""Counts the jobs that match a filter: up to `FEW` (10,000) exactly; above that, returns an estimate that is marked as one.

Estimates come from the last sample (live jobs, dead jobs) or from the statistics (ended jobs of a kind or in a time). If
there is no index for the filter, they come from the share of matches among the newest rows. An estimate is never lower than
the number of jobs that were counted.
"""

import time
from collections.abc import Iterable, Mapping
from dataclasses import replace

from carafe.jobs.records import Count
from carafe.jobs.states import ENDED, LIVE, State
from carafe.store.bounded_scan import fetched, windows
from carafe.store.database import Connection
from carafe.store.error_classes import whole_class
from carafe.store.filters import JobFilter, Side
from carafe.store.keyset import FEW, Walk, walk_of
from carafe.store.statements import DEAD_SAMPLED, ENDED_IN_STATISTICS, LIVE_COUNTS

Counts = Mapping[State, Count]

NONE = Count(0)

# Ended states that are counted together, along one index.
_TOGETHER = (frozenset({State.DEAD}), frozenset({State.SUCCEEDED, State.CANCELLED}))


async def count_live(connection: Connection) -> Counts:
    """The number of all live jobs, by state."""
    row = await LIVE_COUNTS.fetchrow(connection, limit=FEW + 1)
    assert row is not None
    counts = {}
    for state in LIVE:
        number, sampled = row[state.value], row[f"sampled_{state.value}"]
        estimated = number > FEW or (row["too_many"] and state in (State.SCHEDULED, State.RETRYING))
        counts[state] = Count(max(number, int(sampled or 0)), True) if estimated else Count(number)
    if counts[State.QUEUED].estimated and row["sampled_queued"] is None:
        # Without samples the planner's estimate of the whole table, less the other states, must do.
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
    """For each of `states`, the number of jobs in it that match `filter`. The states in the filter itself are ignored.

    `live` is the answer of `count_live`. `seconds` is how long rows may be checked if there is no index for the filter.
    """
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
    """The sum of all counts. It is an estimate if one of them is."""
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
    # The text is searched in each job's last failure, which is too expensive for thousands of jobs.
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
        # Cancelled jobs are few among the ended ones, and have an index of their own.
        counts[State.CANCELLED] = await _direct(connection, cancelled)
        if not counts[State.CANCELLED].estimated:
            group -= {State.CANCELLED}
    wanted = replace(filter, states=together)
    walk = walk_of(wanted, "ended", {}, whole_class=await whole_class(connection, wanted, "ended"))
    if not group or walk is None:
        return counts
    found: dict[State, int] = {}
    share = 0.0
    direct = await _direct(connection, walk) if walk.direct else None
    if direct is not None and not direct.estimated and group == together == {State.DEAD}:
        return {State.DEAD: direct}
    if direct is not None and not direct.estimated and counts:
        return counts | {State.SUCCEEDED: Count(direct.number - counts[State.CANCELLED].number)}
    recorded = _is_recorded(filter, together)
    if direct is None or not direct.estimated or not recorded:
        if direct is not None and direct.estimated:
            # Its own index leads to matches alone, and of them nobody knows how many there are: their share among all does.
            walk = replace(walk, along=JobFilter(together, filter.kind, since=filter.since, until=filter.until))
        found, share = await _tried(connection, walk, None, deadline)
        if share == 1.0:
            return counts | {state: Count(found.get(state, 0)) for state in group}
    if direct is not None and together == {State.DEAD}:
        found = {State.DEAD: max(direct.number, found.get(State.DEAD, 0))}
    known = await _recorded(connection, filter, together) if recorded else {}
    for state in group:
        number = found.get(state, 0)
        estimate = known.get(state, 0) if recorded else round(number / share) if share else 0
        counts[state] = Count(max(number, estimate), True)
    return counts


def _is_recorded(filter: JobFilter, states: frozenset[State]) -> bool:  # noqa: A002
    """Whether samples or statistics have the number of exactly those jobs that match `filter`."""
    if states == {State.DEAD} and filter == JobFilter(resolved=False):
        return True
    return filter == JobFilter(kind=filter.kind, since=filter.since, until=filter.until)


async def _recorded(connection: Connection, filter: JobFilter, states: frozenset[State]) -> dict[State, int]:  # noqa: A002
    """Estimated numbers of ended jobs by state. The number of all dead jobs, if `filter` means all of them, is that of the
    last sample. Otherwise, or without a sample, the numbers come from the statistics."""
    if states == {State.DEAD} and (filter.kind, filter.since, filter.until) == (None, None, None):
        sampled = await DEAD_SAMPLED.fetchval(connection)
        if sampled is not None:
            return {State.DEAD: int(sampled)}
    return await _in_statistics(connection, filter, states)


async def _direct(connection: Connection, walk: Walk) -> Count:
    query = walk.number(FEW + 1)
    number: int = await connection.fetchval(query.text, *query.values)
    return Count(number, number > FEW)


async def _tried(connection: Connection, walk: Walk, among: int | None, deadline: float) -> tuple[dict[State, int], float]:
    """Checks the newest rows along an index, until the deadline. Returns how many of them match, by state, and which share
    of all rows was checked (1.0: all of them; 0.0: the share is not known). `among` is the number of all rows, if it is
    known."""
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
    """How many jobs of the filter's kind ended in the filter's time, by state, according to the statistics. The statistics
    go back as far as such jobs are kept."""
    rows = await ENDED_IN_STATISTICS.fetch(
        connection,
        kind=filter.kind or "",
        since=filter.since,
        until=filter.until,
        outcomes=[state.value for state in states],
    )
    return {State(row["outcome"]): row["number"] for row in rows}


def _estimate(found: int, share: float) -> Count:
    if share == 1.0:
        return Count(found)
    return Count(round(found / share) if share else found, True)
