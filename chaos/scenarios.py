"""The scripted scenarios: one thing goes wrong at a known moment, and everything is done all the same.

``python -m chaos.scenarios`` measures them; tests/test_nothing_spilled.py runs the same functions and asserts what they
return, but no time.
"""

import argparse
import asyncio
import re
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

import httpx
from redis.asyncio import Redis

from carafe import Client
from carafe.jobs.queue_name import QUEUE
from chaos.jobs import Long, Plain, Poisoned, Tagged
from chaos.journal import read
from chaos.processes import now
from chaos.proxy import HOST
from chaos.world import World, world

JOBS = 200
MILLISECONDS = 50
BULK = 10_000
"""Jobs in one bulk at most (BULK_LIMIT)."""

WITHIN = 120.0
"""Seconds after which a scenario gives up waiting."""


@dataclass(slots=True)
class Outcome:
    """What came out: jobs by state, how often each began, failed attempts by cause, and seconds by what they measure."""

    states: Counter[str]
    begins: Counter[str]
    causes: Counter[str]
    seconds: dict[str, float] = field(default_factory=dict)
    codes: list[int | None] = field(default_factory=list)
    dropped: int = 0
    """Hints that led to no claim (duplicates and stale ones), where a scenario counts them."""

    def __str__(self) -> str:
        again = sum(1 for count in self.begins.values() if count > 1)
        measured = ", ".join(f"{what} {seconds:.2f} s" for what, seconds in self.seconds.items())
        return f"{dict(self.states)}; ran more than once: {again}; failed attempts: {dict(self.causes)}; {measured}" + (
            f"; hints dropped: {self.dropped}" if self.dropped else ""
        )


# -- the scenarios


async def killed(made: World) -> Outcome:
    """SIGKILL to the worker's process group in the middle of 200 short jobs, and a new worker at once."""
    ids = await _two_hundred(made)
    await _ended(made, ids, 60)
    (worker,) = made.workers
    worker.kill()
    restarted = now()
    worker.start()
    await _ended(made, ids)
    return await _outcome(made, ids, **{"restart to last end": await _last_end(made, ids) - restarted})


async def flushed(made: World) -> Outcome:
    """FLUSHALL in the middle of 200 short jobs."""
    ids = await _two_hundred(made)
    await _ended(made, ids, 60)
    flushed = now()
    async with Redis.from_url(made.valkey.url) as redis:
        await redis.flushall()
    await _ended(made, ids)
    undisturbed = (JOBS - 60) * MILLISECONDS / 1000 / 2
    last = await _last_end(made, ids) - flushed
    return await _outcome(made, ids, **{"flush to last end": last, "more than undisturbed": last - undisturbed})


async def rolled(made: World) -> Outcome:
    """A rolling restart of all workers under load, jobs of a second among it."""
    ids: list[UUID] = []
    stop = asyncio.Event()

    async def load(client: Client) -> None:
        while not stop.is_set():
            jobs: list[Tagged] = [Plain(tag="roll", milliseconds=20) for _ in range(8)]
            jobs += [Long(tag="roll", seconds=1.0), Long(tag="roll", seconds=2.0)]
            ids.extend(job.id for job in await client.enqueue_many(jobs))
            await asyncio.sleep(0.5)

    began = now()
    async with made.client("client") as client:
        loading = asyncio.create_task(load(client))
        for worker in made.workers:
            await made.roll(worker)
            await made.ready()
        stop.set()
        await loading
    await _ended(made, ids)
    outcome = await _outcome(made, ids, **{"the whole": now() - began, "longest life of a job": await _longest(made, ids)})
    outcome.codes = [code for _, code, _ in made.drains]
    return outcome


