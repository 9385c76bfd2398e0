"""The state of the whole system at one moment: counts, rates of the last minute, capacity, and what needs attention.

Each process reads this state once a second while somebody looks at the dashboard. Parts that change slowly or cost more
(ended jobs, deaths, lost workers) are remembered for `SLOW` seconds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from carafe.jobs.queue_name import QUEUE
from carafe.jobs.states import State
from carafe.readmodel.attention import DEATHS_WITHIN, Situation, attention
from carafe.readmodel.histograms import merge, percentile
from carafe.readmodel.records import Rates, Snapshot
from carafe.readmodel.statements import LEFT_KINDS, LOST_WORKERS, OLDEST_WAIT, RATES, RECENT_DEATHS
from carafe.store.counting import Counts, count
from carafe.store.database import Connection
from carafe.store.filters import JobFilter
from carafe.store.held_back import HeldBack, held_back
from carafe.store.status import Facts, facts

SLOW = 5.0
"""Seconds that the slower part of the answer is remembered."""

OLDEST_OF = 1_000
"""If at most this many jobs are queued, the oldest is searched for. If there are more, the wait of the oldest is taken from
the last sample."""

NEWEST = 5_000
"""At most this many recent deaths are read, and at most this many jobs are searched for kinds that no worker knows."""

COUNTING = 0.05
"""Seconds that counting ended jobs may take."""

MINUTE = 60.0


@dataclass(frozen=True, slots=True)
class Slow:
    """The parts of the answer that change slowly or cost more, and are remembered for `SLOW` seconds."""

    ended: Counts
    deaths: Sequence[Mapping[str, Any]]
    lost: Mapping[str, Any] | None
    held: HeldBack


async def slow(connection: Connection, live: Counts) -> Slow:
    """Returns the parts that change slowly or cost more. Raises what the database raises."""
    done = (State.SUCCEEDED, State.CANCELLED)
    ended = await count(connection, JobFilter(), done, live, seconds=COUNTING)
    dead = await count(connection, JobFilter(resolved=False), (State.DEAD,), live, seconds=COUNTING)
    deaths = await RECENT_DEATHS.fetch(connection, seconds=DEATHS_WITHIN, limit=NEWEST)
    lost = await LOST_WORKERS.fetchrow(connection)
    return Slow({**ended, **dead}, deaths, lost, await held_back(connection))


async def snapshot(
    connection: Connection,
    live: Counts,
    slower: Slow,
    *,
    redis: str | None,
    postgres: str | None = None,
    max_replicas: int | None,
) -> Snapshot:
    """Returns the state of the system now. `redis` and `postgres` say why that server cannot be used, and are None if it
    can. Raises what the database raises."""
    known = await facts(connection, max_replicas=max_replicas)
    rates = _rates(await RATES.fetch(connection), known)
    left_kinds = await LEFT_KINDS.fetch(
        connection, queue=QUEUE, kinds=list(known.kinds), versions=list(known.kinds.values()), limit=NEWEST
    )
    counts = {**live, **slower.ended}
    queued = counts[State.QUEUED].number
    oldest_wait = await _oldest_wait(connection, queued, known)
    growing = _growing(known)
    situation = Situation(
        known, redis, postgres, counts, oldest_wait, growing, rates, slower.deaths, left_kinds, slower.lost, slower.held
    )
    return Snapshot(
        at=known.now,
        counts=counts,
        oldest_wait=oldest_wait,
        paused_at=known.paused_at,
        paused_by=known.paused_by,
        paused_reason=known.paused_reason,
        workers=known.workers,
        draining=known.draining,
        slots=known.slots,
        slots_used=known.slots_used,
        replicas_wanted=known.replicas_wanted,
        replicas_there=known.pods_ready if known.scales else None,
        leader=known.leader,
        redis=redis,
        rates=rates,
        drain_seconds=queued / -growing if queued and growing < 0 else None,
        held=known.held_back,
        growing=growing,
        attention=attention(situation),
    )


async def _oldest_wait(connection: Connection, queued: int, known: Facts) -> float:
    if queued == 0:
        return 0.0
    sampled = known.sampled_wait
    if queued > OLDEST_OF and known.sample is not None and sampled is not None:
        return sampled + max(0.0, (known.now - known.sample.at).total_seconds())
    row = await OLDEST_WAIT.fetchrow(connection, limit=10 * OLDEST_OF)
    assert row is not None
    return max(0.0, float(row["seconds"]))


def _growing(known: Facts) -> float:
    if known.sample is None or known.before is None:
        return 0.0
    seconds = (known.sample.at - known.before.at).total_seconds()
    return (known.sample.queued - known.before.queued) / seconds


def _rates(rows: Sequence[Mapping[str, Any]], known: Facts) -> Rates:
    """Returns the rates of the last whole minute. `arrived` is the rate of jobs that ended plus the growth of live jobs,
    never below 0."""

    def ended(*outcomes: str) -> float:
        return float(sum(row["count"] for row in rows if row["outcome"] in outcomes) / MINUTE)

    more = 0.0
    if known.sample is not None and known.before is not None:
        more = (known.sample.live - known.before.live) / (known.sample.at - known.before.at).total_seconds()
    waits = merge(row["waits"] for row in rows if row["outcome"] == "succeeded")
    runs = merge(row["runs"] for row in rows if row["outcome"] in ("succeeded", "retrying", "dead"))
    return Rates(
        arrived=max(0.0, ended("succeeded", "dead", "cancelled") + more),
        succeeded=ended("succeeded"),
        dead=ended("dead"),
        retried=ended("retrying"),
        wait_p50=percentile(waits, 0.5),
        wait_p95=percentile(waits, 0.95),
        run_p50=percentile(runs, 0.5),
        run_p95=percentile(runs, 0.95),
    )
