"""The overview's charts: geometry only, drawn by templates/macros/chart.html.

Six panels over one time axis, so that a look downwards compares them: backlog with the replicas wanted and there, running
against capacity, wait; ends a second, run, dead letters. What the templates get is numbers and words, never markup.

Guarantees: a bucket that nobody sampled is a gap, never a zero; every panel has a title, a description in words and the
same numbers in a table; positions are in 1/1000 of the width (`x`) and percent (`at_percent`), so that lines stretch with
the page and text does not. No inline style is needed (the page's CSP forbids it).

Must never do: average percentiles, or draw what the series does not say.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

from carafe.readmodel.records import Marker, Point, Series
from carafe.web.dashboard import formatting

Unit = Literal["jobs", "replicas", "seconds", "per second"]
Shape = Literal["area", "line", "step"]

WIDTH = 1000.0
"""Of the plot's own coordinates; the browser stretches them to the page's width."""
HEIGHT = 100.0

_MARKERS_APART = 0.012
"""Markers of one kind that stand closer than this share of the width are drawn as one."""
_TEXTS_IN_MARKER = 5


@dataclass(frozen=True, slots=True)
class Line:
    """One series of a panel. `path` is SVG path data, `area` the same closed to the ground (only for areas)."""

    key: str
    label: str
    shape: Shape
    right: bool
    path: str
    area: str
    latest: str
    """The newest sampled value in words."""


@dataclass(frozen=True, slots=True)
class Level:
    """A horizontal line of the grid: `y` from the top in 1/100 of the plot's height, the value in words."""

    y: float
    left: str
    right: str


@dataclass(frozen=True, slots=True)
class Tick:
    """A moment of the time axis. `anchor` keeps the first and last text inside the chart."""

    at_percent: float
    text: str
    anchor: Literal["start", "middle", "end"]


@dataclass(frozen=True, slots=True)
class Flag:
    """One marker, or several of one kind that stand too close to be told apart."""

    at_percent: float
    kind: str
    text: str
    number: int


@dataclass(frozen=True, slots=True)
class Gap:
    """A stretch without samples."""

    x: float
    width: float


@dataclass(frozen=True, slots=True)
class Panel:
    """One chart. `description` says in words what a person would see."""

    key: str
    title: str
    description: str
    lines: tuple[Line, ...]
    levels: tuple[Level, ...]
    gaps: tuple[Gap, ...]


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table: the bucket's begin and end, and one text a column."""

    since: datetime
    until: datetime
    cells: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Charts:
    """All panels of a series. `empty`: nothing at all was sampled in this range."""

    since: datetime
    until: datetime
    step: float
    panels: tuple[Panel, ...]
    ticks: tuple[Tick, ...]
    flags: tuple[Flag, ...]
    columns: tuple[tuple[str, str], ...]
    """(key, label) of every column of the table."""
    rows: tuple[Row, ...]
    """Newest first."""
    empty: bool


@dataclass(frozen=True, slots=True)
class _Source:
    key: str
    label: str
    value: Callable[[Point], float | None]
    unit: Unit
    shape: Shape = "line"
    right: bool = False


@dataclass(frozen=True, slots=True)
class _Plan:
    key: str
    title: str
    sources: tuple[_Source, ...]


_PLANS = (
    _Plan(
        "backlog",
        "Backlog and replicas",
        (
            _Source("queued", "queued", lambda point: point.queued, "jobs", "area"),
            _Source("wanted", "replicas wanted", lambda point: point.wanted, "replicas", "step", right=True),
            _Source("workers", "replicas there", lambda point: point.workers, "replicas", "step", right=True),
        ),
    ),
    _Plan(
        "capacity",
        "Running and capacity",
        (
            _Source("running", "running", lambda point: point.running, "jobs", "area"),
            _Source("slots", "slots", lambda point: point.slots, "jobs", "step"),
        ),
    ),
    _Plan(
        "wait",
        "Wait until start",
        (
            _Source("oldest_wait", "oldest", lambda point: point.oldest_wait, "seconds"),
            _Source("wait_p95", "p95", lambda point: point.wait_p95, "seconds"),
            _Source("wait_p50", "p50", lambda point: point.wait_p50, "seconds"),
        ),
    ),
    _Plan(
        "ends",
        "Done and failed",
        (
            _Source("succeeded_rate", "done", lambda point: point.succeeded_rate, "per second", "area"),
            _Source("dead_rate", "failed", lambda point: point.dead_rate, "per second"),
        ),
    ),
    _Plan(
        "run",
        "Run time",
        (
            _Source("run_p95", "p95", lambda point: point.run_p95, "seconds"),
            _Source("run_p50", "p50", lambda point: point.run_p50, "seconds"),
        ),
    ),
    _Plan("dead", "Dead letters", (_Source("dead", "dead letters", lambda point: point.dead, "jobs", "area"),)),
)

