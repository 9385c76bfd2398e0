"""How long the dashboard's pages take while a drain runs: every page and filter, common, rare and without a match.

A populated database (benchmarks/population.py), `carafe serve --dashboard` as it ships, and beside it a worker that runs
a backlog of 250,000 no-op jobs, all on this machine. Each round asks for every page once, on one connection; a time is
the server's own, as it says in ``Server-Timing``. Then the rate at which a worker drains a backlog, without viewers and
with, in turn. Prints a table and the ratios; exit code 1 when a page's p95 is above 150 ms.

Run it: `python -m benchmarks.pages [--rounds 20] [--viewers 20] [--pairs 20] [--dead 500000]`, or with servers of your own
and a database that is populated already (with ``--resting 1``): `--database URL --redis URL`. Everything it starts is ended.
"""

import argparse
import asyncio
import contextlib
import math
import os
import statistics
import sys
import tempfile
import time
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlencode

import asyncpg
import httpx
import psutil

from benchmarks.carafe_jobs import Noop
from benchmarks.costs import interval
from benchmarks.population import RARE, Population, populate
from benchmarks.processes import Workers
from benchmarks.servers import Servers
from benchmarks.size import SMALLEST, moment, sized
from carafe import Client
from carafe.dev.embedded import free_port
from carafe.store.database import migrate, plain_dsn

LIMIT = 0.150
"""Seconds that a page may take at the 95th percentile."""

BACKLOG = sized(250_000, 2_000)
"""Jobs that a drain begins with while pages are measured."""

LEFT = sized(20_000, 200)
"""Jobs that are left of it when it counts as over."""

STEADY = moment(1.0)
"""Seconds for which a worker that has just started is left alone: its first statements are not a drain's."""

POSTGRES = {"shared_buffers": "1GB", "max_wal_size": "4GB"}
"""What docs/deploy.md asks of a Postgres that keeps millions of jobs."""

DRAINED = sized(200_000, 1_000)
"""Jobs of one drain whose rate is measured, without viewers or with."""

PAIRS = sized(20, 1)
"""How often it is measured both ways, in turn, unless told otherwise."""

Command = tuple[Sequence[str], Mapping[str, str]]
"""What is started, and its environment."""

WORKER = "00000000-0000-7000-8000-000000000001"

FILTERS: Sequence[tuple[str, list[tuple[str, str]]]] = (
    ("all", []),
    *(
        (state, [("state", state)])
        for state in ("scheduled", "queued", "running", "retrying", "succeeded", "dead", "cancelled")
    ),
    ("common kind", [("kind", "kind.000")]),
    ("seldom kind", [("kind", "kind.190")]),
    ("rare kind", [("kind", RARE)]),
    ("no such kind", [("kind", "none")]),
    ("queued, seldom kind", [("state", "queued"), ("kind", "kind.190")]),
    ("queued, no such kind", [("state", "queued"), ("kind", "none")]),
    ("scheduled, seldom kind", [("state", "scheduled"), ("kind", "kind.190")]),
    ("succeeded, rare kind", [("state", "succeeded"), ("kind", RARE)]),
    ("cancelled, common kind", [("state", "cancelled"), ("kind", "kind.000")]),
    ("dead, common kind", [("state", "dead"), ("kind", "kind.000")]),
    ("dead, unresolved", [("state", "dead"), ("resolved", "false")]),
    ("dead, resolved", [("state", "dead"), ("resolved", "true")]),
    ("dead, error class", [("state", "dead"), ("error_class", "KeyError")]),
    ("dead, no such error class", [("state", "dead"), ("error_class", "None")]),
    ("no such error class", [("error_class", "None")]),
    ("error text", [("text", "item 77")]),
    ("no such error text", [("text", "nowhere to be found")]),
    ("argument", [("args.number", "777")]),
    ("rare argument", [("args.briefing_id", "needle")]),
    ("no such argument", [("args.briefing_id", "none")]),
    ("common kind, no such argument", [("kind", "kind.000"), ("state", "succeeded"), ("args.number", "none")]),
    ("worker", [("worker", WORKER)]),
    ("no such worker", [("worker", "00000000-0000-7000-8000-00000000000f")]),
)


@dataclass(frozen=True, slots=True)
class Page:
    """A page of the dashboard."""

    name: str
    path: str


