"""Charts agree with their series: positions, gaps, steps, markers, and the same numbers in the description and in the
table."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from xml.etree import ElementTree

import pytest

from carafe.dashboard.view.charts import Charts, Line, Panel, draw
from carafe.dashboard.view.rendering import environment
from carafe.readmodel.records import Marker, Point, Range, Series

SINCE = datetime(2026, 11, 25, 14, 0, tzinfo=UTC)
STEP = 30.0
SVG = "{http://www.w3.org/2000/svg}"


def point(index: int, **values: float) -> Point:
    """The bucket `index`, in which only `values` were sampled."""
    names = [name for name in Point.__slots__ if name != "at"]
    sampled: dict[str, Any] = {name: values.get(name) for name in names}
    return Point(at=SINCE + timedelta(seconds=STEP * index), **sampled)


def series(points: list[Point], *markers: Marker, range_: Range = "5m", buckets: int | None = None) -> Series:
    """Of `buckets` buckets (as many as points unless said)."""
    until = SINCE + timedelta(seconds=STEP * (buckets or len(points)))
    return Series(range_, SINCE, until, STEP, tuple(points), markers)


def panel(charts: Charts, key: str) -> Panel:
    return next(panel for panel in charts.panels if panel.key == key)


def line(charts: Charts, key: str) -> Line:
    return next(line for panel in charts.panels for line in panel.lines if line.key == key)


def drawn(charts: Charts) -> str:
    """The panels, marks and table as markup."""
    source = (
        '{% import "macros/chart.html" as chart with context %}'
        '{% for panel in charts.panels %}{{ chart.panel(panel, charts, "last 5 minutes", last=true) }}{% endfor %}'
        '{{ chart.markers(charts) }}{{ chart.table(charts, "/jobs") }}'
    )
    page = environment([], reload=False).from_string(source)
    return page.render(charts=charts, url=lambda path: path, now=SINCE)


def test_values_stand_at_their_time_and_height() -> None:
    charts = draw(series([point(0, queued=0.0), point(1, queued=50.0), point(2, queued=100.0), point(3, queued=100.0)]))
    # Four buckets of 250; heights from the top, 100 at the ground; each from middle to middle, over its run's edges.
    assert line(charts, "queued").path == "M0 100L125 100L375 50L625 0L875 0L1000 0"
    assert line(charts, "queued").area.endswith("L1000 0V100H0Z")


def test_what_was_not_sampled_is_a_gap_and_never_a_zero() -> None:
    charts = draw(series([point(0, queued=10.0), point(1), point(2), point(3, queued=10.0)]))
    assert line(charts, "queued").path.count("M") == 2
    assert " 100" not in line(charts, "queued").path
    (gap,) = panel(charts, "backlog").gaps
    assert (gap.x, gap.width) == (250.0, 500.0)


def test_one_lonely_sample_is_seen() -> None:
    charts = draw(series([point(0), point(1, queued=1.0), point(2), point(3)]))
    assert line(charts, "queued").path == "M250 50L375 50L500 50"


def test_replicas_are_steps_on_a_scale_of_their_own_over_the_backlog() -> None:
    charts = draw(
        series([point(0, queued=1000.0, wanted=1.0, workers=1.0), point(1, queued=1000.0, wanted=4.0, workers=1.0)])
    )
    wanted = line(charts, "wanted")
    assert wanted.right
    assert wanted.path == "M0 75H500V0H1000"
    top = panel(charts, "backlog").levels[0]
    assert (top.left, top.right) == ("1,000", "4")
    # The same buckets, the same places: one time axis.
    assert line(charts, "queued").path.startswith("M0 ")
    assert line(charts, "workers").path.startswith("M0 ")


@pytest.mark.parametrize(
    ("highest", "top", "half"),
    [(0.0, "2", "1"), (1.0, "2", "1"), (3.0, "4", "2"), (61.0, "80", "40"), (100.0, "100", "50"), (101.0, "200", "100")],
)
def test_the_scale_of_jobs_ends_at_a_round_number(highest: float, top: str, half: str) -> None:
    levels = panel(draw(series([point(0, queued=highest)])), "backlog").levels
    assert (levels[0].left, levels[1].left, levels[2].left) == (top, half, "0")


@pytest.mark.parametrize(
    ("highest", "top"), [(0.004, "10 ms"), (0.5, "1.0 s"), (7.0, "10 s"), (61.0, "2 min"), (90_000.0, "2 d")]
)
def test_the_scale_of_seconds_ends_at_a_round_duration(highest: float, top: str) -> None:
    assert panel(draw(series([point(0, wait_p95=highest)])), "wait").levels[0].left == top


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_none_are_gaps(value: float) -> None:
    charts = draw(series([point(0, wait_p95=value), point(1, wait_p95=1.0)]))
    assert line(charts, "wait_p95").path.startswith("M500 ")


def test_marks_that_stand_together_are_one_and_those_outside_are_none() -> None:
    at = SINCE + timedelta(seconds=150)
    markers = [Marker(at + timedelta(seconds=n * 0.1), "scaled", f"{n} workers") for n in range(7)]
    markers += [Marker(at, "deploy", "version 2"), Marker(SINCE - timedelta(seconds=1), "paused", "too early")]
    flags = draw(series([point(n) for n in range(10)], *markers)).flags
    assert {(flag.kind, flag.number) for flag in flags} == {("scaled", 7), ("deploy", 1)}
    scaled = next(flag for flag in flags if flag.kind == "scaled")
    assert scaled.at_percent == 50.0
    assert scaled.text.startswith("14:02:30 0 workers; ")
    assert scaled.text.endswith("; and 2 more")


@pytest.mark.parametrize(("seconds", "first"), [(300, "14:00"), (3600, "14:00"), (86400, "16:00"), (604800, "26 Nov")])
def test_the_time_axis_has_four_to_eight_round_moments(seconds: int, first: str) -> None:
    given = Series("1h", SINCE, SINCE + timedelta(seconds=seconds), 30.0, (), ())
    ticks = draw(given).ticks
    assert 4 <= len(ticks) <= 8
    assert ticks[0].text == first
    assert all(0 <= tick.at_percent <= 100 for tick in ticks)


def test_a_chart_of_which_nothing_was_sampled_is_left_out_and_named() -> None:
    charts = draw(series([point(0), point(1)]))
    assert not charts.panels
    assert not charts.columns
    assert len(charts.absent) == 6
    charts = draw(series([point(0, dead=0.0, workers=1.0), point(1)]))
    assert [panel.key for panel in charts.panels] == ["backlog", "dead"]
    assert charts.absent == ("Running and capacity", "Wait until start", "Succeeded and dead", "Run time")
    assert "Queued: nothing sampled." in panel(charts, "backlog").description


def test_the_charts_of_a_kind_have_only_its_own_lines() -> None:
    sampled = {"queued": 9.0, "oldest_wait": 9.0, "wait_p95": 1.0, "succeeded_rate": 2.0, "dead": 4.0}
    charts = draw(series([point(0, **sampled)]), per_kind=True)
    assert [line.key for panel in charts.panels for line in panel.lines] == [
        "wait_p95",
        "wait_p50",
        "succeeded_rate",
        "dead_rate",
    ]
    assert charts.absent == ("Run time",)


def test_the_description_and_the_table_say_the_same_numbers() -> None:
    charts = draw(series([point(0, queued=1200.0), point(1, queued=42.0), point(2)]))
    assert "Queued: last value 42, maximum 1,200 at 14:00:00 UTC." in panel(charts, "backlog").description
    column = [key for key, _ in charts.columns].index("queued")
    assert [row.cells[column] for row in charts.rows] == ["–", "42", "1,200"], "newest first"
    assert line(charts, "queued").latest == "42"


def test_every_series_has_a_column_and_no_two_share_a_label() -> None:
    charts = draw(series([point(0)]))
    assert [key for key, _ in charts.columns] == [line.key for panel in charts.panels for line in panel.lines]
    labels = [label for _, label in charts.columns]
    assert len(set(labels)) == len(labels)


def test_the_drawing_is_well_formed_titled_and_has_nothing_inline() -> None:
    charts = draw(series([point(0, queued=3.0), point(1)], Marker(SINCE, "deploy", "version 2")))
    for figure in re.findall(r"<figure.*?</figure>", drawn(charts), re.S):
        tree = ElementTree.fromstring(figure.replace("<svg", '<svg xmlns="http://www.w3.org/2000/svg"', 2))
        plot = next(svg for svg in tree.iter() if svg.get("class", "").startswith("plot"))
        ids = {element.get("id") for element in plot.iter()}
        assert plot.get("role") == "img"
        assert set(plot.get("aria-labelledby", "").split()) <= ids
        for element in tree.iter():
            assert not [name for name in element.attrib if name == "style" or name.startswith("on")]


def test_a_row_of_the_table_opens_the_jobs_of_its_bucket() -> None:
    text = drawn(draw(series([point(0, queued=3.0)])))
    assert 'href="/jobs?since=2026-11-25T14:00:00.000Z&amp;until=2026-11-25T14:00:30.000Z"' in text


def test_what_markers_say_is_text() -> None:
    text = drawn(draw(series([point(0)], Marker(SINCE, "bulk", '<script>alert("x")</script>'))))
    assert "<script" not in text
    assert text.count("&lt;script&gt;") == len(draw(series([point(0)])).panels) + 1, "on each panel and in the list"


@pytest.mark.parametrize("change", [lambda one: one.since, lambda one: one.until])
def test_a_range_of_no_length_is_drawn_too(change: Callable[[Series], datetime]) -> None:
    given = series([point(0, queued=1.0)])
    at = change(given)
    draw(Series("5m", at, at, STEP, given.points, ()))
