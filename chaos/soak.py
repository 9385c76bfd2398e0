"""The soak: a steady load of every shape for a long time, without faults, to see that nothing grows.

    python -m chaos.soak --minutes 30        # or: make soak MINUTES=30

Every five seconds it looks at each worker and web process (resident memory, open files, threads, children), at Postgres
(connections by application name, rows and size of the tables that must stay small) and at Redis (clients by name, keys,
memory), and visits the probes as Kubernetes and Prometheus do. The samples stay in `samples.jsonl`.

The rule: the first quarter of the time is warm-up and counts for nothing. Of each measure the floor over the second quarter
(nine of ten samples are above it) is compared with the floor over the last one: what a busy moment adds goes away again, and
what leaks never does. It may have risen by no more than `RULES` allows: files (sockets among them), threads and children of
a process and keys in Redis by 2, memory of a process by 5 % and never by more than 8 MB, connections at the servers by 2 or
20 % of those of their name, the rest as written there. Medians are shown beside it.
Broken as well: a key in Redis without a time to live that docs/redis-keys.md does not name, a process that ended by itself,
and any invariant of the chaos suite. `carafe.jobs_ended` and the idempotency keys grow by design, until their retention.

Shorter than a minute it is a trial of the soak itself: twelve samples, in which no growth is judged; the rest is.

Exit code 0: nothing grew; 1: something did. A leak is seen when it amounts to more than the allowed growth between the
middles of the two quarters, so half the time says half as much; below ten minutes Python is still warming up.
"""

import argparse
import asyncio
import math
import random
import re
import shutil
import signal
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import asyncpg
import httpx
import orjson
import psutil
from redis.asyncio import Redis

from chaos.evidence import gather
from chaos.invariants import check
from chaos.ledger import Ledger
from chaos.load import Load
from chaos.processes import Place
from chaos.proxy import HOST
from chaos.run import RATE, SETTLE, say
from chaos.world import ROOT, World, world

EVERY = 5.0
"""Seconds between two samples."""

SHORTEST = 1.0
"""Minutes that give each quarter three samples; below them samples come faster, and growth says nothing."""

FEWEST = 4
"""Samples at least, however slow the machine: one a quarter."""

MEGABYTE = 1e6

Sample = dict[tuple[str, str], float]
"""What was seen at one moment: a number by what was measured (a name of `RULES`) and of what."""


@dataclass(frozen=True, slots=True)
class Rule:
    """How much a floor may rise: by `floor` in any case, by `share` of what it was, never by more than `ceiling`."""

    floor: float = 0.0
    share: float = 0.0
    ceiling: float = math.inf

    def allowed(self, before: float) -> float:
        """The growth that is still noise."""
        return min(self.ceiling, max(self.floor, self.share * before))


COUNTED = Rule(floor=2)

RULES = {
    "memory, MB": Rule(share=0.05, ceiling=8),
    "open files": COUNTED,
    "threads": COUNTED,
    "children": COUNTED,
    # By name, which several processes share: a pool of each grows with its peaks, up to its bound.
    "connections": Rule(floor=2, share=0.2),
    "clients": Rule(floor=2, share=0.2),
    "keys": COUNTED,
    "data, MB": Rule(floor=1, share=0.05),
    # How much is live at once depends on the dice. `queued` rows that pile up are a backlog: the machine is too slow, or too
    # busy, for the rate.
    "live rows": Rule(floor=25, share=0.5),
    "rows": Rule(floor=50, share=0.25),
    # Dead versions between two autovacuums.
    "table, MB": Rule(floor=4, share=0.25),
}

LIVE = "select state, count(*) as count from carafe.jobs group by state"

SMALL_TABLES = """
select
    (select count(*) from carafe.workers) as workers,
    (select count(*) from carafe.statistics_deltas) as statistics_deltas,
    pg_total_relation_size('carafe.jobs') as bytes
"""

CONNECTIONS = """
select application_name as name, count(*) as count from pg_stat_activity
where backend_type = 'client backend' and pid <> pg_backend_pid()
group by application_name
"""


@dataclass(frozen=True, slots=True)
class Grown:
    """One measure of one thing: what it was in each sample of the second quarter, and of the last."""

    what: str
    of: str
    second: Sequence[float]
    last: Sequence[float]

    @property
    def before(self) -> float:
        """The floor over the second quarter."""
        return floor(self.second)

    @property
    def after(self) -> float:
        """The floor over the last quarter."""
        return floor(self.last)

    @property
    def growth(self) -> float:
        """By how much the floor rose; negative when it fell."""
        return self.after - self.before

    @property
    def allowed(self) -> float:
        """The growth that the rule calls noise."""
        return RULES[self.what].allowed(self.before)

    @property
    def too_much(self) -> bool:
        """Whether this is a leak."""
        return self.growth > self.allowed


