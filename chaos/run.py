"""One run: a world, a load, faults for this many minutes; then heal, wait, gather, check."""

import asyncio
import random
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from chaos import report
from chaos.agreement import agree
from chaos.evidence import Evidence, gather
from chaos.invariants import Broken, check
from chaos.ledger import Ledger
from chaos.load import Load
from chaos.schedule import Schedule, draw, draw_for
from chaos.world import World, world

SETTLE = 90.0
"""Seconds after the chaos in which everything live must end."""

REMEMBER_EVERY = 20.0
"""Seconds between two copies of Redis's append-only file, for coming back with an old one."""

RATE = 45.0
"""Jobs a second."""


@dataclass(frozen=True, slots=True)
class Result:
    """What came out of a run."""

    broken: list[Broken]
    evidence: Evidence
    faults: int
    text: str


def say(text: str) -> None:
    """Print progress."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


async def run(
    folder: Path,
    *,
    seed: int,
    seconds: float,
    broken: str | None = None,
    faults_of: str | None = None,
    workers: int = 3,
    webs: int = 2,
    rate: float = RATE,
    settle: float = SETTLE,
    keep: bool = False,
) -> Result:
    """Run the chaos for this many seconds with this seed, on the real build or a broken one.

    `faults_of`: with the faults that bring out that broken build, also on the real one. `keep` leaves the servers' data.
    """
    faults_of = faults_of or broken
    rng = random.Random(seed)
    plan = draw_for(faults_of, rng, seconds, workers) if faults_of else draw(rng, seconds, workers, webs)
    say(
        f"seed {seed}: {len(plan)} faults planned in {seconds:g} s; logs in {folder}"
        + (f"; build: {broken}" if broken else "")
    )
    async with world(folder, workers=workers, webs=webs, broken=broken, keep=keep) as made:
        ledger = Ledger(folder / "ledger.jsonl")
        # What was frozen must still be running on its new owner when it thaws, or a stale write has nothing to hit.
        long = (8.0, 14.0) if faults_of == "no_fence" else (1.0, 8.0)
        load = Load(made, ledger, random.Random(rng.random()), rate=rate, crashes=broken is None, long=long)
        schedule = Schedule(made, plan)
        load.start()
        watches = [asyncio.create_task(_watch(ledger, schedule)), asyncio.create_task(_remember(made))]
        try:
            await schedule.run(seconds)
            await schedule.finish()
            await made.heal()
            await load.stop()
            settled = await _settled(made, settle)
            evidence = await gather(made, ledger)
            disagreements = [] if broken or evidence.live else await agree(made)
        finally:
            for watch in watches:
                watch.cancel()
            load.abandon()
            ledger.close()
        found = check(evidence) + disagreements
        said = report.text(made, load, schedule, evidence, found, settled)
        report.write_all(found, evidence, folder / "broken.txt")
        (folder / "faults.txt").write_text(
            "".join(f"{done.began:.3f} to {done.ended:.3f} {done.fault}\n" for done in schedule.done)
        )
    return Result(found, evidence, len(schedule.done), said)


async def _watch(ledger: Ledger, schedule: Schedule) -> None:
    while True:
        await asyncio.sleep(15)
        say(f"  {ledger.jobs} jobs accepted, {len(schedule.done)} faults")


async def _remember(made: World) -> None:
    while True:
        await asyncio.sleep(REMEMBER_EVERY)
        await asyncio.to_thread(made.valkey.remember)


async def _settled(made: World, within: float) -> float:
    """Wait until nothing live is left, or time is up; seconds it took."""
    began = time.monotonic()
    async with made.truth() as connection:
        while time.monotonic() - began < within:
            if not await connection.fetchval("select exists(select from carafe.jobs)"):
                break
            await asyncio.sleep(0.25)
        else:
            await _tell_what_is_stuck(made, connection)
    return time.monotonic() - began


async def _tell_what_is_stuck(made: World, connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    """Leave what the workers wait for in their logs, and what Postgres does in `activity.txt`."""
    for worker in made.workers:
        worker.signal(signal.SIGUSR2)
    activity = await connection.fetch(
        "select pid, application_name, state, wait_event_type, wait_event, xact_start, state_change, query,"
        " pg_blocking_pids(pid) as blocked_by from pg_stat_activity where backend_type = 'client backend'"
    )
    (made.folder / "activity.txt").write_text("".join(f"{dict(row)}\n" for row in activity))
    await asyncio.sleep(1)
