"""Durations read and written; the dashboard's figures have tests of their own (tests/dashboard/test_formatting.py)."""

import math

import pytest

from carafe import durations


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("30s", 30), (" 5m ", 300), ("5 min", 300), ("1.5h", 5_400), ("2d", 172_800), ("0", 0)],
)
def test_a_duration_is_read_as_seconds(text: str, seconds: float) -> None:
    assert durations.parse(text) == seconds


@pytest.mark.parametrize("text", ["", "m", "-5", "5 weeks", "1e3", "5mm", "nan", "2026-01-31T12:00:00Z"])
def test_anything_else_is_none(text: str) -> None:
    assert durations.parse(text) is None


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0 s"),
        (0.4, "0 s"),
        (8, "8 s"),
        (125, "2 min 5 s"),
        (11_520, "3 h 12 min"),
        (187_200, "2 d 4 h"),
        (math.inf, "forever"),
    ],
)
def test_a_duration_in_a_sentence(seconds: float, text: str) -> None:
    assert durations.in_words(seconds) == text