@dataclass(frozen=True, slots=True)
class Times:
    """What a page took, in seconds."""

    page: Page
    seconds: Sequence[float]

    def percentile(self, share: float) -> float:
        """The time within which that share of the requests was answered."""
        ordered = sorted(self.seconds)
        return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


async def pages(connection: "asyncpg.Connection[asyncpg.Record]") -> list[Page]:
    """All pages, with what this database has to look at."""
    found = [Page(f"overview {step}", f"/?range={step}") for step in ("5m", "1h", "24h", "7d")]
    found.append(Page("overview 7d of a kind", "/?range=7d&kind=kind.000"))
    found += [Page(f"jobs: {name}", f"/jobs?{urlencode(pairs)}") for name, pairs in FILTERS]
    for state, table in (("queued", "jobs"), ("retrying", "jobs"), ("succeeded", "jobs_done"), ("dead", "jobs_dead")):
        row = await connection.fetchrow(f"select id from carafe.{table} where state = $1 limit 1", state)
        if row is not None:
            found.append(Page(f"job: {state}", f"/jobs/{row['id']}"))
    group = await connection.fetchrow(
        "select kind, error_fingerprint from carafe.jobs_dead where resolved_at is null limit 1"
    )
    if group is not None:
        pairs = {"kind": group["kind"], "fingerprint": group["error_fingerprint"]}
        found.append(Page("dead letters: a group", f"/dead/group?{urlencode(pairs)}"))
    found.append(Page("bulk: new", "/bulk/new?action=retry&all=1&state=dead&kind=kind.000"))
    found.append(Page("a kind", "/kinds/kind.000"))
    others = ("kinds", "dead", "bulk", "workers", "enqueue", "audit")
    return found + [Page(name, f"/{name}") for name in others]


async def measure(browser: httpx.AsyncClient, asked: Sequence[Page], rounds: int, drain: "Drain") -> list[Times]:
    """Ask for every page once a round, always while the drain runs. Raises ``RuntimeError`` for what is not a page."""
    seconds: dict[Page, list[float]] = {page: [] for page in asked}
    for _ in range(rounds):
        for page in asked:
            await drain.goes_on()
            answer = await browser.get(page.path)
            seconds[page].append(float(answer.headers["server-timing"].removeprefix("total;dur=")) / 1_000)
            if answer.status_code != 200:
                raise RuntimeError(f"{page.path} answered {answer.status_code}: {answer.text[:300]}")
    return [Times(page, taken) for page, taken in seconds.items()]


class Drain:
    """A worker that drains a backlog; when that is nearly gone it stops, and starts again with a new one.

    So nothing is enqueued while pages are measured. Use it as a context manager.
    """

    def __init__(self, connection: "asyncpg.Connection[asyncpg.Record]", client: Client, worker: Command, log: Path) -> None:
        self._connection, self._client, self._worker, self._log = connection, client, worker, log
        self._running: Workers | None = None
        self._end, self._first, self._began = 0, 0, 0.0
        self.jobs, self.seconds = 0, 0.0

    async def goes_on(self) -> None:
        """Return when a worker drains a backlog."""
        now = await ended(self._connection)
        if self._running is not None and now < self._end - LEFT:
            self._running.check()
            return
        if self._running is not None:
            self.jobs, self.seconds = self.jobs + now - self._first, self.seconds + time.monotonic() - self._began
            await done(self._connection, self._end)
            self.close()
        await fill(self._client, BACKLOG)
        before = await ended(self._connection)
        self._end = before + BACKLOG
        self._running = Workers([self._worker], folder=Path.cwd(), log=self._log)
        self._running.__enter__()
        while (now := await ended(self._connection)) == before:
            self._running.check()
            await asyncio.sleep(0.05)
        await asyncio.sleep(STEADY)
        self._first, self._began = await ended(self._connection), time.monotonic()

    def close(self) -> None:
        """End the worker."""
        if self._running is not None:
            self._running.__exit__(None, None, None)
            self._running = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._running is not None:
            await done(self._connection, self._end)
        self.close()


async def fill(client: Client, jobs: int) -> None:
    """Enqueue no-op jobs."""
    for first in range(0, jobs, 10_000):
        await client.enqueue_many([Noop(x=number) for number in range(first, min(jobs, first + 10_000))])


async def done(connection: "asyncpg.Connection[asyncpg.Record]", jobs: int) -> None:
    """Wait until this many have ended. Raises ``RuntimeError`` after two minutes."""
    deadline = time.monotonic() + 120
    while (now := await ended(connection)) < jobs:
        if time.monotonic() > deadline:
            raise RuntimeError(f"the drain has ended {now} of {jobs} jobs after two minutes")
        await asyncio.sleep(0.05)


