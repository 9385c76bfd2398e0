"""Computes the overview's charts: positions and texts, which templates/macros/chart.html draws.

There are six charts (panels) over the same time axis, so that they can be compared:

1. backlog, with the workers wanted and alive
2. running jobs and capacity
3. wait until start
4. jobs that succeeded and died, per second
5. run time
6. dead letters

Templates get numbers and words from here, never markup.

Guarantees: a bucket of time without samples is drawn as a gap, not as zero. Every panel has a title, a description in
words, and the same numbers in a table. Positions are in 1/1000 of the width (`x`) or in percent (`at_percent`), so that
lines stretch with the page while text does not. Nothing here needs an inline style: the page's
Content-Security-Policy forbids those.
Must never: average percentiles, or draw anything that is not in the series.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Literal

from carafe.dashboard.view import formatting
from carafe.readmodel.records import Marker, Point, Series

Unit = Literal["jobs", "replicas", "seconds", "per second"]
Shape = Literal["area", "line", "step"]

WIDTH = 1000.0
"""Width of the plot in its own coordinates, which the browser stretches to the page's width."""
HEIGHT = 100.0
"""Height of the plot in its own coordinates."""

_MARKERS_APART = 0.012
"""Markers of the same kind that are closer together than this share of the width are drawn as one."""
_TEXTS_IN_MARKER = 5


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a panel. `path` is SVG path data. `area` is that path closed along the bottom, for areas only."""

    key: str
    label: str
    shape: Shape
    right: bool
    path: str
    area: str
    latest: str
    """The newest sampled value, as text."""


@dataclass(frozen=True, slots=True)
class Level:
    """A horizontal grid line: `y` in 1/100 of the plot's height from the top, and its value at the left and right axis."""

    y: float
    left: str
    right: str


@dataclass(frozen=True, slots=True)
class Tick:
    """A label of the time axis. `anchor` keeps the first and the last label inside the chart."""

    at_percent: float
    text: str
    anchor: Literal["start", "middle", "end"]


@dataclass(frozen=True, slots=True)
class Flag:
    """One marker, or `number` markers of the same kind that are too close together to be drawn separately."""

    at_percent: float
    kind: str
    text: str
    number: int


@dataclass(frozen=True, slots=True)
class Gap:
    """A part of the time axis without samples, in 1/1000 of the width."""

    x: float
    width: float


@dataclass(frozen=True, slots=True)
class Panel:
    """One chart. `description` is a text that says what the chart shows, for people who cannot see it."""

    key: str
    title: str
    description: str
    lines: tuple[Line, ...]
    levels: tuple[Level, ...]
    gaps: tuple[Gap, ...]


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the table of numbers: the start and the end of a bucket of time, and the text of each column."""

    since: datetime
    until: datetime
    cells: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Charts:
    """All charts of one time range of which something was sampled."""

    since: datetime
    until: datetime
    step: float
    panels: tuple[Panel, ...]
    absent: tuple[str, ...]
    """The titles of charts that are left out, because nothing was sampled for them."""
    ticks: tuple[Tick, ...]
    flags: tuple[Flag, ...]
    columns: tuple[tuple[str, str], ...]
    """The key and the label of each column of the table."""
    rows: tuple[Row, ...]
    """The rows of the table, newest first."""


@dataclass(frozen=True, slots=True)
class _Source:
    key: str
    label: str
    value: Callable[[Point], float | None]
    unit: Unit
    shape: Shape = "line"
    right: bool = False
    per_kind: bool = False
    """Whether there are values of one kind alone."""


@dataclass(frozen=True, slots=True)
class _Plan:
    key: str
    title: str
    sources: tuple[_Source, ...]


_PLANS = (
    _Plan(
        "backlog",
        "Backlog and workers",
        (
            _Source("queued", "queued", lambda point: point.queued, "jobs", "area"),
            _Source("wanted", "workers wanted", lambda point: point.wanted, "replicas", "step", right=True),
            _Source("workers", "workers alive", lambda point: point.workers, "replicas", "step", right=True),
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
            _Source("wait_p95", "p95", lambda point: point.wait_p95, "seconds", per_kind=True),
            _Source("wait_p50", "p50", lambda point: point.wait_p50, "seconds", per_kind=True),
        ),
    ),
    _Plan(
        "ends",
        "Succeeded and dead",
        (
            _Source("succeeded_rate", "succeeded", lambda point: point.succeeded_rate, "per second", "area", per_kind=True),
            _Source("dead_rate", "dead", lambda point: point.dead_rate, "per second", per_kind=True),
        ),
    ),
    _Plan(
        "run",
        "Run time",
        (
            _Source("run_p95", "p95", lambda point: point.run_p95, "seconds", per_kind=True),
            _Source("run_p50", "p50", lambda point: point.run_p50, "seconds", per_kind=True),
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


def draw(series: Series, *, per_kind: bool = False) -> Charts:
    """Returns the charts of a series, without those of which nothing was sampled. With `per_kind`, only the lines that a
    series of one kind has values of its own for are drawn."""
    sampled: list[_Plan] = []
    absent: list[_Plan] = []
    for plan in _PLANS:
        lines = tuple(source for source in plan.sources if source.per_kind or not per_kind)
        if lines:
            (sampled if _any_sampled(lines, series.points) else absent).append(replace(plan, sources=lines))
    sources = [source for plan in sampled for source in plan.sources]
    return Charts(
        since=series.since,
        until=series.until,
        step=series.step,
        panels=tuple(_panel(plan, series) for plan in sampled),
        absent=tuple(plan.title for plan in absent),
        ticks=_ticks(series),
        flags=_flags(series),
        columns=tuple((source.key, _TABLE_LABELS.get(source.key, source.label)) for source in sources),
        rows=tuple(_rows(sources, series)),
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
    """Returns the value at the upper edge of a plot: the next round number whose half is round too."""
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
    """Returns the smallest number that is not below `value` and is 2, 4, 6, 8 or 10 times a power of ten."""
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
    return f"{label}: last value {words(found[-1][0])}, maximum {words(highest)} at {formatting.clock(at)} UTC."


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
    """Yields each run of consecutive buckets that have samples, as positions in the plot."""
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
    """Returns the SVG path of a line through the middles of the buckets.

    It covers the first and the last bucket fully, so that a single sample is visible too.
    """
    first, last = run[0], run[-1]
    inner = "".join(f"L{_text(place.middle)} {_text(place.y)}" for place in run)
    return f"M{_text(first.left)} {_text(first.y)}{inner}L{_text(last.right)} {_text(last.y)}"


def _stepped(run: list[_Place]) -> str:
    """Returns the SVG path of a line with a vertical step between buckets; equal values in a row are one horizontal line."""
    path = f"M{_text(run[0].left)} {_text(run[0].y)}"
    for place, after in zip(run, [*run[1:], None], strict=True):
        if after is None or after.y != place.y:
            path += f"H{_text(place.right)}" + ("" if after is None else f"V{_text(after.y)}")
    return path


def _closed(run: list[_Place]) -> str:
    return f"{_straight(run)}V{HEIGHT:.0f}H{_text(run[0].left)}Z"


def _text(number: float) -> str:
    """Returns a coordinate as text, rounded to a tenth, which is less than a pixel."""
    return f"{number:.1f}".removesuffix(".0")


def _gaps(sources: Sequence[_Source], series: Series) -> tuple[Gap, ...]:
    """Returns the gaps: the buckets in which none of the panel's lines has a sample. Adjacent buckets are one gap."""
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
    """Returns the labels of the time axis: up to eight round moments, in UTC."""
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
