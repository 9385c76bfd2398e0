"""Carafe's own rows: a drain after a burst, jobs in threads, jobs that fail, work of the processor, and what a job costs in
Postgres's log and in Redis. How many jobs each takes follows from its setting's `jobs`.

`drain_burst`: a queue is drained and vacuumed, so that the planner believes the live table empty; then it is filled again,
and a fresh worker begins. Nothing analyzes the table meanwhile but Carafe itself.
"""

import time
from collections.abc import Callable

from benchmarks.measurements import DEADLINE, Bench, Measurement, Running, Value
from benchmarks.processes import WorkerFailed
from benchmarks.size import sized
from benchmarks.systems.system import CPU, SLOTS, Setting, System

ENDED = """select count(*), extract(epoch from min(started_at)), extract(epoch from max(ended_at)) from carafe.jobs_ended
    where started_at is not null"""


def drain_burst(bench: Bench, setting: Setting) -> list[Value]:
    """The rate of a fresh worker on a burst, and its share of the rate on the same burst after an ANALYZE.

    Each of them twice, in an order in which what drifts meanwhile cancels: of two drains of the same sort, some seconds
    each, one is now and then a tenth slower than the other.
    """
    jobs = 2 * setting.jobs
    seconds = {False: 0.0, True: 0.0}
    for analyzed in (False, True, True, False)[: sized(4, 2)]:
        _emptied(bench, setting, jobs)
        bench.produce("bulk", str(jobs))
        if analyzed:
            bench.servers.analyze()
        bench.servers.settle()
        seconds[analyzed] += jobs / _run(bench, setting, jobs)
    return [
        Value("drain_burst", "jobs/s", 2 * jobs / seconds[False]),
        Value("drain_burst_share", "of the rate after an ANALYZE", seconds[True] / seconds[False]),
    ]


def _emptied(bench: Bench, setting: Setting, jobs: int) -> None:
    """A live table that was full, has its pages still (one job lies near their end), and is believed empty."""
    bench.empty()
    with bench.servers.connect() as connection:
        connection.execute("alter table carafe.jobs set (autovacuum_enabled = false)")
    bench.produce("bulk", str(jobs))
    bench.produce("later", "1")
    _run(bench, setting, jobs)
    with bench.servers.connect() as connection:
        connection.execute("vacuum analyze carafe.jobs")
        connection.execute("truncate carafe.jobs_ended, carafe.gauges")


def _run(bench: Bench, setting: Setting, jobs: int) -> float:
    """Jobs a second, from the first start to the last end, by Postgres's own times."""
    with bench.work(setting) as running:
        return _ended(bench, running, jobs)


def _ended(bench: Bench, running: Running, jobs: int) -> float:
    began = time.monotonic()
    with bench.servers.connect() as connection:
        while True:
            running.workers.check()
            row = connection.execute(ENDED).fetchone()
            assert row is not None
            if row[0] >= jobs:
                return jobs / float(row[2] - row[1])
            if time.monotonic() - began > 2 * DEADLINE:
                raise WorkerFailed(f"only {row[0]} of {jobs} jobs have ended in {2 * DEADLINE:.0f} s")
            time.sleep(0.05)


def of_kind(metric: str, kind: str, part: int) -> Callable[[Bench, Setting], list[Value]]:
    """A drain of jobs of another kind than the no-op; of a system without Postgres by the handlers' own reports."""

    def measure(bench: Bench, setting: Setting) -> list[Value]:
        bench.empty()
        number = _part(setting, part)
        bench.produce("kind", kind, str(number))
        if bench.system.ends is not None:
            return [Value(metric, "jobs/s", _run(bench, setting, number))]
        with bench.work(setting) as running:
            reading = running.wait(lambda now: now.ended >= number, metric)
        return [Value(metric, "jobs/s", number / (reading.last_end - reading.first_start))]

    return measure


def costs_a_job(bench: Bench, setting: Setting) -> list[Value]:
    """Bytes of Postgres's log for each job that is enqueued, and for its claim and end; bytes of Redis for its hint."""
    jobs = _part(setting, 5)
    bench.empty()
    before, free = bench.servers.wal(), bench.servers.redis_bytes()
    bench.produce("bulk", str(jobs))
    enqueued, full = bench.servers.wal(), bench.servers.redis_bytes()
    _run(bench, setting, jobs)
    return [
        Value("wal_enqueue", "bytes a job", (enqueued - before) / jobs, lower_is_better=True),
        Value("wal_run", "bytes a job", (bench.servers.wal() - enqueued) / jobs, lower_is_better=True),
        Value("redis_hint", "bytes a job", (full - free) / jobs, lower_is_better=True),
    ]


def _carafe(system: System) -> bool:
    return system.name == "carafe"


def _burns(system: System) -> bool:
    return CPU in system.settings


def _part(setting: Setting, part: int) -> int:
    return max(1, setting.jobs // part)


LOADS = (
    Measurement("drain_burst", drain_burst, (SLOTS,), _carafe),
    Measurement("drain_threads", of_kind("drain_threads", "thread", 5), (SLOTS,), _carafe),
    Measurement("drain_failing", of_kind("drain_failing", "fail", 5), (SLOTS,), _carafe),
    Measurement("cpu_threads", of_kind("cpu_threads", "cpu", 1), (CPU,), _burns),
    Measurement("cpu_processes", of_kind("cpu_processes", "cpu process", 10), (CPU,), _carafe),
    Measurement("costs_a_job", costs_a_job, (SLOTS,), _carafe),
)
"""Celery's prefork pool runs each task in a child process: both rows of Carafe are read beside its `cpu_threads`."""