_TABLE_LABELS = {
    "wait_p50": "wait p50",
    "wait_p95": "wait p95",
    "oldest_wait": "oldest wait",
    "run_p50": "run p50",
    "run_p95": "run p95",
}

_WORDS: dict[Unit, Callable[[float | None], str]] = {
    "jobs": formatting.number,
    "replicas": formatting.number,
    "seconds": formatting.duration,
    "per second": formatting.rate,
}

_SECONDS_STEPS = (0.01, 0.02, 0.1, 0.2, 0.4, 1, 2, 4, 10, 20, 30, 60, 120, 240, 600, 1200, 1800, 3600, 7200, 14400, 43200)
_DAY = 86400.0


def draw(series: Series) -> Charts:
    """The charts of `series`."""
    sources = [source for plan in _PLANS for source in plan.sources]
    return Charts(
        since=series.since,
        until=series.until,
        step=series.step,
        panels=tuple(_panel(plan, series) for plan in _PLANS),
        ticks=_ticks(series),
        flags=_flags(series),
        columns=tuple((source.key, _TABLE_LABELS.get(source.key, source.label)) for source in sources),
        rows=tuple(_rows(sources, series)),
        empty=not _any_sampled(sources, series.points),
    )


def _any_sampled(sources: Sequence[_Source], points: Sequence[Point]) -> bool:
    return any(_sampled(source, point) is not None for point in points for source in sources)


def _sampled(source: _Source, point: Point) -> float | None:
    value = source.value(point)
    return value if value is not None and math.isfinite(value) else None


def _panel(plan: _Plan, series: Series) -> Panel:
    left = _top([source for source in plan.sources if not source.right], series.points)
    right = _top([source for source in plan.sources if source.right], series.points)
    words = _WORDS[plan.sources[0].unit]
    has_right = any(source.right for source in plan.sources)
    levels = tuple(
        Level(
            y=HEIGHT * (1 - share),
            left=words(left * share),
            right=formatting.number(right * share) if has_right else "",
        )
        for share in (1.0, 0.5, 0.0)
    )
    return Panel(
        key=plan.key,
        title=plan.title,
        description=" ".join(_sentence(source, series.points) for source in plan.sources),
        lines=tuple(_line(source, series, right if source.right else left) for source in plan.sources),
        levels=levels,
        gaps=_gaps(plan.sources, series),
    )


def _top(sources: Sequence[_Source], points: Sequence[Point]) -> float:
    """The value of the upper edge: the next round number of which a half is round too."""
    values = [value for source in sources for point in points if (value := _sampled(source, point)) is not None]
    highest = max(values, default=0.0)
    if sources and sources[0].unit == "seconds":
        for step in _SECONDS_STEPS:
            if highest <= step:
                return float(step)
        return _DAY * _round_up(highest / _DAY)
    if sources and sources[0].unit == "per second":
        return _round_up(highest) if highest > 0.02 else 0.02
    return max(2.0, _round_up(highest))


def _round_up(value: float) -> float:
    """The least of 2, 4, 6, 8, 10 times a power of ten that is not below `value`."""
    if value <= 0:
        return 2.0
    power = 10.0 ** math.floor(math.log10(value))
    for factor in (1, 2, 4, 6, 8):
        if value <= factor * power * (1 + 1e-9) and factor * power != 1:
            return factor * power
    return 10 * power


def _sentence(source: _Source, points: Sequence[Point]) -> str:
    words = _WORDS[source.unit]
    label = _TABLE_LABELS.get(source.key, source.label).capitalize()
    found = [(value, point.at) for point in points if (value := _sampled(source, point)) is not None]
    if not found:
        return f"{label}: nothing sampled."
    highest, at = max(found, key=lambda pair: pair[0])
    return f"{label}: {words(found[-1][0])} last, at most {words(highest)} at {formatting.clock(at)} UTC."


def _line(source: _Source, series: Series, top: float) -> Line:
    runs = list(_runs(source, series, top))
    values = [value for point in series.points if (value := _sampled(source, point)) is not None]
    return Line(
        key=source.key,
        label=source.label,
        shape=source.shape,
        right=source.right,
        path="".join(_stepped(run) if source.shape == "step" else _straight(run) for run in runs),
        area="".join(_closed(run) for run in runs) if source.shape == "area" else "",
        latest=_WORDS[source.unit](values[-1] if values else None),
    )


@dataclass(frozen=True, slots=True)
class _Place:
    left: float
    middle: float
    right: float
    y: float


