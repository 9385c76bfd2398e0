"""How one table of jobs is read for a filter: along which index, newest first, and which conditions are checked on each row.

Such a read is called a walk. If the index serves all conditions, a walk stops after the rows that it returns. If the index
serves only some of them, the walk goes window by window, each of a fixed number of rows. It stops when enough rows were
found, when a certain number of the newest rows was checked, or when its time is used up. The caller can continue where it
stopped. So every filter, however rare its matches, reads a limited number of rows.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from carafe.jobs.records import Count
from carafe.jobs.states import ENDED, LIVE, State
from carafe.store.cursors import Position
from carafe.store.filters import JobFilter, Side
from carafe.store.job_columns import columns, shown

# ruff: noqa: S608  the text is ours alone; every value is bound

FEW = 10_000
"""The greatest number of jobs that is counted exactly; larger numbers are estimated. If at most this many live jobs are in a
state, they are all fetched by the index on states, and then sorted."""

_DONE = frozenset({State.SUCCEEDED, State.CANCELLED})
_WAITING = frozenset({State.SCHEDULED, State.RETRYING})
_COLUMNS = {"kind": "kind", "fingerprint": "error_fingerprint", "error_class": "error_class"}
"""The columns by which indexes are ordered before they are ordered by time, by the name of the filter's field. Indexes have
them in the order in which they are listed here."""


class Query(NamedTuple):
    """The text of a SQL statement, and the values that it binds."""

    text: str
    values: list[Any]


@dataclass(frozen=True, slots=True)
class Walk:
    """A walk over one table (`side`) for the jobs that match `filter`. `along` is the part of the filter that the index
    serves.

    `gathered`: whether all live jobs of the filter's states are fetched by the index on states, in no order, and sorted
    afterwards.
    """

    side: Side
    filter: JobFilter
    along: JobFilter
    gathered: bool = False

    @property
    def direct(self) -> bool:
        """Whether the index serves all conditions of the filter, so that none has to be checked on each row."""
        return self.gathered or self.along == self.filter

    def rows(self, after: Position | None, until: Position | None, limit: int, *, longest: int | None = None) -> Query:
        """The query for the matching rows after the position `after`, up to and including `until`, newest first. For
        `longest` see `carafe.store.job_columns.shown`."""
        values: list[Any] = []
        where = self._where(self.filter, after, until, values)
        source = f"{self._table} j{where}"
        if self.gathered:
            # The `offset` hides the order from the planner, which might else read all jobs in that order.
            source = f"(select * from {source} offset 0) j"
        # The shown columns are made of the page's rows alone, not of all rows that are sorted for the page.
        found = f"select {columns(live=self.side == 'live')} from {source} order by {self._order} limit {limit}"
        return Query(f"select {shown(longest)} from ({found}) as j order by {_descending(self._time)}", values)

    def boundary(self, after: Position | None, rows: int) -> Query:
        """The query for the end of a window: the position of the last of the next `rows` rows along the index. The query
        returns no row if there are fewer."""
        values: list[Any] = []
        where = self._where(self._on_the_way, after, None, values)
        at = "null::timestamptz as at" if self.side == "live" else "j.ended_at as at"
        return Query(
            f"select {at}, j.id from {self._table} j{where} order by {self._order} offset {rows - 1} limit 1", values
        )

    def number(self, limit: int) -> Query:
        """The query that counts the matching rows, and stops counting at `limit`. Only for a direct walk."""
        values: list[Any] = []
        where = self._where(self.filter if self.gathered else self._on_the_way, None, None, values)
        order = "" if self.gathered else f" order by {self._order}"
        return Query(
            f"select count(*) as number from (select from {self._table} j{where}{order} limit {limit}) as found", values
        )

    def numbers(self, after: Position | None, until: Position | None) -> Query:
        """The query for the numbers of matching rows in the window from `after` to `until`, by state."""
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
        """Those columns that the index has before the time and on which the filter has a condition. Maps the name of the
        filter's field to the value that the filter wants."""
        if self.side == "live":
            return {}
        return {name: value for name in _COLUMNS if (value := getattr(self.along, name)) is not None}

    @property
    def _time(self) -> tuple[str, ...]:
        return ("id",) if self.side == "live" else ("ended_at", "id")

    @property
    def _order(self) -> str:
        return _descending((*(_COLUMNS[name] for name in self._leading), *self._time))

    @property
    def _on_the_way(self) -> JobFilter:
        # A state that the choice of the table already implies is left out, so that the index alone has the answer.
        implied = self.along.states in (_DONE, {State.DEAD})
        return replace(self.along, states=frozenset()) if implied else self.along

    def _where(self, filter: JobFilter, after: Position | None, until: Position | None, values: list[Any]) -> str:  # noqa: A002
        """The SQL ``where`` for rows that match `filter`, after the position `after`, up to and including `until`. Adds the
        values that it binds to `values`."""

        def bind(value: Any) -> str:
            values.append(value)
            return f"${len(values)}"

        if self.side == "live":
            conditions = filter.conditions(self.side, bind)
            conditions += [f"j.id < {bind(after.id)}::uuid"] if after else []
            conditions += [f"j.id >= {bind(until.id)}::uuid"] if until else []
        else:
            # The leading columns get bounds, not equalities. With an equality the planner may choose the index on the time
            # alone, and read all jobs that have ended since the last one of this kind.
            unled: dict[str, Any] = dict.fromkeys(self._leading)
            conditions = replace(filter, **unled).conditions(self.side, bind)
            for name, value in self._leading.items():
                given = bind(value)
                conditions += [f"j.{_COLUMNS[name]} >= {given}::text", f"j.{_COLUMNS[name]} <= {given}::text"]
            # A condition on the time alone comes first: with it the planner leaves out partitions, which it does not do by
            # the comparison of (time, id).
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


