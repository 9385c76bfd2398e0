"""The measurements: what each metric is, from an empty pair of servers to its numbers."""

import json
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks import environments, history, probe
from benchmarks.processes import WorkerFailed, Workers
from benchmarks.servers import Servers
from benchmarks.size import moment, sized
from benchmarks.systems.system import CORES, PRODUCER, SLOTS, WAITS, Program, Setting, System

ROOT = Path(__file__).parent.parent
STALL = 30.0  # seconds without any progress that end a wait
DEADLINE = 180.0  # seconds that end it in any case; what is slow but moves is measured, not dropped
LATENCY_JOBS = sized(300, 10)
LATENCY_GAP = 0.015  # seconds between two jobs, on average
WAIT_JOBS = sized(1_000, 10)
SINGLE_JOBS = sized(1_000, 10)
HISTORY = sized(2_000_000, 1_000)


@dataclass(frozen=True, slots=True)
class Value:
    """One number: a metric with its unit; `lower_is_better` tells the table which way a ratio goes."""

    metric: str
    unit: str
    value: float
    lower_is_better: bool = False


class Bench:
    """One system on the shared servers, with its variables, folders and template database."""

    def __init__(self, system: System, servers: Servers, *, install: bool = True) -> None:
        self.system = system
        self.servers = servers
        self.programs = environments.programs(system.peer, install=install)
        self.folder = ROOT / "benchmarks" / "peers" / system.peer if system.peer else environments.ENVIRONMENTS
        self._template = f"template {system.name}" if system.ends else None
        if self._template:
            servers.drop(self._template)
            servers.create(self._template)
            self.produce("prepare", database=servers.database_url(self._template))

    def empty(self) -> None:
        self.servers.empty(self._template)

    def empty_but_for_history(self) -> None:
        assert self._template is not None
        self.servers.empty(history.template(self.servers, self._template, HISTORY))

    def variables(self, more: Mapping[str, str], database: str | None = None) -> dict[str, str]:
        """The environment of a process of this system: nothing of ours beyond what it takes to start."""
        url = database or self.servers.database_url()
        kept = {name: os.environ[name] for name in ("HOME", "LANG", "LC_ALL", "TMPDIR") if name in os.environ}
        return {
            **kept,
            "PATH": f"{self.programs}:{os.environ.get('PATH', '')}",
            "PYTHONPATH": f"{self.folder}:{ROOT}",
            "DATABASE_URL": url,
            "OBAN_DSN": url,
            "REDIS_URL": self.servers.redis_url,
            **self.system.variables,
            **more,
        }

    def produce(self, *arguments: str, database: str | None = None, probes: Path | None = None) -> dict[str, object]:
        """Run the system's producer (see producer.py) and return what it printed."""
        command = [str(self.programs / "python"), "-m", "benchmarks.producer", self.system.producer, *arguments]
        variables = self.variables({"PROBE_DIR": str(probes or "/nonexistent")}, database)
        try:
            ran = subprocess.run(
                command, cwd=self.folder, env=variables, check=True, capture_output=True, text=True, timeout=DEADLINE
            )
        except subprocess.CalledProcessError as error:
            raise WorkerFailed(f"its producer failed: {' / '.join(error.stderr.strip().splitlines()[-3:])}") from error
        except subprocess.TimeoutExpired as error:
            raise WorkerFailed(f"its producer took more than {DEADLINE:.0f} s for {' '.join(arguments)}") from error
        answer: dict[str, object] = json.loads(ran.stdout.splitlines()[-1])
        return answer

    def _path_of(self, program: str) -> str:
        return shutil.which(program, path=str(self.programs)) or program

    @contextmanager
    def work(self, setting: Setting) -> Iterator["Running"]:
        """The setting's workers, running until the context is left."""
        folder = Path(tempfile.mkdtemp(prefix="bench-"))
        probes = folder / "probes"
        probes.mkdir()
        commands = []
        for worker in setting.workers:
            program, *rest = worker.command
            command = [self._path_of(part) if isinstance(part, Program) else part for part in (Program(program), *rest)]
            commands.append((command, self.variables({**worker.variables, "PROBE_DIR": str(probes)})))
        try:
            with Workers(commands, folder=self.folder, log=folder / "log") as workers:
                yield Running(workers, probes)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True, slots=True)
