"""How a side of the jobs is walked: along which index, newest first, and what has to be tried on each row met on the way.

A walk whose every condition its index serves stops after the rows that it gives. Where conditions are left over it goes
window by window, each of so many rows of the index, until enough is found, the newest rows are tried, or its time is over;
whoever asked can go on from where it stopped. So no filter, however rare what it finds, reads more than is said here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from carafe.jobs.filters import JobFilter, Side
from carafe.jobs.records import Count
from carafe.jobs.states import ENDED, LIVE, State
from carafe.timestamps import from_micros

# ruff: noqa: S608  the text is ours alone; every value is bound

FEW = 10_000
"""What is counted; above, numbers are estimated. Live jobs of a state that are fewer are gathered by that state's index."""

_2000 = 946_684_800_000_000
"""Microseconds from 1970 to 2000, Postgres's zero."""

_DONE = frozenset({State.SUCCEEDED, State.CANCELLED})
_WAITING = frozenset({State.SCHEDULED, State.RETRYING})
_ROW = """j.id, j.kind, j.state, j.attempt, j.max_attempts, j.created_at, j.due_at, j.started_at, j.progress, j.worker,
    j.cancel_requested_at is not null as cancel_requested"""
_OF_LIVE = "null::timestamptz as ended_at, null::text as error_class, null::text as error, false as resolved"
_OF_ENDED = "j.ended_at, j.error_class, left(j.error, 1000) as error, j.resolved_at is not null as resolved"

_COLUMNS = {"kind": "kind", "fingerprint": "error_fingerprint", "error_class": "error_class"}
"""Columns that indexes have before the time, in that order, by the filter's names."""


class Position(NamedTuple):
    """A place on a walk: of a live job its id alone, of an ended one its end too. What lies behind it is older."""

    at: datetime | None
    id: UUID

    @property
    def moment(self) -> datetime:
        """Its end or, for a live job, when its id was made."""
        # An id that somebody else has made names any time.
        return self.at or from_micros((self.id.int >> 80) * 1_000 - _2000)


class Query(NamedTuple):
    """A statement and its values."""

    text: str
    values: list[Any]


@dataclass(frozen=True, slots=True)
class Walk:
    """A walk over one side for what meets `filter`. `along` is the part of it that an index serves.

    `gathered`: the index of their state gathers these live jobs all, in no order.
    """

    side: Side
    filter: JobFilter
    along: JobFilter
    gathered: bool = False

    @property
    def direct(self) -> bool:
        """Whether nothing is left to be tried on each row."""
        return self.gathered or self.along == self.filter

    def rows(self, after: Position | None, until: Position | None, limit: int) -> Query:
        """The rows behind `after`, down to and with `until`, that meet the filter, newest first."""
        values: list[Any] = []
        where = self._where(self.filter, after, until, values)
        columns = f"{_ROW}, {_OF_LIVE if self.side == 'live' else _OF_ENDED}"
        if self.gathered:
            # Behind the `offset` the planner knows of no order, so that it does not walk through all jobs for one.
            source = f"(select * from {self._table} j{where} offset 0) j"
            return Query(f"select {columns} from {source} order by {self._order} limit {limit}", values)
        return Query(f"select {columns} from {self._table} j{where} order by {self._order} limit {limit}", values)

    def boundary(self, after: Position | None, rows: int) -> Query:
        """The position of the last of the next `rows` rows on the way; none: there are fewer."""
        values: list[Any] = []
        where = self._where(self._on_the_way, after, None, values)
        at = "null::timestamptz as at" if self.side == "live" else "j.ended_at as at"
        return Query(
            f"select {at}, j.id from {self._table} j{where} order by {self._order} offset {rows - 1} limit 1", values
        )

    def number(self, limit: int) -> Query:
        """How many meet the filter, counted up to `limit`; only of a direct walk."""
        values: list[Any] = []
        where = self._where(self.filter if self.gathered else self._on_the_way, None, None, values)
        order = "" if self.gathered else f" order by {self._order}"
        return Query(
            f"select count(*) as number from (select from {self._table} j{where}{order} limit {limit}) as found", values
        )

    def numbers(self, after: Position | None, until: Position | None) -> Query:
        """How many of each state meet the filter in a window."""
        values: list[Any] = []
        where = self._where(self.filter, after, until, values)
        return Query(f"select j.state, count(*) as number from {self._table} j{where} group by 1", values)

    @property
    def _table(self) -> str:
        if self.side == "live":
            return "carafe.jobs"
        if self.along.states and self.along.states <= _DONE:
            return "carafe.jobs_done"
        return "carafe.jobs_dead" if self.along.states == {State.DEAD} else "carafe.jobs_ended"

    @property
    def _leading(self) -> dict[str, str]:
        """The columns that the index has before the time, each with its one value, by the filter's name for it."""
        if self.side == "live":
            return {}
        return {name: value for name in _COLUMNS if (value := getattr(self.along, name)) is not None}

    @property
    def _order(self) -> str:
        time = ("id",) if self.side == "live" else ("ended_at", "id")
        return ", ".join(f"j.{column} desc" for column in (*(_COLUMNS[name] for name in self._leading), *time))

    @property
    def _on_the_way(self) -> JobFilter:
        # What the table says by itself is left out: the index alone then knows the answer.
        implied = self.along.states in (_DONE, {State.DEAD})
        return replace(self.along, states=frozenset()) if implied else self.along

    def _where(self, filter: JobFilter, after: Position | None, until: Position | None, values: list[Any]) -> str:  # noqa: A002
        """What rows of `filter` behind `after`, down to and with `until`, have in common."""

        def bind(value: Any) -> str:
            values.append(value)
            return f"${len(values)}"

        if self.side == "live":
            conditions = filter.conditions(self.side, bind)
            conditions += [f"j.id < {bind(after.id)}::uuid"] if after else []
            conditions += [f"j.id >= {bind(until.id)}::uuid"] if until else []
        else:
            # The leading columns have bounds, not equalities. To the planner an equality says nothing about the order, and
            # it may walk the index that has the time alone: through all that has ended since the last of a kind.
            unled: dict[str, Any] = dict.fromkeys(self._leading)
            conditions = replace(filter, **unled).conditions(self.side, bind)
            for name, value in self._leading.items():
                given = bind(value)
                conditions += [f"j.{_COLUMNS[name]} >= {given}::text", f"j.{_COLUMNS[name]} <= {given}::text"]
            # The time alone once more: the planner leaves out partitions by it, which it does not by the row of both.
            if after:
                at = bind(after.at)
                conditions += [
                    f"j.ended_at <= {at}::timestamptz",
                    f"(j.ended_at, j.id) < ({at}::timestamptz, {bind(after.id)}::uuid)",
                ]
            if until:
                at = bind(until.at)
                conditions += [
                    f"j.ended_at >= {at}::timestamptz",
                    f"(j.ended_at, j.id) >= ({at}::timestamptz, {bind(until.id)}::uuid)",
                ]
        return f" where {' and '.join(conditions)}" if conditions else ""


