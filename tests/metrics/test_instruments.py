"""The instruments by themselves: the same answers as prometheus_client's, from any thread, and bounded."""

import itertools
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client import Histogram as TheirHistogram
from prometheus_client.exposition import generate_latest

from carafe.telemetry import instruments
from carafe.telemetry.instruments import KINDS, OTHER, Counter, Gauge, Histogram
from carafe.telemetry.metrics import BOUNDS
from tests.metrics.processes import samples_of

_numbers = itertools.count()


@pytest.fixture(autouse=True)
def apart(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No instrument of a test's stays, and none knows the kinds of others."""
    monkeypatch.setattr(instruments, "_kinds", set())
    before = dict(instruments._instruments)
    yield
    instruments._instruments.clear()
    instruments._instruments.update(before)


def named() -> str:
    return f"carafe_test_{next(_numbers)}"


class Shown(CollectorRegistry):
    """A registry of one instrument."""

    def __init__(self, instrument: Counter | Histogram | Gauge) -> None:
        super().__init__()
        self.register(instrument)

    def samples(self) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
        return samples_of(generate_latest(self).decode())


@pytest.mark.parametrize("seed", range(20))
def test_a_batch_counts_as_its_values_one_by_one(seed: int) -> None:
    chance = random.Random(seed)
    ours, registry = Histogram(named(), "x", ("queue",), BOUNDS), CollectorRegistry()
    theirs = TheirHistogram(ours.name, "x", ("queue",), buckets=BOUNDS, registry=registry)
    for _ in range(chance.randrange(1, 6)):
        batch = [
            chance.choice([chance.uniform(0, 0.2), chance.expovariate(0.01), *BOUNDS]) for _ in range(chance.randrange(40))
        ]
        for value in batch:
            theirs.labels("default").observe(value)
        ours.observe_many(("default",), list(batch))
    found = samples_of(generate_latest(registry).decode())
    expected = {key: value for key, value in found.items() if not key[0].endswith("_created")}
    assert Shown(ours).samples() == pytest.approx(expected)


def test_threads_lose_nothing() -> None:
    counter, histogram = Counter(named() + "_total", "x", ("queue",)), Histogram(named(), "x", ("queue",), (1, 2))

    def count(_: int) -> None:
        for _ in range(2000):
            counter.add(("default",))
            histogram.observe_many(("default",), [1.5, 0.5])

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(count, range(8)))
    assert counter.read() == {("default",): 16_000}
    assert histogram.count(("default",)) == 32_000


def test_kinds_are_bounded_however_many_come() -> None:
    counter, histogram = Counter(named() + "_total", "x", ("queue", "kind")), Histogram(named(), "x", ("kind",), (1,))
    for number in range(3 * KINDS):
        counter.add(("default", f"k{number}"))
        histogram.observe((f"k{number}",), 0.5)
    assert len(counter.read()) == KINDS + 1
    assert counter.read()["default", OTHER] == 2 * KINDS
    assert histogram.count((OTHER,)) == 2 * KINDS
    assert histogram.count(("k0",)) == 1


def test_zero_shows_a_counter_before_its_first_rise() -> None:
    counter = Counter(named() + "_total", "x", ("queue",))
    assert Shown(counter).samples() == {}
    counter.add(("default",), 0)
    assert list(Shown(counter).samples().values()) == [0]


def test_a_gauge_shows_its_followers_merged_and_nothing_without_one() -> None:
    sums, least = Gauge(named(), "x", ("queue",), merged="sum"), Gauge(named(), "x", merged="least")
    stops = [sums.follow(lambda: {("default",): 5}), sums.follow(lambda: {("default",): 3})]
    least.follow(lambda: {(): 1})
    least.follow(lambda: {(): 0})
    assert sums.read() == {("default",): 8}
    assert least.read() == {(): 0}
    stops[0]()
    assert sums.read() == {("default",): 3}
    stops[1]()
    assert Shown(sums).samples() == {}


def test_wrong_labels_and_a_name_twice_are_refused() -> None:
    counter = Counter(named() + "_total", "x", ("queue",))
    with pytest.raises(ValueError, match="has the labels"):
        counter.add(("default", "k"))
    with pytest.raises(ValueError, match="two metrics are named"):
        Counter(counter.name, "x")


def test_the_docs_list_every_metric_as_it_is() -> None:
    from carafe.telemetry import metrics

    led = {metric.name for metric in metrics.LED}
    rows = [
        f"| `{found.name}` | {type(found).__name__.lower()} | {', '.join(found.labels)} |"
        f" {found.about}{' Leader alone.' if found.name in led else ''} |"
        for found in instruments._instruments.values()
        if not found.name.startswith("carafe_test_")
    ]
    text = (Path(__file__).parents[2] / "docs/monitoring.md").read_text()
    assert [line for line in text.splitlines() if line.startswith("| `carafe_")] == rows
