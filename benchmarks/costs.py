"""What observing costs a drain: metrics, tracing that is off, and tracing of one job in a hundred.

Each round drains the same no-op jobs through four builds of the worker, in an order that turns: one without the lines
that count and trace (the source with those lines taken out, so that nothing else differs), one that counts, the one that
ships (it counts, and tracing is off), and that one with ``TRACING_SAMPLE_RATIO=0.01`` and a receiver. Prints the ratios of
rounds, their median and its 95 % interval: by rank (of 20 rounds the 6th to the 15th), which assumes no distribution.

Run it: `python -m benchmarks.costs [--rounds 20] [--builds metrics,sampled] [--jobs 150000]`. Everything it starts is ended.
"""

import argparse
import http.server
import math
import shutil
import statistics
import sys
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from benchmarks.measurements import ROOT, Bench, drain_and_cpu
from benchmarks.servers import Servers
from benchmarks.size import SMALLEST, sized
from benchmarks.systems.carafe import CARAFE
from benchmarks.systems.system import SLOTS

JOBS = sized(150_000, 200)
"""Of one drain: about four seconds."""

Edit = tuple[str, str, str]
"""A file, a text that stands in it once, and what takes its place."""

UNCOUNTED: Sequence[Edit] = (
    (
        "carafe/engine/ledger.py",
        """                metrics.CLAIM_SECONDS.observe(metrics.QUEUED, time.monotonic() - began)
                metrics.CLAIM_JOBS.observe(metrics.QUEUED, len(hints))
                _count_claims([*rows, *(row for row, _ in bad)] if bad else rows)
""",
        "",
    ),
    (
        "carafe/engine/ledger.py",
        """                metrics.END_SECONDS.observe(metrics.QUEUED, time.monotonic() - began)
                metrics.END_JOBS.observe(metrics.QUEUED, len(ends))
""",
        "",
    ),
    (
        "carafe/engine/ledger.py",
        """    kinds = {end.claim.kind for end in ends}
    for kind in kinds:
        of_kind = ends""",
        """    for kind in ():
        of_kind = ends""",
    ),
)
"""Takes out what a worker counts for each batch; gauges are read at a scrape alone."""

UNTRACED: Sequence[Edit] = (
    (
        "carafe/engine/runner.py",
        """        if self._tracing is None:
            self._log.started(claim.id, claim.kind, claim.attempt)
        else:
            traced = claim.traced = self._tracing.begin(claim)
            self._log.started(claim.id, claim.kind, claim.attempt, None if traced is None else traced.trace_id)
""",
        """        self._log.started(claim.id, claim.kind, claim.attempt)
""",
    ),
    (
        "carafe/engine/runner.py",
        """            if claim.traced is not None:
                _end_span(claim, end)
""",
        "",
    ),
    (
        "carafe/engine/ledger.py",
        "job_log.completed(claim.id, claim.kind, claim.attempt, end.seconds, claim.trace_id)",
        "job_log.completed(claim.id, claim.kind, claim.attempt, end.seconds)",
    ),
    ("carafe/engine/claim.py", "        self.traced: Traced | None = None\n", ""),
)
"""Takes out what a job that succeeds pays for tracing while it is off."""


