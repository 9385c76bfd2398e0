"""A web process, workers and a steward as processes, and what they show."""

import http.client
import re
from collections.abc import Mapping
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from tests.engine.worker_process import WorkerProcess
from tests.waiting import eventually

SERVE_WEB = ("serve",)
STEWARD = ("steward",)

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


class Process(WorkerProcess):
    """One of Carafe's processes that serves /metrics, whichever it is."""

    def __init__(self, environment: Mapping[str, str], folder: Path, *command: str) -> None:
        import sys

        self.url = ""
        super().__init__(environment, folder, (sys.executable, "-m", "carafe", *command))

    def is_up(self) -> bool:
        """Whether it says where its metrics are."""
        if self.process.poll() is not None:
            raise RuntimeError(f"it ended with {self.process.returncode}:\n{self.log}")
        for event, field in (("serving", "metrics"), ("steward started", "metrics"), ("worker starting", "probes")):
            for line in self.events(event):
                self._port = int(line[field])
                self.url = str(line.get("url", ""))
        return self._port is not None and self.probe("/metrics")[0] == 200

    @property
    def port(self) -> int:
        """The port of /metrics."""
        assert self._port is not None
        return self._port

    def metrics(self, accept: str = "text/plain") -> str:
        """The text of /metrics."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("GET", "/metrics", headers={"Accept": accept})
            response = connection.getresponse()
            assert response.status == 200
            return response.read().decode()
        finally:
            connection.close()

    def samples(self) -> Samples:
        """Carafe's own samples."""
        return samples_of(self.metrics())

    async def at_rest(self, *, ends: int = 1) -> Samples:
        """A worker's samples, once it has counted at least this many ends, and the end of all that it has started: it counts
        when it has committed, so what is read in the tables may not be counted yet, neither as started nor as ended."""

        def over() -> Samples | None:
            samples = self.samples()
            finished = total(samples, "carafe_jobs_finished_total")
            return samples if finished == total(samples, "carafe_jobs_started_total") >= ends else None

        found = await eventually(over, 30)
        assert found is not None
        return found


def samples_of(text: str) -> Samples:
    """Carafe's own samples in a text of /metrics."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if re.match("carafe_", sample.name)
    }


def total(samples: Samples, name: str, **labels: str) -> float:
    """The sum of one metric's samples that have these labels."""
    return sum(value for (found, has), value in samples.items() if found == name and labels.items() <= dict(has).items())
