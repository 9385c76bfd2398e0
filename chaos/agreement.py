"""Whether the dashboard's numbers agree with the tables after the chaos: charts, counts by state, groups, bulk totals.

They are asked of the read model that pages, API and command line share. The bulk action is run here, once everything is
mended, and every process is killed under it.
"""

import asyncio
import time
from collections import Counter, defaultdict
from datetime import datetime

from carafe import Client, State
from carafe.readmodel.model import ReadModel
from carafe.readmodel.records import Range
from carafe.readmodel.series import AXES
from carafe.store.audit import Actor
from carafe.store.database import Database
from carafe.store.filters import JobFilter
from chaos.invariants import Broken
from chaos.world import World

WITHIN = 60.0
"""Seconds in which the statistics must be folded and the last step of a chart be over, and the bulk action be done."""

DISCARDED = "chaos.failing"
"""Of this kind all dead are discarded in bulk."""


async def agree(world: World) -> list[Broken]:
    """What does not agree: one entry for each page's numbers."""
    database = Database(world.postgres.url, pool_size=2)
    try:
        model = ReadModel(database)
        found = [Broken(name, await compare(world, model)) for name, compare in AGREEMENTS.items()]
    finally:
        await database.close()
    return [one for one in found if one.shown_by]


async def _charts(world: World, model: ReadModel) -> list[tuple[str, str]]:
    async with world.truth() as connection:
        rows = await connection.fetch("select state, count(*) as number from carafe.jobs_ended group by 1")
        first: datetime = await connection.fetchval("select min(ended_at) from carafe.jobs_ended")
        last: datetime = await connection.fetchval("select max(ended_at) from carafe.jobs_ended")
        deadline = time.monotonic() + WITHIN
        range_: Range = next(
            (name for name, axis in AXES.items() if (last - first).total_seconds() < axis.points * axis.step - 2 * WITHIN),
            "7d",
        )
        while True:
            series = await model.series(range_)
            unfolded: int = await connection.fetchval("select count(*) from carafe.statistics_deltas")
            if (series.until > last and not unfolded) or time.monotonic() > deadline:
                break
            await asyncio.sleep(1)
    ended = {row["state"]: row["number"] for row in rows}
    shown: dict[str, float] = defaultdict(float)
    for point in series.points:
        shown["succeeded"] += (point.succeeded_rate or 0.0) * series.step
        shown["dead"] += (point.dead_rate or 0.0) * series.step
    return [
        ("-", f"{state}: {ended.get(state, 0)} ended, the chart of {range_} shows {shown[state]:.1f}")
        for state in ("succeeded", "dead")
        if abs(ended.get(state, 0) - shown[state]) > 0.5
    ]


async def _counts(world: World, model: ReadModel) -> list[tuple[str, str]]:
    async with world.truth() as connection:
        rows = await connection.fetch(
            "select state, count(*) as number from carafe.jobs_ended group by 1"
            " union all select state, count(*) from carafe.jobs group by 1"
        )
    there = Counter({row["state"]: row["number"] for row in rows})
    counts = await model.counts(JobFilter())
    return [
        ("-", f"{state}: {there[state.value]} there, {counts[state].number} shown")
        for state in State
        # An estimate may be off: it is marked as one, and comes from the samples and statistics that are compared here too.
        if counts[state].number != there[state.value] and not counts[state].estimated
    ]


async def _groups(world: World, model: ReadModel) -> list[tuple[str, str]]:
    async with world.truth() as connection:
        rows = await connection.fetch(
            "select kind, error_fingerprint, count(*) as number from carafe.jobs_dead"
            " where resolved_at is null group by 1, 2"
        )
    there = Counter({(row["kind"], row["error_fingerprint"]): row["number"] for row in rows})
    shown = Counter({(group.kind, group.fingerprint): group.count.number for group in (await model.dead_groups()).groups})
    return [
        ("-", f"{kind} {fingerprint}: {there[kind, fingerprint]} dead, {shown[kind, fingerprint]} shown")
        for kind, fingerprint in sorted(there.keys() | shown.keys())
        if there[kind, fingerprint] != shown[kind, fingerprint]
    ]


async def _bulk(world: World, model: ReadModel) -> list[tuple[str, str]]:
    """Discard all dead of a kind at a rate that takes some seconds, kill every process meanwhile, count what was done."""
    of_kind = "select count(*) from carafe.jobs_dead where kind = $1"
    async with (
        world.truth() as connection,
        Client.connect(database_url=world.postgres.url, redis_url=world.redis_url, pool_size=1) as client,
    ):
        there: int = await connection.fetchval(of_kind, DISCARDED)
        wanted = JobFilter(states=frozenset({State.DEAD}), kind=DISCARDED)
        bulk = await client.start_bulk(
            "discard", wanted, rate=max(10.0, there / 6), reason="after the chaos", by=Actor("chaos", "cli")
        )
        killed = False
        deadline = time.monotonic() + WITHIN
        while bulk.ended_at is None and time.monotonic() < deadline:
            await asyncio.sleep(0.25)
            bulk = await client.bulk(bulk.id)
            if bulk.done and not killed:
                killed = True
                for place in world.places:
                    place.kill()
                    place.start()
        await world.ready()
        resolved: int = await connection.fetchval(f"{of_kind} and resolved_at is not null", DISCARDED)
        audited: int = await connection.fetchval(
            "select count(*) from carafe.audit where bulk = $1 and target <> ''", bulk.id
        )
    numbers = f"of {there} dead: {bulk.done} done, {bulk.skipped} skipped, {bulk.failed} failed; {resolved} resolved"
    right = bulk.state == "done" and bulk.done == resolved == there and bulk.skipped == bulk.failed == 0
    found = [] if right else [(str(bulk.id), f"{bulk.state}, {numbers}")]
    if audited != bulk.done:
        found.append((str(bulk.id), f"{audited} audit rows; {numbers}"))
    return found


AGREEMENTS = {
    "the charts add up to the ends": _charts,
    "the counts are those of the tables": _counts,
    "the groups are those of the dead": _groups,
    "a bulk action's totals are what it did": _bulk,
}
