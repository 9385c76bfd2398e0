"""Counters, histograms and gauges that cost a worker next to nothing, because they count whole batches at a time.

`carafe.telemetry.metrics` says what Carafe counts; this module does the counting. prometheus_client's own instruments are
made for one observation at a time (a lock and a search for each job). Handlers use those for metrics of their own. One
registry has both, so a scrape returns both.

Guarantees: safe from any thread. An instrument without any value shows nothing, so a web process shows none of a worker's
metrics. The number of job kinds in the labels is limited (`KINDS`), even if someone makes up names.
"""

import threading
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry, Metric

Labels = tuple[str, ...]
Readings = Mapping[Labels, float]

KINDS = 500
"""The greatest number of kinds of jobs that one process counts separately. All further kinds share the label value
`OTHER`."""

OTHER = "(other)"

_instruments: dict[str, "Counter | Histogram | Gauge"] = {}
_kinds: set[str] = set()
_registering = threading.Lock()
_registered: "CollectorRegistry | None" = None


def registry() -> "CollectorRegistry":
    """prometheus_client's default registry, with Carafe's metrics in it. Handlers put metrics of their own there too."""
    global _registered
    with _registering:
        if _registered is None:
            from prometheus_client import REGISTRY

            REGISTRY.register(_Ours())
            _registered = REGISTRY
    return _registered


class _Ours:
    """A collector for prometheus_client that reads every instrument at each scrape."""

    def collect(self) -> "Iterable[Metric]":
        for instrument in list(_instruments.values()):
            yield from instrument.collect()


class _Named:
    """What every instrument has: its name, its help text, and the names of its labels."""

    def __init__(self, name: str, about: str, labels: Sequence[str] = ()) -> None:
        if name in _instruments:
            raise ValueError(f"two metrics are named {name}")
        self.name, self.about, self.labels = name, about, tuple(labels)
        self._kind = self.labels.index("kind") if "kind" in self.labels else None
        self._lock = threading.Lock()

    def _bounded(self, labels: Labels) -> Labels:
        """Returns the label values. If the kind is new and there are `KINDS` kinds already, `OTHER` takes its place."""
        if len(labels) != len(self.labels):
            raise ValueError(f"{self.name} has the labels {self.labels}, not {labels}")
        if self._kind is None or labels[self._kind] in _kinds:
            return labels
        if len(_kinds) < KINDS:
            _kinds.add(labels[self._kind])
            return labels
        return (*labels[: self._kind], OTHER, *labels[self._kind + 1 :])


class Counter(_Named):
    """A total that only rises, for each combination of label values. The counter's name ends in `_total`."""

    def __init__(self, name: str, about: str, labels: Sequence[str] = ()) -> None:
        super().__init__(name, about, labels)
        self._values: dict[Labels, float] = {}
        self._readers: list[Callable[[], Readings]] = []
        _instruments[name] = self

    def add(self, labels: Labels, count: float = 1) -> None:
        """Add `count` to the total with these label values. Adding 0 makes the total show as 0, so that Prometheus's
        ``rate()`` sees the first rise."""
        with self._lock:
            if labels not in self._values:
                labels = self._bounded(labels)
            self._values[labels] = self._values.get(labels, 0) + count

    def follow(self, read: Callable[[], Readings]) -> Callable[[], None]:
        """Add a source: the totals that `read` returns are added to the counter's own. Returns a function that removes the
        source."""
        return _follow(self._readers, read)

    def read(self) -> Readings:
        """The totals now, by label values."""
        with self._lock:
            values = dict(self._values)
        for read in list(self._readers):
            for labels, value in read().items():
                values[labels] = values.get(labels, 0) + value
        return values

    def collect(self) -> "Iterable[Metric]":
        """Yields the metric in the form that prometheus_client collects; nothing if there are no values."""
        from prometheus_client.core import CounterMetricFamily

        values = self.read()
        if values:
            family = CounterMetricFamily(self.name, self.about, labels=self.labels)
            for labels, value in values.items():
                family.add_metric(labels, value)
            yield family


