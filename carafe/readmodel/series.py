"""The data of the charts: gauges and ended jobs over time, and markers for what people and the autoscaler did.

A step without a sample is a gap, never a zero. Percentiles are taken of merged histograms.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any, cast

from carafe.jobs.errors import InvalidOption
from carafe.jobs.queue_name import QUEUE
from carafe.jobs.stored_json import readable
from carafe.readmodel.histograms import merge, percentile
from carafe.readmodel.records import Marker, Point, Range, Series
from carafe.readmodel.statements import MARKERS, SERIES_ENDS, SERIES_GAUGES
from carafe.store.database import Connection
from carafe.store.humanize import counted
from carafe.store.statements import NOW

PARTS = 12
"""The maximum number of samples that are read for one step."""

SAMPLED = 5.0
"""Seconds between two samples of the gauges."""

LAG = 3.0
"""Seconds until the statistics include a job that has ended."""

AUDITED = 2_000
"""How many of the newest rows of the audit are searched for markers."""

SCALED = 40
"""The maximum number of changes of the number of workers that get a marker. If there are more, the last ones get it."""


@dataclass(frozen=True, slots=True)
class Axis:
    """The time axis of a range. It has `points` steps of `step` seconds. `width` is the width of the statistics' buckets,
    and `kept` is how long an answer is remembered, both in seconds."""

    points: int
    step: int
    width: int
    kept: float


AXES: Mapping[Range, Axis] = MappingProxyType(
    {
        "5m": Axis(30, 10, 10, 2.0),
        "1h": Axis(120, 30, 10, 5.0),
        "24h": Axis(144, 600, 600, 30.0),
        "7d": Axis(168, 3_600, 600, 60.0),
    }
)


def axis_of(range: str) -> Axis:  # noqa: A002
    """Returns the time axis of a range. Raises `InvalidOption` for an unknown range."""
    try:
        return AXES[range]  # type: ignore[index]
    except KeyError:
        raise InvalidOption("range", f"must be one of {', '.join(AXES)} (got {range[:40]!r})") from None


async def series(connection: Connection, range: Range, kind: str | None) -> Series:  # noqa: A002
    """Returns the charts of a range up to now. Raises `InvalidOption` for an unknown range, and what the database raises."""
    axis = axis_of(range)
    now: datetime = await NOW.fetchval(connection)
    # Short steps are shown when they are over and folded; a long one that has begun is shown as far as it goes.
    begun = axis.step >= 600
    last = (now.timestamp() - (0 if begun else LAG)) // axis.step * axis.step + (axis.step if begun else 0)
    until = datetime.fromtimestamp(last, UTC)
    since = until - timedelta(seconds=axis.points * axis.step)
    parts = max(1, min(PARTS, round(axis.step / SAMPLED)))
    gauges = {
        row["bucket"]: row
        for row in await SERIES_GAUGES.fetch(
            connection, points=axis.points, parts=parts, queue=QUEUE, since=since, step=float(axis.step)
        )
    }
    ends: dict[int, list[Mapping[str, Any]]] = {}
    for row in await SERIES_ENDS.fetch(
        connection, since=since, step=float(axis.step), width=axis.width, kind=kind or "", until=until
    ):
        ends.setdefault(row["bucket"], []).append(row)
    points = []
    for index in _range(axis.points):
        at = since + timedelta(seconds=index * axis.step)
        seconds = min(float(axis.step), max(1.0, (now - at).total_seconds()))
        points.append(_point(at, seconds, gauges.get(index), ends.get(index, [])))
    done = await MARKERS.fetch(connection, since=since, limit=AUDITED, kind=kind or "")
    markers = sorted([*map(_marker, done), *_scaled(points)], key=lambda marker: marker.at)
    return Series(range, since, until, float(axis.step), tuple(points), tuple(markers))


_range = range


def _point(at: datetime, seconds: float, gauge: Mapping[str, Any] | None, ends: Sequence[Mapping[str, Any]]) -> Point:
    def sampled(name: str) -> float | None:
        return None if gauge is None else cast("float | None", gauge[name])

    def rate(outcome: str) -> float | None:
        if gauge is None and not ends:
            return None
        return float(sum(row["runs"] for row in ends if row["outcome"] == outcome) / seconds)

    waits, runs = merge(()), merge(())
    for row in ends:
        if row["outcome"] == "succeeded":
            waits[row["number"]] += row["waits"]
        if row["outcome"] in ("succeeded", "retrying", "dead"):
            runs[row["number"]] += row["runs"]
    return Point(
        at=at,
        queued=sampled("queued"),
        running=sampled("running"),
        oldest_wait=sampled("oldest_wait"),
        dead=sampled("dead"),
        slots=sampled("slots"),
        workers=sampled("workers"),
        wanted=sampled("wanted"),
        succeeded_rate=rate("succeeded"),
        dead_rate=rate("dead"),
        wait_p50=percentile(waits, 0.5),
        wait_p95=percentile(waits, 0.95),
        run_p50=percentile(runs, 0.5),
        run_p95=percentile(runs, 0.95),
    )


def _marker(row: Mapping[str, Any]) -> Marker:
    by, why = (f" by {row['actor']}" if row["actor"] else ""), (f": {row['reason']}" if row["reason"] else "")
    match row["action"]:
        case "deploy":
            return Marker(row["at"], "deploy", f"version {row['version']}")
        case "pause":
            return Marker(row["at"], "paused", f"paused{by}{why}")
        case "resume":
            return Marker(row["at"], "resumed", f"resumed{by}{why}")
        case "pause kind":
            return Marker(row["at"], "paused", f"{row['target']} paused{by}{why}")
        case "resume kind":
            return Marker(row["at"], "resumed", f"{row['target']} resumed{by}{why}")
        case _:
            details = readable(row["details"])
            details = details if isinstance(details, dict) else {}
            action, matched = str(details.get("action", "action")).replace("_", " "), details.get("matched")
            jobs = f" of {counted(matched, 'job')}" if isinstance(matched, int) else ""
            return Marker(row["at"], "bulk", f"bulk {action}{jobs}{by}{why}")


def _scaled(points: Iterable[Point]) -> list[Marker]:
    """Returns markers where the number of workers changed from one step to the next."""
    found: list[Marker] = []
    before: int | None = None
    for point in points:
        if point.workers is None:
            before = None
            continue
        now = round(point.workers)
        if before is not None and now != before:
            found.append(Marker(point.at, "scaled", f"{before} → {counted(now, 'worker')}"))
        before = now
    return found[-SCALED:]
