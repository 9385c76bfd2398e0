"""Counters, histograms and gauges that cost a worker next to nothing: whole batches are counted at a time.

What Carafe counts is in `carafe.metrics`; this is how. prometheus_client's own instruments are made for one observation at
a time (a lock and a search for each job) and stay what handlers use for metrics of their own; at a scrape both are in one
registry.

Guarantees: safe from any thread; an instrument that nobody has used shows nothing, so a web process shows nothing of a
worker's; kinds are bounded (`KINDS`), whatever names come in.
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
"""Kinds that one process tells apart; further ones share the label value `OTHER`."""

OTHER = "(other)"

_instruments: dict[str, "Counter | Histogram | Gauge"] = {}
_kinds: set[str] = set()
_registering = threading.Lock()
_registered: "CollectorRegistry | None" = None


def registry() -> "CollectorRegistry":
    """prometheus_client's own registry, where handlers put metrics of their own, with ours in it."""
    global _registered
    with _registering:
        if _registered is None:
            from prometheus_client import REGISTRY

            REGISTRY.register(_Ours())
            _registered = REGISTRY
    return _registered


class _Ours:
    """Reads every instrument, at each scrape."""

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
        """The labels, with the kind replaced when there are too many already."""
        if len(labels) != len(self.labels):
            raise ValueError(f"{self.name} has the labels {self.labels}, not {labels}")
        if self._kind is None or labels[self._kind] in _kinds:
            return labels
        if len(_kinds) < KINDS:
            _kinds.add(labels[self._kind])
            return labels
        return (*labels[: self._kind], OTHER, *labels[self._kind + 1 :])


class Counter(_Named):
    """A total that only rises. Its name ends in `_total`."""

    def __init__(self, name: str, about: str, labels: Sequence[str] = ()) -> None:
        super().__init__(name, about, labels)
        self._values: dict[Labels, float] = {}
        self._readers: list[Callable[[], Readings]] = []
        _instruments[name] = self

    def add(self, labels: Labels, count: float = 1) -> None:
        """Add to one of them; 0 shows it, so that its first rise is seen as one."""
        with self._lock:
            if labels not in self._values:
                labels = self._bounded(labels)
            self._values[labels] = self._values.get(labels, 0) + count

    def follow(self, read: Callable[[], Readings]) -> Callable[[], None]:
        """Show what somebody else counts as well, until the function that this returns is called."""
        return _follow(self._readers, read)

    def read(self) -> Readings:
        """What they have come to."""
        with self._lock:
            values = dict(self._values)
        for read in list(self._readers):
            for labels, value in read().items():
                values[labels] = values.get(labels, 0) + value
        return values

    def collect(self) -> "Iterable[Metric]":
        """As prometheus_client wants it."""
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
    """How many values lie at or below each of `bounds`; observes a batch in one go."""

    def __init__(self, name: str, about: str, labels: Sequence[str], bounds: Sequence[float]) -> None:
        super().__init__(name, about, labels)
        self.bounds = tuple(bounds)
        # Of each: the counts at or below each bound, then the count of all; and the sum.
        self._cells: dict[Labels, tuple[list[int], list[float]]] = {}
        _instruments[name] = self

    def observe(self, labels: Labels, value: float) -> None:
        """Observe one value."""
        self.observe_many(labels, [value])

    def observe_many(self, labels: Labels, values: list[float]) -> None:
        """Observe a batch, which is sorted for it: one search a bound is cheaper than one a value."""
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
            # Below the least value nothing counts, and from the greatest on everything does.
            for index in range(bisect_left(bounds, values[0]), len(bounds)):
                below = bisect_right(values, bounds[index])
                counts[index] += below
                if below == length:
                    for above in range(index + 1, len(counts)):
                        counts[above] += length
                    return
            counts[-1] += length

    def count(self, labels: Labels) -> int:
        """How many values one of them has seen."""
        found = self._cells.get(labels)
        return found[0][-1] if found else 0

    def collect(self) -> "Iterable[Metric]":
        """As prometheus_client wants it."""
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
    """What is so now: read from its followers when somebody scrapes.

    Several in one process (web and worker of `carafe dev`) are merged: the `greatest`, the `least`, or their `sum`.
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
        """Show what `read` gives, whoever's thread asks, until the function that this returns is called."""
        return _follow(self._readers, read)

    def read(self) -> Readings:
        """What it shows now."""
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
        """As prometheus_client wants it."""
        from prometheus_client.core import GaugeMetricFamily

        values = self.read()
        if values:
            family = GaugeMetricFamily(self.name, self.about, labels=self.labels)
            for labels, value in values.items():
                family.add_metric(labels, value)
            yield family