def _follow(readers: "list[Callable[[], Readings]]", read: Callable[[], Readings]) -> Callable[[], None]:
    # A list's own methods are safe from any thread.
    readers.append(read)

    def stop() -> None:
        if read in readers:
            readers.remove(read)

    return stop


class Histogram(_Named):
    """Counts how many observed values lie at or below each of `bounds`. Observes a whole batch at once."""

    def __init__(self, name: str, about: str, labels: Sequence[str], bounds: Sequence[float]) -> None:
        super().__init__(name, about, labels)
        self.bounds = tuple(bounds)
        # For each label values: the counts at or below each bound and the count of all; and the sum.
        self._cells: dict[Labels, tuple[list[int], list[float]]] = {}
        _instruments[name] = self

    def observe(self, labels: Labels, value: float) -> None:
        """Count one observed value."""
        self.observe_many(labels, [value])

    def observe_many(self, labels: Labels, values: list[float]) -> None:
        """Count a batch of observed values. Sorts the list `values` in place: it is cheaper to search the sorted list once
        for each bound than the bounds once for each value."""
        if not values:
            return
        values.sort()
        length = len(values)
        with self._lock:
            found = self._cells.get(labels)
            if found is None:
                found = self._cells.setdefault(self._bounded(labels), ([0] * (len(self.bounds) + 1), [0.0]))
            counts, total = found
            total[0] += sum(values)
            bounds = self.bounds
            # Bounds below the least value count nothing; bounds from the greatest value on count all.
            for index in range(bisect_left(bounds, values[0]), len(bounds)):
                below = bisect_right(values, bounds[index])
                counts[index] += below
                if below == length:
                    for above in range(index + 1, len(counts)):
                        counts[above] += length
                    return
            counts[-1] += length

    def count(self, labels: Labels) -> int:
        """How many values were observed with these label values."""
        found = self._cells.get(labels)
        return found[0][-1] if found else 0

    def collect(self) -> "Iterable[Metric]":
        """Yields the metric in the form that prometheus_client collects; nothing if there are no values."""
        from prometheus_client.core import HistogramMetricFamily

        with self._lock:
            cells = {labels: (list(counts), total[0]) for labels, (counts, total) in self._cells.items()}
        if cells:
            # Written like this by Prometheus itself: 5.0, never 5.
            les = [*(str(float(bound)) for bound in self.bounds), "+Inf"]
            family = HistogramMetricFamily(self.name, self.about, labels=self.labels)
            for labels, (counts, total) in cells.items():
                family.add_metric(labels, list(zip(les, counts, strict=True)), total)
            yield family


class Gauge(_Named):
    """A current value that is read from its sources at each scrape.

    If a process has several sources (`carafe dev` has a web side and a worker), the parameter `merged` says whether the
    gauge shows the greatest of their values, the least, or the sum.
    """

    def __init__(
        self,
        name: str,
        about: str,
        labels: Sequence[str] = (),
        *,
        merged: Literal["greatest", "least", "sum"] = "greatest",
    ) -> None:
        super().__init__(name, about, labels)
        self._merged = merged
        self._readers: list[Callable[[], Readings]] = []
        _instruments[name] = self

    def follow(self, read: Callable[[], Readings]) -> Callable[[], None]:
        """Add a source: show what `read` returns, which is called from any thread. Returns a function that removes the
        source."""
        return _follow(self._readers, read)

    def read(self) -> Readings:
        """The values that the gauge shows now, by label values."""
        found: dict[Labels, list[float]] = {}
        for read in list(self._readers):
            for labels, value in read().items():
                found.setdefault(self._bounded(labels), []).append(value)
        match self._merged:
            case "greatest":
                return {labels: max(values) for labels, values in found.items()}
            case "least":
                return {labels: min(values) for labels, values in found.items()}
            case "sum":
                return {labels: sum(values) for labels, values in found.items()}

    def collect(self) -> "Iterable[Metric]":
        """Yields the metric in the form that prometheus_client collects; nothing if there are no values."""
        from prometheus_client.core import GaugeMetricFamily

        values = self.read()
        if values:
            family = GaugeMetricFamily(self.name, self.about, labels=self.labels)
            for labels, value in values.items():
                family.add_metric(labels, value)
            yield family