def floor(values: Sequence[float]) -> float:
    """What a tenth of the values lie below; the least one when they are few."""
    return sorted(values)[len(values) // 10]


def compare(samples: Sequence[Sample]) -> list[Grown]:
    """Second quarter against last quarter, for everything that was ever seen; what a sample lacks was not there: 0."""
    quarter = len(samples) // 4
    second, last = samples[quarter : 2 * quarter], samples[-quarter:]
    order = list(RULES)
    seen = sorted({key for sample in samples for key in sample}, key=lambda key: (order.index(key[0]), key[1]))
    return [
        Grown(
            *key,
            second=[sample.get(key, 0.0) for sample in second],
            last=[sample.get(key, 0.0) for sample in last],
        )
        for key in seen
    ]


def table(grown: Sequence[Grown]) -> str:
    """What came out, a line each."""
    lines = [
        f"{'2nd quarter, then last:':<53}{'median':>9}{'':>8}{'floor':>9}{'':>8}{'growth':>9}{'allowed':>9}",
    ]
    for one in grown:
        lines.append(
            f"{one.what:<13}{one.of:<40}{statistics.median(one.second):>9.1f}{statistics.median(one.last):>8.1f}"
            f"{one.before:>9.1f}{one.after:>8.1f}{one.growth:>+9.1f}{one.allowed:>9.1f}" + ("  GREW" if one.too_much else "")
        )
    return "\n".join(lines)


def documented_keys() -> list[str]:
    """The patterns of keys that may stand in Redis forever, from docs/redis-keys.md."""
    text = (ROOT / "docs" / "redis-keys.md").read_text()
    _, _, section = text.partition("## Without a time to live")
    found = re.findall(r"^\| `([^`]+)` \|", section.partition("\n## ")[0], re.MULTILINE)
    if not found:
        raise RuntimeError("docs/redis-keys.md no longer has its table of keys without a time to live")
    return found


class Watch:
    """Takes the samples. Open while the world is."""

    def __init__(self, made: World, folder: Path, every: float = EVERY) -> None:
        self._every = every
        self.samples: list[Sample] = []
        self.undocumented: list[set[str]] = []
        self.visits: Counter[int | str] = Counter()
        self._made, self._path = made, folder / "samples.jsonl"
        self._documented = documented_keys()

    async def run(self, seconds: float) -> None:
        """Sample until this many seconds have passed."""
        began = time.monotonic()
        self._path.write_bytes(b"")
        async with (
            self._made.truth() as postgres,
            Redis.from_url(self._made.redis_url, client_name="soak") as redis,
        ):
            while (passed := time.monotonic() - began) < seconds or len(self.samples) < FEWEST:
                await self._visit()
                self._keep(await self._sample(postgres, redis), passed)
                await asyncio.sleep(max(0.0, self._every * len(self.samples) - (time.monotonic() - began)))

    def _keep(self, sample: Sample, passed: float) -> None:
        self.samples.append(sample)
        line = {"seconds": round(passed, 1)} | {f"{what} of {of}": value for (what, of), value in sample.items()}
        with open(self._path, "ab") as file:
            file.write(orjson.dumps(line) + b"\n")
        if len(self.samples) % round(60 / EVERY) == 0:
            largest = max(value for (what, _), value in sample.items() if what == "memory, MB")
            live = sum(value for (what, _), value in sample.items() if what == "live rows")
            say(f"  {passed / 60:.0f} min: largest process {largest:.0f} MB, live rows {live:.0f}")

    async def _visit(self) -> None:
        """Ask as Kubernetes and Prometheus do, each time on connections of its own."""
        async with httpx.AsyncClient(timeout=10) as http:
            for url in self._visited():
                try:
                    self.visits[(await http.get(url)).status_code] += 1
                except httpx.HTTPError as error:
                    self.visits[type(error).__name__] += 1

    async def _sample(self, postgres: "asyncpg.Connection[asyncpg.Record]", redis: Redis) -> Sample:
        sample: Sample = {}
        for place in self._made.places:
            sample |= _process(place)
        for row in await postgres.fetch(CONNECTIONS):
            sample["connections", row["name"] or "(no name)"] = row["count"]
        for row in await postgres.fetch(LIVE):
            sample["live rows", row["state"]] = row["count"]
        if small := await postgres.fetchrow(SMALL_TABLES):
            sample["table, MB", "carafe.jobs"] = small["bytes"] / MEGABYTE
            for name in ("workers", "statistics_deltas"):
                sample["rows", f"carafe.{name}"] = small[name]
        return sample | await self._redis(redis)

    async def _redis(self, redis: Redis) -> Sample:
        names = Counter(client["name"] or "(no name)" for client in await redis.client_list() if client["name"] != "soak")
        keys = [key.decode() async for key in redis.scan_iter()]
        async with redis.pipeline(transaction=False) as pipeline:
            for key in keys:
                pipeline.ttl(key)
            ttls = await pipeline.execute()
        self.undocumented.append(
            {
                key
                for key, ttl in zip(keys, ttls, strict=True)
                if ttl == -1 and not any(fnmatchcase(key, pattern) for pattern in self._documented)
            }
        )
        sample: Sample = {("clients", f"Redis, {name}"): count for name, count in names.items()}
        sample["keys", "Redis"] = len(keys)
        sample["data, MB", "Redis"] = (await redis.info("memory"))["used_memory"] / MEGABYTE
        return sample

    def _visited(self) -> list[str]:
        """What is asked for around the clock by Kubernetes and Prometheus."""
        probes = [line["probes"] for worker in self._made.workers if (line := worker.said("worker starting"))]
        return [
            *(f"http://{HOST}:{port}/{path}" for port in probes for path in ("livez", "readyz", "metrics")),
            *(f"{url}/{path}" for url in self._made.web_urls() for path in ("health", "api/v1/jobs")),
        ]


def _process(place: Place) -> Sample:
    """A process as the system sees it; one that has ended is reported elsewhere."""
    if place.process is None:
        return {}
    try:
        process = psutil.Process(place.process.pid)
        with process.oneshot():
            return {
                ("memory, MB", place.name): process.memory_info().rss / MEGABYTE,
                ("open files", place.name): process.num_fds(),
                ("threads", place.name): process.num_threads(),
                ("children", place.name): len(process.children()),
            }
    except psutil.NoSuchProcess:
        return {}


async def soak(
    folder: Path, *, minutes: float, rate: float = RATE, workers: int = 3, webs: int = 2, seed: int = 1
) -> list[str]:
    """Soak for this many minutes at this many jobs a second; says what it saw, and returns what is wrong, in words."""
    async with world(folder, workers=workers, webs=webs) as made:
        ledger = Ledger(folder / "ledger.jsonl")
        load = Load(made, ledger, random.Random(seed), rate=rate, crashes=False)
        watch = Watch(made, folder, EVERY * min(1.0, minutes / SHORTEST))
        load.start()
        try:
            await watch.run(minutes * 60)
            await load.stop()
            await _settle(made)
            evidence = await gather(made, ledger)
        finally:
            load.abandon()
            ledger.close()
    grown = compare(watch.samples)
    say(f"\n{table(grown)}\n")
    said = (
        f"{ledger.jobs} answers with a job in {minutes:g} min; {len(evidence.ended)} jobs ended, {len(evidence.live)} live"
    )
    say(f"{said}; slowest answer {load.slowest:.1f} s")
    say(f"probes and pages answered: {dict(watch.visits)}")
    leaks = [one for one in grown if one.too_much] if minutes >= SHORTEST else []
    wrong = [f"{one.what} of {one.of} grew by {one.growth:.1f}, allowed {one.allowed:.1f}" for one in leaks]
    # One look may fall between a key's making and its time to live.
    if kept := sorted(set.intersection(*watch.undocumented[-2:])):
        wrong.append(f"{len(kept)} undocumented keys in Redis have no time to live: {', '.join(kept[:5])}")
    wrong += [f"{name} ended by itself with {code}" for _, name, code in made.exits]
    wrong += [f"broken invariant: {one.name} ({len(one.shown_by)}): {one.shown_by[0]}" for one in check(evidence)]
    return wrong


async def _settle(made: World) -> None:
    """Wait until nothing live is left; what is left after `SETTLE` seconds is for the invariants."""
    async with made.truth() as connection:
        until = time.monotonic() + SETTLE
        while time.monotonic() < until:
            if not await connection.fetchval("select exists(select from carafe.jobs)"):
                return
            await asyncio.sleep(0.25)


def main() -> int:
    """Run as the command line says."""
    parser = argparse.ArgumentParser(
        prog="python -m chaos.soak", description="A steady load for a long time: nothing may grow."
    )
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--rate", type=float, default=RATE, help="jobs a second")
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--webs", type=int, default=2)
    parser.add_argument("--folder", type=Path, default=None, help="for logs and samples; kept")
    options = parser.parse_args()
    if not options.minutes > 0:
        parser.error("--minutes must be more than 0")
    folder = (options.folder or Path(tempfile.mkdtemp(prefix="carafe-soak-"))).absolute()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # also when a shell has started this in the background
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    say(f"soaking for {options.minutes:g} min at {options.rate:g} jobs a second; logs and samples in {folder}")
    try:
        wrong = asyncio.run(
            soak(folder, minutes=options.minutes, rate=options.rate, workers=options.workers, webs=options.webs)
        )
    except KeyboardInterrupt:
        say("interrupted; every process has been ended")
        return 130
    if wrong:
        say("\n".join(f"WRONG: {word}" for word in wrong))
        say(f"logs and samples in {folder}")
        return 1
    say("nothing grew, nothing spilled" if options.minutes >= SHORTEST else "nothing spilled; too short to judge growth")
    if options.folder is None:
        shutil.rmtree(folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