class Running:
    """Running workers and what they say through the probe."""

    workers: Workers
    probes: Path

    def wait(self, reached: Callable[[probe.Reading], bool], what: str) -> probe.Reading:
        """Wait until `reached`; raises `WorkerFailed` with the workers' words when they die, stall or take too long."""
        began = moved = time.monotonic()
        before = -1
        while not reached(reading := probe.read(self.probes)):
            self.workers.check()
            now = time.monotonic()
            if (done := reading.started + reading.ended) != before:
                before, moved = done, now
            if now - moved > STALL or now - began > DEADLINE:
                why = f"nothing moved for {STALL:.0f} s" if now - moved > STALL else f"not done in {DEADLINE:.0f} s"
                counts = f"{reading.started} started and {reading.ended} ended"
                raise WorkerFailed(f"{what}: {why}; {counts}; {self.workers.said()}")
            time.sleep(0.01)
        return reading


def drain(bench: Bench, setting: Setting) -> list[Value]:
    """No-ops enqueued first, then the workers: rate from the first start to the last end, by the jobs' own times."""
    bench.empty()
    return [Value("drain", "jobs/s", _drained(bench, setting))]


def drain_and_cpu(bench: Bench, setting: Setting) -> tuple[float, float]:
    """The rate of a drain, and the processor seconds that the workers had spent at its end, their start included."""
    bench.empty()
    spent = 0.0

    def look(running: Running) -> None:
        nonlocal spent
        spent = running.workers.cpu()

    return _drained(bench, setting, at_the_end=look), spent


def drain_analyzed(bench: Bench, setting: Setting) -> list[Value]:
    """The same with an ANALYZE between enqueueing and draining.

    The planner then knows a table in which every job is queued and none runs: what an autoanalyze of a backlog leaves
    while no worker is there.
    """
    bench.empty()
    return [Value("drain_analyzed", "jobs/s", _drained(bench, setting, analyze=True))]


def _drained(
    bench: Bench,
    setting: Setting,
    *,
    analyze: bool = False,
    at_the_end: Callable[["Running"], None] = lambda running: None,
) -> float:
    before = bench.servers.ends(bench.system.ends)[0] if bench.system.ends else 0
    bench.produce("bulk", str(setting.jobs))
    if analyze:
        bench.servers.analyze()
    bench.servers.settle()
    with bench.work(setting) as running:
        reading = running.wait(lambda now: now.started >= setting.jobs, "drain")
        end = _committed(bench, setting.jobs + before) if bench.system.ends else reading.last_start
        at_the_end(running)
    return setting.jobs / (end - reading.first_start)


def _committed(bench: Bench, jobs: int) -> float:
    """When the last of `jobs` ends was committed, by the database's own times."""
    assert bench.system.ends is not None
    limit = time.monotonic() + DEADLINE
    while True:
        count, last = bench.servers.ends(bench.system.ends)
        if count >= jobs:
            return last
        if time.monotonic() > limit:
            raise WorkerFailed(f"drain: all jobs started but only {count} of {jobs} ends were committed")
        time.sleep(0.05)


def drain_history(bench: Bench, setting: Setting) -> list[Value]:
    """A drain in an empty database, and the same with two million finished jobs in it, one after the other."""
    bench.empty()
    fresh = _drained(bench, setting)
    bench.empty_but_for_history()
    laden = _drained(bench, setting)
    return [
        Value("drain_history", "jobs/s", laden),
        Value("drain_history_share", "of the rate without history", laden / fresh),
    ]


def enqueue_bulk(bench: Bench, setting: Setting) -> list[Value]:
    """Jobs per second of one producer by the fastest documented way; making the job objects included."""
    return _produced(bench, "enqueue_bulk", "bulk", bench.system.bulk)


def enqueue_single(bench: Bench, setting: Setting) -> list[Value]:
    """Jobs per second of one producer that enqueues one after the other, each stored before the next."""
    return _produced(bench, "enqueue_single", "single", SINGLE_JOBS)