def _descending(names: Iterable[str]) -> str:
    return ", ".join(f"j.{name} desc" for name in names)


def weighs(filter: JobFilter) -> bool:  # noqa: A002
    """Whether `walk_of` must know the numbers of live jobs to choose the walk for this filter."""
    return bool(filter.states & LIVE) and not filter.states >= LIVE and filter.touches("live")


def led_by_class(filter: JobFilter, side: Side) -> bool:  # noqa: A002
    """Whether the index that begins with the class of the error would serve this filter. `walk_of` takes it if it knows the
    whole name of the class."""
    if side == "live" or filter.error_class is None or filter.kind is not None or filter.ids:
        return False
    return _ended_states(filter) == {State.DEAD}


def walk_of(
    filter: JobFilter,  # noqa: A002
    side: Side,
    live: Mapping[State, Count],
    *,
    whole_class: str | None = None,
) -> Walk | None:
    """The walk for the jobs in the table `side` that match `filter`, or None if no job in that table can match. `live` has
    the numbers of live jobs by state. `whole_class` is the whole name of the only class among dead jobs that the filter's
    error class means (`carafe.store.error_classes`)."""
    if not filter.touches(side):
        return None
    if side == "live":
        states = filter.states & LIVE
        return _over_live(replace(filter, states=frozenset() if states == LIVE else states, resolved=None), live)
    states = _ended_states(filter)
    return _over_ended(replace(filter, states=frozenset() if states == ENDED else states), whole_class)


def _ended_states(filter: JobFilter) -> frozenset[State]:  # noqa: A002
    dead_only = filter.fingerprint is not None or filter.resolved is True
    return frozenset({State.DEAD}) if dead_only else filter.states & ENDED


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


def _over_ended(filter: JobFilter, whole_class: str | None) -> Walk:  # noqa: A002
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
        elif whole_class is not None:
            filter = replace(filter, error_class=whole_class)  # noqa: A001
            along = replace(along, error_class=whole_class)
        elif filter.resolved is False:
            along = replace(along, resolved=False)
    elif filter.states == {State.CANCELLED}:
        along = replace(along, states=filter.states)
    elif filter.states and filter.states <= _DONE:
        along = replace(along, states=_DONE, kind=filter.kind)
    else:
        along = replace(along, kind=filter.kind)
    return Walk("ended", filter, along)