class Sink:
    """A receiver of spans that answers 200 and counts requests. Use it as a context manager."""

    def __init__(self) -> None:
        self.requests = 0
        sink = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                sink.requests += 1
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        """For OTEL_EXPORTER_OTLP_ENDPOINT, with http/protobuf."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


@dataclass(frozen=True, slots=True)
class Build:
    """A build of the worker, and its environment beyond the usual."""

    name: str
    edits: Sequence[Edit] = ()
    variables: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Cost:
    """What is compared, and how much of the rate it may cost."""

    what: str
    of: str
    against: str
    limit: float


COSTS = (
    Cost("metrics", "metrics", "neither", 0.03),
    Cost("tracing, off", "shipped", "metrics", 0.01),
    Cost("tracing, 1 % of jobs", "sampled", "metrics", 0.05),
)


def builds(receiver: str) -> tuple[Build, ...]:
    """The four, all with the port for metrics open (but for the first, which has nothing to show)."""
    sampled = (
        ("TRACING_SAMPLE_RATIO", "0.01"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", receiver),
        # A drain takes seconds: spans are to be sent within it, not after the usual five.
        ("OTEL_BSP_SCHEDULE_DELAY", "1000"),
    )
    return (
        Build("neither", (*UNCOUNTED, *UNTRACED), (("METRICS_PORT", "0"),)),
        Build("metrics", UNTRACED),
        Build("shipped"),
        Build("sampled", (), sampled),
    )


def lay(build: Build, folder: Path) -> None:
    """The package as this build has it. Raises ``RuntimeError`` for an edit that fits no longer."""
    # With what is compiled: Python compiles again whatever is edited.
    shutil.copytree(ROOT / "carafe", folder / "carafe")
    for name, old, new in build.edits:
        path = folder / name
        text = path.read_text()
        if text.count(old) != 1:
            raise RuntimeError(f"{name} holds {text.count(old)} times what the build '{build.name}' takes out:\n{old}")
        path.write_text(text.replace(old, new))


def interval(values: Sequence[float]) -> tuple[float, float]:
    """The 95 % interval of the median, by rank; the whole range where there are too few values for one."""
    ordered, count = sorted(values), len(values)
    rank = 0
    while sum(math.comb(count, below) for below in range(rank + 1)) / 2**count <= 0.025:
        rank += 1
    first = max(rank - 1, 0)
    return ordered[first], ordered[count - 1 - first]


def table(costs: Sequence[Cost], rates: dict[str, list[float]], seconds: dict[str, list[float]]) -> str:
    """What each costs, in rate and in the worker's processor time a job."""
    lines = ["| | ratio of rates, median | 95 % interval | may cost | ratio of processor time, median | 95 % interval |"]
    lines.append("|---|---:|---:|---:|---:|---:|")
    for cost in costs:
        cells = [cost.what]
        for measured in (rates, seconds):
            ratios = [of / against for of, against in zip(measured[cost.of], measured[cost.against], strict=True)]
            low, high = interval(ratios)
            cells += [f"{statistics.median(ratios):.3f}", f"{low:.3f} to {high:.3f}"]
        cells.insert(3, f"{cost.limit:.0%}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> int:
    """The exit code: 1 when the median of a cost is above its limit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=sized(20, 1))
    parser.add_argument("--builds", default="neither,metrics,shipped,sampled", help="some of them, separated by commas")
    parser.add_argument("--jobs", type=int, default=JOBS, help="of one drain")
    given = parser.parse_args()
    rounds: int = given.rounds
    named = given.builds.split(",")
    costs = [cost for cost in COSTS if {cost.of, cost.against} <= set(named)]
    with Sink() as sink, Servers() as servers, tempfile.TemporaryDirectory() as name:
        compared = [build for build in builds(sink.url) if build.name in named]
        rates: dict[str, list[float]] = {build.name: [] for build in compared}
        seconds: dict[str, list[float]] = {build.name: [] for build in compared}
        bench = Bench(CARAFE, servers)
        settings = {}
        for build in compared:
            folder = Path(name, build.name)
            lay(build, folder)
            usual = CARAFE.settings[SLOTS]
            path = f"{folder}:{ROOT}"
            worker = usual.workers[0]
            worker = replace(worker, variables={**worker.variables, **dict(build.variables), "PYTHONPATH": path})
            settings[build.name] = replace(usual, workers=(worker,), jobs=given.jobs)
        for turn in range(0 if SMALLEST else -1, rounds):
            for build in (*compared[turn % len(compared) :], *compared[: turn % len(compared)]):
                rate, spent = drain_and_cpu(bench, settings[build.name])
                if turn >= 0:  # the round before the first compiles and warms up
                    rates[build.name].append(rate)
                    seconds[build.name].append(spent / given.jobs)
            if turn >= 0:
                said = ", ".join(f"{name} {found[-1]:,.0f}" for name, found in rates.items())
                print(f"{turn + 1}/{rounds}: {said} jobs/s", file=sys.stderr, flush=True)
        if "sampled" in named and not SMALLEST and sink.requests < rounds:
            raise RuntimeError(f"the receiver was sent spans {sink.requests} times in {rounds} rounds of tracing")
    print(table(costs, rates, seconds))
    ratios = {
        cost.what: statistics.median(of / against for of, against in zip(rates[cost.of], rates[cost.against], strict=True))
        for cost in costs
    }
    return int(not SMALLEST and any(ratios[cost.what] < 1 - cost.limit for cost in costs))


if __name__ == "__main__":
    sys.exit(main())
