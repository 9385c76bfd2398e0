"""Prometheus metrics: every metric's name, help and labels stand here; their values are read when somebody scrapes.

Nothing is counted twice for a scrape: the engine keeps plain counters for itself, and a metric is a function that reads
them. Importing this costs nothing; prometheus_client is imported at the first scrape.
Labels are queue, kind and outcome only: a pod's name explodes under autoscaling.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

Values = Mapping[tuple[str, ...], float]


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric and how to read it: `read` gives a value for each combination of label values."""

    name: str
    help: str
    type: Literal["counter", "gauge"]
    labels: tuple[str, ...]
    read: Callable[[], Values]


_metrics: dict[str, Metric] = {}
_registry: "CollectorRegistry | None" = None


def expose(*metrics: Metric) -> None:
    """Expose metrics from now on; one that has the name of an earlier one replaces it."""
    for metric in metrics:
        _metrics[metric.name] = metric


def registry() -> "CollectorRegistry":
    """prometheus_client's own registry, where handlers put metrics of their own, with ours in it."""
    global _registry
    if _registry is None:
        from prometheus_client import REGISTRY

        REGISTRY.register(_Ours())
        _registry = REGISTRY
    return _registry


class _Ours:
    """Reads what is exposed, at each scrape."""

    def collect(self) -> Iterable[Any]:
        """One family a metric."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        for metric in list(_metrics.values()):
            family = (CounterMetricFamily if metric.type == "counter" else GaugeMetricFamily)(
                metric.name, metric.help, labels=metric.labels
            )
            for labels, value in metric.read().items():
                family.add_metric(labels, value)
            yield family