def _produced(bench: Bench, metric: str, command: str, jobs: int) -> list[Value]:
    bench.empty()
    answer = bench.produce(command, str(jobs))
    count, seconds = answer["jobs"], answer["seconds"]
    assert isinstance(count, int)
    assert isinstance(seconds, float)
    return [Value(metric, "jobs/s", count / seconds)]


def latency(bench: Bench, setting: Setting) -> list[Value]:
    """Idle worker: from just before the call to enqueue to the handler's start, single jobs at irregular times."""
    bench.empty()
    bench.produce("single", "1")
    with bench.work(setting) as running:
        running.wait(lambda now: now.started >= 1, "first job")
        time.sleep(moment(1))  # whatever it still does after its start
        sent = bench.produce("latency", str(LATENCY_JOBS), str(LATENCY_GAP))["sent"]
        assert isinstance(sent, list)
        running.wait(lambda now: now.started >= LATENCY_JOBS + 2, "latency")
        starts = probe.read(running.probes, starts=True).starts
    delays = sorted((starts[number] - at) * 1e3 for number, at in enumerate(sent))
    return [
        Value("latency_p50", "ms", statistics.median(delays), lower_is_better=True),
        Value("latency_p99", "ms", delays[int(len(delays) * 0.99)], lower_is_better=True),
    ]


def cold_start(bench: Bench, setting: Setting) -> list[Value]:
    """From the exec of the worker to the start of its first job, which is waiting."""
    bench.empty()
    bench.produce("single", "1")
    with bench.work(setting) as running:
        reading = running.wait(lambda now: now.started >= 1, "first job")
        seconds = reading.first_start - running.workers.started_at
    return [Value("cold_start", "s", seconds, lower_is_better=True)]


def memory(bench: Bench, setting: Setting) -> list[Value]:
    """Of an idle worker, all its processes, two seconds after its first job."""
    bench.empty()
    bench.produce("single", "1")
    with bench.work(setting) as running:
        running.wait(lambda now: now.started >= 2, "first job")
        time.sleep(moment(2))
        used = running.workers.memory()
    return [
        Value("memory_rss", "MB", used.rss, lower_is_better=True),
        Value("memory_pss", "MB", used.pss, lower_is_better=True),
    ]


def waits(bench: Bench, setting: Setting) -> list[Value]:
    """A thousand jobs that wait one second each: from the first start to the last end."""
    bench.empty()
    bench.produce("waits", str(WAIT_JOBS), "1")
    bench.servers.settle()
    with bench.work(setting) as running:
        reading = running.wait(lambda now: now.ended >= WAIT_JOBS, "waits")
    return [Value("waits", "s", reading.last_end - reading.first_start, lower_is_better=True)]


@dataclass(frozen=True, slots=True)
class Measurement:
    """A measurement, the settings that it is made in, and which systems take part."""

    name: str
    run: Callable[[Bench, Setting], list[Value]]
    settings: Sequence[str]
    takes: Callable[[System], bool] = lambda system: True
    of_producer: bool = False

    def settings_of(self, system: System) -> list[str]:
        return [name for name in self.settings if name in system.settings] if self.takes(system) else []

    def label(self, setting: str) -> str:
        return PRODUCER if self.of_producer else setting


MEASUREMENTS = (
    Measurement("drain", drain, (SLOTS, CORES)),
    Measurement("drain_analyzed", drain_analyzed, (SLOTS, CORES), lambda system: system.durable),
    Measurement("drain_history", drain_history, (SLOTS,), lambda system: system.name == "carafe"),
    Measurement("enqueue_bulk", enqueue_bulk, (SLOTS,), lambda system: system.bulk > 0, of_producer=True),
    Measurement("enqueue_single", enqueue_single, (SLOTS,), lambda system: system.bulk > 0, of_producer=True),
    Measurement("latency", latency, (SLOTS,)),
    Measurement("cold_start", cold_start, (SLOTS,)),
    Measurement("memory", memory, (SLOTS,)),
    Measurement("waits", waits, (WAITS,)),
)
