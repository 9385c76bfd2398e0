"""Run the benchmarks: `python -m benchmarks [--only drain,latency] [--systems carafe,taskiq] [--repeats 3]`.

Progress goes to stderr, the table to stdout, the rows to benchmarks/latest.json. Every process it starts is ended.
Exit code 1: a system that could be had failed in a measurement, and the table says how. With BENCH_SMALLEST=1 every
measurement is as small as it can be (benchmarks/size.py), one round of each, and latest.json stays as it is.
"""

import argparse
import signal
import sys
import time
from pathlib import Path
from types import FrameType

import psutil

from benchmarks import report
from benchmarks.environments import PeerUnavailable
from benchmarks.loads import LOADS
from benchmarks.measurements import MEASUREMENTS, Bench, Measurement
from benchmarks.processes import WorkerFailed
from benchmarks.report import Results
from benchmarks.servers import Servers
from benchmarks.size import SMALLEST, moment, sized
from benchmarks.systems import ALL
from benchmarks.systems.system import System

BUDGET = 270.0
"""Seconds for one metric, its rounds together, unless said otherwise: a round that would not fit is left out (and said)."""


def main() -> int:
    """Measure what the command line asks for, print the table, write the rows; returns the exit code."""
    measurements, systems, given = _arguments()
    signal.signal(signal.SIGTERM, _interrupt)
    results = Results(ALL)
    began = time.monotonic()
    with Servers(given.postgres) as servers:
        benches = _prepare(systems, measurements, servers, results, install=not given.installed)
        for measurement in measurements:
            _repeat(benches, measurement, given.repeats, given.budget, results)
    _say(f"done in {time.monotonic() - began:.0f} s")
    if given.rows is not None or not SMALLEST:
        report.write(results, given.rows or report.LATEST)
    print(report.markdown(results))
    return int(results.failed)


def _prepare(
    systems: list[System], measurements: list[Measurement], servers: Servers, results: Results, *, install: bool
) -> list[Bench]:
    """The systems that can run here, installed and with their tables; the others' reasons go to the results."""
    benches = []
    for system in systems:
        if not any(measurement.settings_of(system) for measurement in measurements):
            continue
        try:
            benches.append(Bench(system, servers, install=install))
        except (PeerUnavailable, WorkerFailed) as error:
            results.failed |= isinstance(error, WorkerFailed)
            _say(f"{system.name}: {error}")
            for measurement in measurements:
                for setting in measurement.settings_of(system):
                    results.fail(system, measurement.label(setting), measurement.name, str(error))
    return benches


def _repeat(benches: list[Bench], measurement: Measurement, repeats: int, budget: float, results: Results) -> None:
    """Rounds in which every system has its turn, so that a slow minute of the machine meets all; only whole rounds."""
    began = time.monotonic()
    for repeat in range(repeats):
        if (spent := time.monotonic() - began) / (repeat or 1) * (repeat + 1) > budget:
            _say(f"{measurement.name}: stopped after {repeat} of {repeats} rounds and {spent:.0f} s")
            return
        for bench in benches:
            for setting in measurement.settings_of(bench.system):
                _measure(bench, measurement, setting, f"{repeat + 1}/{repeats}", results)


def _measure(bench: Bench, measurement: Measurement, setting: str, repeat: str, results: Results) -> None:
    label = measurement.label(setting)
    if (measurement.name, label, bench.system.name) in results.missing:
        return  # failed before: it would only fail again, a deadline later
    busy = psutil.cpu_percent(interval=moment(0.2) or None)  # nothing of ours runs now
    results.busy.append(busy)
    began = time.monotonic()
    try:
        values = measurement.run(bench, bench.system.settings[setting])
    except WorkerFailed as error:
        results.failed = True
        results.fail(bench.system, label, measurement.name, str(error))
        _say(f"{measurement.name} {repeat} {bench.system.name} [{label}]: FAILED: {error}")
        return
    results.add(bench.system, label, values)
    spent = time.monotonic() - began
    _say(
        f"{measurement.name} {repeat} {bench.system.name} [{label}]: {report.summary(values)} ({spent:.1f} s)"
        + _warning(busy)
    )


def _warning(busy: float) -> str:
    return f" (machine {busy:.0f} % busy with something else)" if busy > report.QUIET else ""


def _arguments() -> tuple[list[Measurement], list[System], argparse.Namespace]:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Carafe and its peers, side by side.")
    every = (*MEASUREMENTS, *LOADS)
    names = [measurement.name for measurement in every]
    parser.add_argument("--only", help=f"metrics, separated by commas: {', '.join(names)}")
    parser.add_argument("--systems", help="systems by the beginning of their name, separated by commas: carafe,celery pre")
    repeats = sized(3, 1)
    parser.add_argument(
        "--repeats", type=int, default=repeats, help=f"how often each is measured ({repeats}); the median counts"
    )
    parser.add_argument(
        "--budget", type=float, default=BUDGET, help=f"seconds for one metric, all its rounds together ({BUDGET:g})"
    )
    parser.add_argument("--installed", action="store_true", help="install nothing: leave out peers that are not there")
    parser.add_argument("--rows", type=Path, help=f"where the rows go ({report.LATEST})")
    parser.add_argument(
        "--postgres", type=Path, help="the folder of another PostgreSQL's programs, /usr/lib/postgresql/15/bin"
    )
    given = parser.parse_args()
    wanted = given.only.split(",") if given.only else names
    if unknown := [name for name in wanted if name not in names]:
        parser.error(f"unknown metric {', '.join(unknown)}; there are {', '.join(names)}")
    starts = tuple(given.systems.split(",")) if given.systems else ("",)
    systems = [system for system in ALL if system.name.startswith(starts)]
    if not systems:
        parser.error(f"no system is named so; there are {', '.join(system.name for system in ALL)}")
    return [measurement for measurement in every if measurement.name in wanted], systems, given


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt  # so that every context ends its processes


if __name__ == "__main__":
    sys.exit(main())