def _runs(source: _Source, series: Series, top: float) -> Iterator[list[_Place]]:
    """The stretches of buckets that were sampled, each without a gap."""
    run: list[_Place] = []
    for point in series.points:
        value = _sampled(source, point)
        if value is None:
            if run:
                yield run
                run = []
            continue
        left, right = _span(point, series)
        run.append(_Place(left, (left + right) / 2, right, HEIGHT * (1 - min(max(value / top, 0.0), 1.0))))
    if run:
        yield run


def _span(point: Point, series: Series) -> tuple[float, float]:
    left = _x(point.at, series)
    return left, max(_x(point.at + timedelta(seconds=series.step), series), left)


def _x(at: datetime, series: Series) -> float:
    length = (series.until - series.since).total_seconds()
    share = (at - series.since).total_seconds() / length if length > 0 else 0.0
    return WIDTH * min(max(share, 0.0), 1.0)


def _straight(run: list[_Place]) -> str:
    """From middle to middle; a run reaches over its first and last bucket, so that one lonely sample is seen too."""
    first, last = run[0], run[-1]
    inner = "".join(f"L{_text(place.middle)} {_text(place.y)}" for place in run)
    return f"M{_text(first.left)} {_text(first.y)}{inner}L{_text(last.right)} {_text(last.y)}"


def _stepped(run: list[_Place]) -> str:
    """Upright from bucket to bucket; a stretch of equal ones is one line."""
    path = f"M{_text(run[0].left)} {_text(run[0].y)}"
    for place, after in zip(run, [*run[1:], None], strict=True):
        if after is None or after.y != place.y:
            path += f"H{_text(place.right)}" + ("" if after is None else f"V{_text(after.y)}")
    return path


def _closed(run: list[_Place]) -> str:
    return f"{_straight(run)}V{HEIGHT:.0f}H{_text(run[0].left)}Z"


def _text(number: float) -> str:
    """A tenth of a unit is less than a pixel."""
    return f"{number:.1f}".removesuffix(".0")


def _gaps(sources: Sequence[_Source], series: Series) -> tuple[Gap, ...]:
    """Where none of the panel's series was sampled; touching buckets are one gap."""
    gaps: list[Gap] = []
    for point in series.points:
        if any(_sampled(source, point) is not None for source in sources):
            continue
        left, right = _span(point, series)
        if gaps and abs(gaps[-1].x + gaps[-1].width - left) < 0.01:
            gaps[-1] = Gap(gaps[-1].x, right - gaps[-1].x)
        else:
            gaps.append(Gap(left, right - left))
    return tuple(gaps)


def _ticks(series: Series) -> tuple[Tick, ...]:
    """Four to eight round moments, in UTC."""
    length = (series.until - series.since).total_seconds()
    if length <= 0:
        return ()
    steps = (1, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 14400, 21600, 43200, 86400, 172800, 604800)
    step = next((step for step in steps if length / step <= 7), steps[-1])
    pattern = "%H:%M:%S" if step < 60 else "%H:%M" if step < 43200 else "%d %b"
    first = math.ceil(series.since.timestamp() / step) * step
    ticks = []
    moment = first
    while moment <= series.until.timestamp():
        at = datetime.fromtimestamp(moment, UTC)
        percent = _x(at, series) / WIDTH * 100
        anchor: Literal["start", "middle", "end"] = "start" if percent < 3 else "end" if percent > 97 else "middle"
        ticks.append(Tick(round(percent, 2), at.strftime(pattern), anchor))
        moment += step
    return tuple(ticks)


def _flags(series: Series) -> tuple[Flag, ...]:
    groups: dict[str, list[list[Marker]]] = {}
    for marker in sorted(series.markers, key=lambda marker: marker.at):
        if not series.since <= marker.at <= series.until:
            continue
        of_kind = groups.setdefault(marker.kind, [])
        if of_kind and (_x(marker.at, series) - _x(of_kind[-1][0].at, series)) / WIDTH < _MARKERS_APART:
            of_kind[-1].append(marker)
        else:
            of_kind.append([marker])
    flags = [_flag(group, series) for of_kind in groups.values() for group in of_kind]
    return tuple(sorted(flags, key=lambda flag: flag.at_percent))


def _flag(group: list[Marker], series: Series) -> Flag:
    texts = [f"{formatting.clock(marker.at)} {marker.text}" for marker in group[:_TEXTS_IN_MARKER]]
    if len(group) > _TEXTS_IN_MARKER:
        texts.append(f"and {len(group) - _TEXTS_IN_MARKER} more")
    return Flag(round(_x(group[0].at, series) / WIDTH * 100, 2), group[0].kind, "; ".join(texts), len(group))


def _rows(sources: Sequence[_Source], series: Series) -> Iterator[Row]:
    for point in reversed(series.points):
        yield Row(
            since=point.at,
            until=point.at + timedelta(seconds=series.step),
            cells=tuple(_WORDS[source.unit](_sampled(source, point)) for source in sources),
        )