async def redis_restarted(made: World, *, times: int, outage: float = 0.2, long_outage: float | None = None) -> Outcome:
    """Redis is restarted this many times under load; after each return every worker must be seen to begin jobs."""
    ids: list[UUID] = []
    returns: list[float] = []
    outages = [outage] * times + ([] if long_outage is None else [long_outage])
    async with made.client("client") as client:
        for seconds in outages:
            ids += await _enqueue(client, 20)
            await asyncio.to_thread(made.valkey.crash)
            ids += await _enqueue(client, 20)
            await asyncio.sleep(seconds)
            await asyncio.to_thread(made.valkey.restart_on_the_same_port)
            returned = now()
            deadline = time.monotonic() + WITHIN
            while not await _all_begin_after(made, client, ids, returned):
                if time.monotonic() > deadline:
                    raise TimeoutError(f"not every worker consumes {WITHIN:g} s after Redis has returned")
            returns.append(max(_first_begins(made, returned).values()) - returned)
    await _ended(made, ids)
    return await _outcome(made, ids, **{"slowest return": max(returns), "median return": sorted(returns)[len(returns) // 2]})


async def backlog_wiped(made: World, *, jobs: int) -> Outcome:
    """FLUSHALL with this many jobs queued, while a worker drains them."""
    ids: list[UUID] = []
    async with made.client("client") as client:
        for begin in range(0, jobs, BULK):
            batch = [Plain(tag="deep", milliseconds=1) for _ in range(min(BULK, jobs - begin))]
            ids += [job.id for job in await client.enqueue_many(batch)]
    async with Redis.from_url(made.valkey.url) as redis, made.truth() as connection:
        wiped = await connection.fetchval("select clock_timestamp()")
        flushed = now()
        await redis.flushall()
        queued = await connection.fetchval("select count(*) from carafe.jobs where state = 'queued'")

        async def claimable() -> bool:
            return bool(await redis.llen(QUEUE))

        async def pushed() -> bool:
            lost = "select exists(select from carafe.jobs where state = 'queued' and hinted_at < $1)"
            return not await connection.fetchval(lost, wiped)

        async def drained() -> bool:
            return not await connection.fetchval("select exists(select from carafe.jobs)")

        await _until(claimable, "the first hint after the wipe")
        first = now() - flushed
        await _until(pushed, "all hints to be pushed again")
        last = now() - flushed
        await _until(drained, "the backlog to be drained", 600.0)
    seconds = {f"wipe of {queued} queued to the first hint": first, "to the last": last, "to the last end": now() - flushed}
    outcome = await _outcome(made, ids, **seconds)
    outcome.dropped = await _hints_dropped(made)
    return outcome


async def poisoned(made: World) -> Outcome:
    """A job that ends its process at each start, among neighbours that share its crashes."""
    began = now()
    async with made.client("client") as client:
        poison = await client.enqueue(Poisoned(tag="poison"))
        neighbours = [job.id for job in await client.enqueue_many([Long(tag="neighbour", seconds=1.0) for _ in range(12)])]
        neighbours += await _enqueue(client, 40)
    await _ended(made, [poison.id, *neighbours])
    return await _outcome(made, [poison.id, *neighbours], **{"the whole": now() - began})


# -- what they share


async def _two_hundred(made: World) -> list[UUID]:
    async with made.client("client") as client:
        return await _enqueue(client, JOBS)


async def _enqueue(client: Client, count: int) -> list[UUID]:
    jobs = [Plain(tag="short", milliseconds=MILLISECONDS) for _ in range(count)]
    return [job.id for job in await client.enqueue_many(jobs)]


async def _hints_dropped(made: World) -> int:
    """What the workers say that they have dropped."""
    dropped = 0
    async with httpx.AsyncClient() as http:
        for worker in made.workers:
            line = worker.said("worker starting")
            assert line is not None
            metrics = (await http.get(f"http://{HOST}:{line['probes']}/metrics")).text
            found = re.search(r'^carafe_hints_total\{.*outcome="stale".*\} (\S+)$', metrics, re.MULTILINE)
            dropped += int(float(found[1])) if found else 0
    return dropped


async def _until(check: Callable[[], Awaitable[bool]], what: str, within: float = WITHIN) -> None:
    deadline = time.monotonic() + within
    while not await check():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {within:g} s for {what}")
        await asyncio.sleep(0.05)


async def _ended(made: World, ids: list[UUID], count: int | None = None) -> None:
    """Wait until this many of the jobs (all of them) have ended."""
    wanted = len(ids) if count is None else count
    async with made.truth() as connection:

        async def enough() -> bool:
            query = "select count(distinct job_id) from chaos.ends where job_id = any($1)"
            return bool(await connection.fetchval(query, ids) >= wanted)

        await _until(enough, f"{wanted} jobs to end")


async def _last_end(made: World, ids: list[UUID]) -> float:
    async with made.truth() as connection:
        last = await connection.fetchval("select extract(epoch from max(at)) from chaos.ends where job_id = any($1)", ids)
    return float(last)


async def _longest(made: World, ids: list[UUID]) -> float:
    async with made.truth() as connection:
        query = "select extract(epoch from max(ended_at - created_at)) from carafe.jobs_ended where id = any($1)"
        return float(await connection.fetchval(query, ids))


def _first_begins(made: World, after: float) -> dict[int, float]:
    """When each process began its first job after a moment."""
    first: dict[int, float] = {}
    for line in read(made.journal):
        if line["event"] == "begin" and line["begin"] > after:
            first.setdefault(line["pid"], line["begin"])
    return first


async def _all_begin_after(made: World, client: Client, ids: list[UUID], moment: float) -> bool:
    """Whether every worker has begun a job since; enqueues more, so that each has a chance to."""
    if {worker.process.pid for worker in made.workers if worker.process} <= _first_begins(made, moment).keys():
        return True
    ids += await _enqueue(client, 20)
    await asyncio.sleep(0.1)
    return False


async def _outcome(made: World, ids: list[UUID], **seconds: float) -> Outcome:
    async with made.truth() as connection:
        ended = await connection.fetch("select kind, state from carafe.jobs_ended where id = any($1)", ids)
        causes = await connection.fetch("select kind, cause from carafe.attempts where job_id = any($1)", ids)
    begins = Counter(line["id"] for line in read(made.journal) if line["event"] == "begin")
    return Outcome(
        states=Counter(f"{row['kind']} {row['state']}" for row in ended),
        begins=Counter({str(job_id): begins[str(job_id)] for job_id in ids}),
        causes=Counter(f"{row['kind']} {row['cause']}" for row in causes),
        seconds=seconds,
    )


# -- their worlds, and the script


def small(folder: Path, *, workers: int = 1, slots: int = 2) -> AbstractAsyncContextManager[World]:
    """A world of this many workers of this many slots each, and one web process that carries the steward."""
    return world(folder, workers=workers, webs=1, settings={"WORKER_CONCURRENCY": str(slots), "DRAIN_TIMEOUT": "10"})


async def _measure() -> None:
    script: Mapping[str, tuple[Callable[[World], Awaitable[Outcome]], int, int]] = {
        "SIGKILL of the worker's group": (killed, 1, 2),
        "FLUSHALL": (flushed, 1, 2),
        "rolling restart": (rolled, 3, 5),
        "Redis restarted 20 times, once for 90 s": (
            lambda made: redis_restarted(made, times=19, long_outage=90.0),
            3,
            2,
        ),
        "a job that crashes its worker": (poisoned, 2, 5),
        "deep backlog wiped": (lambda made: backlog_wiped(made, jobs=100_000), 1, 5),
    }
    for name, (scenario, workers, slots) in script.items():
        with tempfile.TemporaryDirectory(prefix="carafe-scenario-") as folder:
            async with small(Path(folder), workers=workers, slots=slots) as made:
                try:
                    said = str(await scenario(made))
                except TimeoutError as error:
                    said = f"FAILED: {error}"
        sys.stdout.write(f"{name}: {said}\n")
        sys.stdout.flush()


def main() -> None:
    """Measure every scenario."""
    argparse.ArgumentParser(prog="python -m chaos.scenarios", description=__doc__).parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # also when a shell has started this in the background
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    asyncio.run(_measure())


if __name__ == "__main__":
    main()