async def rate(connection: "asyncpg.Connection[asyncpg.Record]", client: Client, worker: Command, log: Path) -> float:
    """No-op jobs ended a second, from the first of a backlog to its last, by a worker that starts before it."""
    await fill(client, DRAINED)
    before = first = await ended(connection)
    with Workers([worker], folder=Path.cwd(), log=log) as processes:
        while first == before:
            processes.check()
            await asyncio.sleep(0.02)
            first = await ended(connection)
        began = time.monotonic()
        await done(connection, before + DRAINED)
        return (before + DRAINED - first) / (time.monotonic() - began)


async def sessions_cpu(connection: "asyncpg.Connection[asyncpg.Record]") -> dict[int, float]:
    """Processor seconds that each of the dashboard's sessions in Postgres has used so far, by process id."""
    sessions = await connection.fetch("select pid from pg_stat_activity where application_name like 'carafe dashboard%'")
    return {session["pid"]: sum(psutil.Process(session["pid"]).cpu_times()[:2]) for session in sessions}


async def ended(connection: "asyncpg.Connection[asyncpg.Record]") -> int:
    """How many no-op jobs have succeeded, by the statistics that commit with the jobs."""
    count, of = "select coalesce(sum(count), 0)::bigint from", "kind = 'bench.noop' and outcome ="
    folded, unfolded = f"{count} carafe.statistics where width = 10 and {of}", f"{count} carafe.statistics_deltas where {of}"
    failed = f"({folded} 'retrying') + ({unfolded} 'retrying')"
    row = await connection.fetchrow(f"select ({folded} 'succeeded') + ({unfolded} 'succeeded') as ended, {failed} as failed")
    assert row is not None
    if row["failed"]:
        raise RuntimeError(f"{row['failed']} attempts of no-op jobs have failed: what would be measured is not a drain")
    return int(row["ended"])


