"""How long the dashboard's pages take while a drain runs: every page and filter, common, rare and without a match.

A populated database (benchmarks/population.py), `carafe serve --dashboard` as it ships, and beside it a worker that drains
no-op jobs as fast as they are fed to it, all on this machine. Each round asks for every page once, on one connection; a time
is from the request to the whole answer. Prints a table, and the rate of the drain with and without viewers; exit code 1 when
a page's p95 is above 150 ms.

Run it: `python -m benchmarks.pages [--rounds 20] [--viewers 20] [--dead 500000]`, or with servers of your own and a database
that is populated already (with ``--resting 1``): `--database URL --redis URL`. Everything it starts is ended.
"""

import argparse
import asyncio
import contextlib
import math
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import asyncpg
import httpx
from redis.exceptions import RedisError

from benchmarks.carafe_jobs import Noop
from benchmarks.population import RARE, Population, populate
from benchmarks.processes import Workers
from benchmarks.servers import Servers
from carafe.database import migrate, plain_dsn
from carafe.embedded import free_port
from carafe.errors import Unavailable
from carafe.jobs import Client
from carafe.jobs.hints import QUEUE

LIMIT = 0.150
"""Seconds that a page may take at the 95th percentile."""

FED = 20_000
"""No-op jobs that wait at most."""

DRAIN_FOR = 20.0
"""Seconds that the drain's rate is measured for, without viewers and with."""

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
    others = ("dead", "bulk", "workers", "enqueue", "audit")
    return found + [Page(name, f"/{name}") for name in others]


async def measure(browser: httpx.AsyncClient, asked: Sequence[Page], rounds: int) -> list[Times]:
    """Ask for every page once a round. Raises ``RuntimeError`` for an answer that is not a page."""
    seconds: dict[Page, list[float]] = {page: [] for page in asked}
    for _ in range(rounds):
        for page in asked:
            began = time.perf_counter()
            answer = await browser.get(page.path)
            seconds[page].append(time.perf_counter() - began)
            if answer.status_code != 200:
                raise RuntimeError(f"{page.path} answered {answer.status_code}: {answer.text[:300]}")
    return [Times(page, taken) for page, taken in seconds.items()]


async def feed(client: Client, over: asyncio.Event) -> None:
    """Keep no-op jobs waiting until it is over."""
    while not over.is_set():
        # On a busy machine Redis may miss the client's short timeout: the next look is soon enough.
        with contextlib.suppress(RedisError, TimeoutError, Unavailable):
            if await client.queue.redis.llen(QUEUE) < FED:
                await client.enqueue_many([Noop(x=number) for number in range(FED // 4)])
        await asyncio.sleep(0.02)


async def rate(connection: "asyncpg.Connection[asyncpg.Record]", seconds: float = DRAIN_FOR) -> float:
    """No-op jobs ended a second, over so many seconds."""
    ended = "select coalesce(sum(count), 0)::bigint from carafe.statistics where width = 10 and kind = 'bench.noop'"
    unfolded = "select coalesce(sum(count), 0)::bigint from carafe.statistics_deltas where kind = 'bench.noop'"
    both = f"select ({ended}) + ({unfolded}), extract(epoch from clock_timestamp())::float8"
    before, began = await connection.fetchrow(both) or (0, 0.0)
    await asyncio.sleep(seconds)
    after, over = await connection.fetchrow(both) or (0, 0.0)
    return float((after - before) / (over - began))


@contextlib.asynccontextmanager
async def watched(url: str, viewers: int) -> AsyncIterator[None]:
    """So many open overviews: each follows the stream and fetches what it says has changed.

    Raises ``RuntimeError`` when one of them gave up.
    """
    over = asyncio.Event()

    async def watch() -> None:
        async with httpx.AsyncClient(base_url=url, timeout=30) as browser:
            while not over.is_set():
                async with browser.stream("GET", "/events?topics=overview") as stream:
                    async for line in stream.aiter_lines():
                        if line.startswith("data: overview"):
                            await browser.get("/?range=1h", headers={"X-Fragment": "1"})

    tasks = [asyncio.ensure_future(watch()) for _ in range(viewers)]
    try:
        yield
    finally:
        gone = [task for task in tasks if task.done()]
        over.set()
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks, timeout=5)
    if gone:
        raise RuntimeError(f"{len(gone)} of {viewers} viewers gave up: {gone[0].exception()!r}")


async def bench(database: str, redis: str, rounds: int, viewers: int) -> bool:
    """Measure and print; whether every page was fast enough."""
    port = free_port()
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
    }
    carafe = [sys.executable, "-m", "carafe", "serve"]
    url = f"http://127.0.0.1:{port}"
    connection = await asyncpg.connect(plain_dsn(database))
    folder = Path(tempfile.mkdtemp())
    log = folder / "log"
    client = Client.connect(database_url=database, redis_url=redis)
    over = asyncio.Event()
    feeding = asyncio.ensure_future(feed(client, over))
    commands = [([*carafe, "--dashboard"], {**variables, "STEWARD": "false"}), ([*carafe, "--worker"], variables)]
    try:
        with Workers(commands, folder=Path.cwd(), log=log) as processes:
            async with httpx.AsyncClient(base_url=url, timeout=30) as browser:
                await _answers(browser, processes)
                asked = await pages(connection)
                print("warming up", file=sys.stderr)
                await measure(browser, asked, 2)
                alone = await rate(connection)
                print(f"drain without viewers: {alone:,.0f} jobs/s", file=sys.stderr)
                times = await measure(browser, asked, rounds)
            print(f"pages measured; {viewers} viewers now", file=sys.stderr)
            async with watched(url, viewers):
                seen = await rate(connection)
            processes.check()
    except BaseException:
        if log.exists():
            print(log.read_text()[-4_000:], file=sys.stderr)
        raise
    finally:
        # A task within a client's own timeout may not notice that it is cancelled: nobody waits for ever here.
        over.set()
        await asyncio.wait([feeding], timeout=5)
        await client.close()
        connection.terminate()
    print(table(times))
    print(f"\ndrain: {alone:,.0f} jobs/s, with {viewers} viewers {seen:,.0f} ({seen / alone:.3f})")
    return all(page.percentile(0.95) <= LIMIT for page in times)


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
    parser.add_argument("--redis", help="the URL of a Redis beside it; what is in it is worked off")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--viewers", type=int, default=20)
    parser.add_argument("--dead", type=int, default=50_000)
    given: Any = parser.parse_args()
    if (given.database is None) != (given.redis is None):
        parser.error("--database and --redis go together")
    with contextlib.ExitStack() as stack:
        if given.database is None:
            servers = stack.enter_context(Servers())
            servers.empty(None)
            database, redis = servers.database_url(), servers.redis_url
            asyncio.run(_populated(database, Population(dead=given.dead, resting=1)))
        else:
            database, redis = given.database, given.redis
        fast = asyncio.run(bench(database, redis, given.rounds, given.viewers))
    return 0 if fast else 1


if __name__ == "__main__":
    sys.exit(main())