def walk_of(filter: JobFilter, side: Side, live: Mapping[State, Count]) -> Walk | None:  # noqa: A002
    """The walk for what meets `filter` on this side, given how many are `live`; None when nothing there can."""
    if not filter.touches(side):
        return None
    states = filter.states & (LIVE if side == "live" else ENDED)
    if side == "live":
        return _over_live(replace(filter, states=frozenset() if states == LIVE else states, resolved=None), live)
    if filter.fingerprint is not None or filter.resolved is True:
        states = frozenset({State.DEAD})
    return _over_ended(replace(filter, states=frozenset() if states == ENDED else states))


def _over_live(filter: JobFilter, live: Mapping[State, Count]) -> Walk:  # noqa: A002
    states = filter.states
    if filter.ids:
        return Walk("live", filter, filter)
    if filter.worker is not None and (not states or State.RUNNING in states):
        # Only what runs has a worker.
        return Walk("live", replace(filter, states=frozenset({State.RUNNING})), JobFilter(), gathered=True)
    few = not any(live[state].estimated for state in states)
    if states and few and (len(states) == 1 or states == _WAITING):
        return Walk("live", filter, JobFilter(), gathered=True)
    return Walk("live", filter, JobFilter())


def _over_ended(filter: JobFilter) -> Walk:  # noqa: A002
    if filter.states and filter.states <= _DONE:
        filter = replace(filter, resolved=None)  # noqa: A001  only dead jobs are ever resolved
    if filter.ids:
        return Walk("ended", filter, filter)
    along = JobFilter(since=filter.since, until=filter.until)
    if filter.states == {State.DEAD}:
        along = replace(along, states=filter.states)
        if filter.kind is not None:
            along = replace(along, kind=filter.kind)
            if filter.fingerprint is not None:
                along = replace(along, fingerprint=filter.fingerprint, resolved=False if filter.resolved is False else None)
        elif filter.error_class is not None:
            along = replace(along, error_class=filter.error_class)
        elif filter.resolved is False:
            along = replace(along, resolved=False)
    elif filter.states == {State.CANCELLED}:
        along = replace(along, states=filter.states)
    elif filter.states and filter.states <= _DONE:
        along = replace(along, states=_DONE, kind=filter.kind)
    else:
        along = replace(along, kind=filter.kind)
    return Walk("ended", filter, along)