@contextlib.asynccontextmanager
async def watched(url: str, viewers: int) -> AsyncIterator[None]:
    """This many open overviews (benchmarks/viewers.py). Raises ``RuntimeError`` when one of them gave up."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.viewers", url, str(viewers)), stdin=PIPE, stdout=PIPE, stderr=PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        if await process.stdout.readline() != b"watching\n":
            raise RuntimeError(f"the viewers do not watch: {(await process.communicate())[1].decode()}")
        yield
        process.stdin.close()
        said, errors = await process.communicate()
        if process.returncode or said.startswith(b"0 "):
            raise RuntimeError(f"{said.decode()}{errors.decode()}")
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()


async def bench(database: str, redis: str, rounds: int, viewers: int, pairs: int) -> bool:
    """Measure and print; whether every page was fast enough."""
    port, folder = free_port(), Path(tempfile.mkdtemp())
    variables = os.environ | {
        "DATABASE_URL": database,
        "REDIS_URL": redis,
        "JOB_MODULES": "benchmarks.carafe_jobs",
        "HANDLER_MODULES": "benchmarks.carafe_handlers",
        "WORKER_APPLICATION": "carafe.engine.application:app",
        "MIGRATIONS": "",
        "LOG_LEVEL": "WARNING",
        "PROBE_PORT": "0",
        "METRICS_PORT": "0",
        "DASHBOARD_PORT": str(port),
        "DASHBOARD_OPEN": "localhost",
        "PROBE_DIR": str(folder),
    }
    carafe = [sys.executable, "-m", "carafe", "serve"]
    url = f"http://127.0.0.1:{port}"
    connection = await asyncpg.connect(plain_dsn(database))
    log = folder / "log"
    client = Client.connect(database_url=database, redis_url=redis)
    worker = ([*carafe, "--worker"], variables)
    dashboard = ([*carafe, "--dashboard"], {**variables, "STEWARD": "false"})
    drained, spent = [], []
    try:
        with Workers([dashboard], folder=Path.cwd(), log=log) as processes:
            async with httpx.AsyncClient(base_url=url, timeout=30) as browser:
                await _answers(browser, processes)
                asked = await pages(connection)
                async with Drain(connection, client, worker, log) as drain:
                    print("warming up", file=sys.stderr)
                    await measure(browser, asked, sized(2, 0), drain)
                    times = await measure(browser, asked, rounds, drain)
            print(f"pages measured, drain at {drain.jobs / drain.seconds:,.0f} jobs/s; now viewers", file=sys.stderr)
            for turn in range(pairs):
                found = {}
                for seen in (False, True) if turn % 2 == 0 else (True, False):
                    used, sessions = processes.cpu(), await sessions_cpu(connection)
                    async with watched(url, viewers) if seen else contextlib.nullcontext():
                        began = time.monotonic()
                        found[seen] = await rate(connection, client, worker, log)
                    if seen:
                        now = await sessions_cpu(connection)
                        used = processes.cpu() - used + sum(now[pid] - sessions.get(pid, 0.0) for pid in now)
                        spent.append(used / (time.monotonic() - began))
                drained.append((found[False], found[True]))
                print(
                    f"{turn + 1}/{pairs}: {found[False]:,.0f} and {found[True]:,.0f} jobs/s; "
                    f"the dashboard and its sessions used {spent[-1]:.3f} of a core",
                    file=sys.stderr,
                )
            processes.check()
    except BaseException:
        if log.exists():
            print(log.read_text()[-4_000:], file=sys.stderr)
        raise
    finally:
        await client.close()
        connection.terminate()
    print(table(times))
    if drained:
        print(of_pairs(drained, spent, viewers))
    return all(page.percentile(0.95) <= LIMIT for page in times)


def of_pairs(drained: Sequence[tuple[float, float]], spent: Sequence[float], viewers: int) -> str:
    """What viewers cost the drain, in words."""
    ratios = [seen / alone for alone, seen in drained]
    low, high = interval(ratios)
    alone, seen = (statistics.mean(side) for side in zip(*drained, strict=True))
    return (
        f"\ndrain, {len(ratios)} pairs: {alone:,.0f} jobs/s, with {viewers} viewers {seen:,.0f}; "
        f"ratio mean {statistics.mean(ratios):.3f}, median {statistics.median(ratios):.3f}, 95 % interval of the median "
        f"{low:.3f} to {high:.3f}; for the viewers the dashboard and its sessions in Postgres used "
        f"{statistics.mean(spent):.3f} of a core"
    )


async def _answers(browser: httpx.AsyncClient, processes: Workers) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        processes.check()
        with contextlib.suppress(httpx.TransportError):
            if (await browser.get("/livez")).status_code == 200:
                return
        await asyncio.sleep(0.2)
    raise RuntimeError("the dashboard does not answer after a minute")


def table(times: Sequence[Times]) -> str:
    """The times in milliseconds, the slowest page first."""
    lines = ["| page | p50 ms | p95 ms | max ms | |", "|---|---:|---:|---:|---|"]
    for page in sorted(times, key=lambda page: -page.percentile(0.95)):
        numbers = [
            f"{1_000 * seconds:.0f}" for seconds in (page.percentile(0.5), page.percentile(0.95), page.percentile(1.0))
        ]
        lines.append(f"| {page.page.name} | {' | '.join(numbers)} | {'too slow' if page.percentile(0.95) > LIMIT else ''} |")
    return "\n".join(lines)


async def _populated(url: str, size: Population) -> None:
    await migrate(url)
    connection = await asyncpg.connect(plain_dsn(url))
    try:
        await populate(connection, size, say=True)
    finally:
        await connection.close()


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--database", help="the URL of a database that is populated already")
    parser.add_argument("--redis", help="the URL of a Redis beside it; the worker drains what is in it")
    parser.add_argument("--rounds", type=int, default=sized(20, 1))
    parser.add_argument("--viewers", type=int, default=sized(20, 1))
    parser.add_argument("--pairs", type=int, default=PAIRS, help="0: pages alone")
    parser.add_argument("--dead", type=int, default=sized(50_000, 100))
    given: Any = parser.parse_args()
    if (given.database is None) != (given.redis is None):
        parser.error("--database and --redis go together")
    with contextlib.ExitStack() as stack:
        if given.database is None:
            servers = stack.enter_context(Servers())
            servers.configure(**POSTGRES)
            servers.empty(None)
            database, redis = servers.database_url(), servers.redis_url
            asyncio.run(_populated(database, Population(dead=given.dead, resting=1)))
        else:
            database, redis = given.database, given.redis
        fast = asyncio.run(bench(database, redis, given.rounds, given.viewers, given.pairs))
    return 0 if fast or SMALLEST else 1


if __name__ == "__main__":
    sys.exit(main())
