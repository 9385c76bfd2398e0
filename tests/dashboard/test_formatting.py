"""How the dashboard writes numbers, durations and times."""

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from carafe.dashboard.view import formatting
from carafe.jobs.records import Count

NOW = datetime(2026, 11, 25, 14, 2, 11, 123_000, UTC)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "–"),
        (float("nan"), "–"),
        (0, "0 s"),
        (0.0004, "under 1 ms"),
        (0.34, "340 ms"),
        (0.9996, "1.0 s"),
        (1.24, "1.2 s"),
        (9.96, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 min"),
        (252, "4 min 12 s"),
        (3599.6, "1 h"),
        (12_000, "3 h 20 min"),
        (187_200, "2 d 4 h"),
        (-5.0, "−5.0 s"),
    ],
)
def test_durations(seconds: float | None, text: str) -> None:
    assert formatting.duration(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (0.0, "0/s"), (0.02, "0.02/s"), (1.25, "1.2/s"), (12.4, "12/s"), (33_333.0, "33,333/s"), (-3.1, "-3.1/s")],
)
def test_rates(value: float | None, text: str) -> None:
    assert formatting.rate(value) == text


def test_estimates_are_marked() -> None:
    assert formatting.count(Count(12_345)) == "12,345"
    assert formatting.count(Count(12_345, estimated=True)) == "≈ 12,345"
    assert formatting.count(Count(2_012_345, estimated=True)) == "≈ 2.01 M"
    assert formatting.count(Count(2_012_345)) == "2,012,345"
    assert formatting.count(None) == "–"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.5, "just now"), (1, "1 s ago"), (59.9, "59 s ago"), (60, "1 min ago"), (7_200, "2 h ago"), (-300, "in 5 min")],
)
def test_how_long_ago(seconds: float, text: str) -> None:
    assert formatting.ago(NOW - timedelta(seconds=seconds), NOW) == text


def test_times_are_utc_whatever_zone_they_come_in() -> None:
    at = NOW.astimezone(timezone(timedelta(hours=5, minutes=30)))
    assert formatting.iso(at) == "2026-11-25T14:02:11.123Z"
    assert formatting.stamp(at) == "2026-11-25 14:02:11 UTC"
    assert formatting.clock(at) == "14:02:11"


def test_json_is_readable_and_bounded() -> None:
    assert formatting.json_text({"ü": [1]}) == '{\n  "ü": [\n    1\n  ]\n}'
    long = formatting.json_text(["x" * 300_000])
    assert len(long) < 200_100
    assert "cut here" in long


def test_json_of_any_depth_is_answered_in_words() -> None:
    deep: Any = None
    for _ in range(100_000):
        deep = [deep]
    assert formatting.json_text(deep) == "nested too deeply to be shown"
    # Unwound by hand: the interpreter's own way of freeing it is bounded too, but slow.
    while deep:
        deep = deep.pop()


@pytest.mark.parametrize(
    ("value", "kind"),
    [(None, "null"), (True, "truth"), (0, "number"), (1.5, "number"), ("", "text"), ({}, "object"), ([], "array")],
)
def test_kinds_of_json(value: Any, kind: str) -> None:
    assert formatting.kind_of(value) == kind
    if kind not in ("object", "array"):
        assert json.loads(formatting.scalar_text(value)) == value
