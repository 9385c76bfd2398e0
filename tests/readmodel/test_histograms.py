"""Percentiles of merged histograms, against percentiles of the values themselves."""

from bisect import bisect_right

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carafe.readmodel.histograms import merge, percentile
from carafe.telemetry.metrics import BOUNDS

seconds = st.lists(st.floats(0, 3_000), min_size=1, max_size=200)


def histogram(values: list[float]) -> list[int]:
    bars = [0] * (len(BOUNDS) + 1)
    for value in values:
        bars[bisect_right(BOUNDS, value)] += 1
    return bars


@given(seconds, seconds, st.sampled_from([0.5, 0.95, 1.0]))
def test_a_percentile_lies_in_the_bar_of_the_true_one(some: list[float], others: list[float], share: float) -> None:
    values = sorted(some + others)
    true = values[max(0, -int(-share * len(values) // 1) - 1)]
    found = percentile(merge([histogram(some), histogram(others)]), share)
    assert found is not None
    bar = bisect_right(BOUNDS, true)
    low, high = (BOUNDS[bar - 1] if bar else 0.0), BOUNDS[bar]
    assert low <= found <= high


def test_merged_percentiles_are_not_averaged() -> None:
    fast, slow = histogram([0.2] * 99), histogram([100.0])
    merged = percentile(merge([fast, slow]), 0.95)
    assert merged is not None
    assert merged < 0.25


def test_nothing_has_no_percentile() -> None:
    assert percentile(merge([]), 0.5) is None
    assert percentile(merge([None, [0] * 19]), 0.95) is None


def test_above_all_bounds_it_is_the_last_bound() -> None:
    assert percentile(merge([[0] * len(BOUNDS) + [5]]), 0.5) == BOUNDS[-1]


def test_within_a_bar_it_is_spread_evenly() -> None:
    assert percentile(histogram([3.0] * 10), 0.5) == pytest.approx(2.5 + 2.5 * 0.5)
