"""Fills a database as months of work would have: live and ended jobs of many skewed kinds, dead letters in groups, attempts,
samples, statistics, workers, people's actions.

Made by set-based SQL: 200,000 live, 2,000,000 ended and 50,000 dead jobs take a minute or two. For measuring pages
(benchmarks/pages.py) and for testing the read model's plans; the numbers agree with each other (statistics and samples are
made from the rows).

Run it: `python -m benchmarks.population --database postgresql://… [--live 200000] [--ended 2000000] [--dead 50000]`.
The database is migrated first, and must have no jobs: what it holds is not touched, so that nothing real is mixed with this.
"""

import argparse
import asyncio
import sys
import time
from dataclasses import dataclass, fields

import asyncpg

from benchmarks.size import sized
from carafe.store.database import migrate, plain_dsn
from carafe.telemetry.metrics import BOUNDS


@dataclass(frozen=True, slots=True)
class Population:
    """How much of what. Ended jobs are those that succeeded or were cancelled (2 %), spread over `days` up to now.

    `resting` (1 or 0): queued jobs are offered to workers tomorrow only, so that a drain of others beside them goes on.
    """

    live: int = sized(200_000, 200)
    ended: int = sized(2_000_000, 500)
    dead: int = sized(50_000, 100)
    kinds: int = sized(200, 5)
    days: int = sized(7, 1)
    workers: int = 4
    resting: int = 0


RARE = "rare.kind"
"""A kind of which there are three ended jobs alone, the oldest of all."""

# A kind by its number, skewed: the first takes a fifth, the last hardly anything. The same expression everywhere.
_KIND = "'kind.' || lpad(floor({kinds} * power({random}, 3))::int::text, 3, '0')"

# Random numbers that are the same in each run: a multiplicative hash of the row's number.
_RANDOM = "((({n})::bigint * 2654435761 + {salt}) % 1000003) / 1000003.0"

_PARTITIONS = """
do $$
declare day date; side text;
begin
    for day in select d::date from generate_series(
            (now() at time zone 'UTC')::date - {days}, (now() at time zone 'UTC')::date, interval '1 day') d loop
        foreach side in array array['jobs_dead', 'jobs_done'] loop
            execute format('create table if not exists carafe.%I partition of carafe.%I for values from (%L) to (%L)',
                side || to_char(day, '_YYYYMMDD'), side,
                day::timestamp at time zone 'UTC', (day + 1)::timestamp at time zone 'UTC');
        end loop;
    end loop;
end $$
"""

_DONE = """
insert into carafe.jobs_ended (id, kind, queue, state, args, version, attempt, max_attempts, fence, snoozes, releases,
    timeout, worker, created_at, due_at, started_at, ended_at, result, error)
select uuidv7(at - interval '20 seconds' - now()), {kind}, 'default',
    case when cancelled then 'cancelled' else 'succeeded' end,
    jsonb_build_object('number', n, 'url', 'https://example.com/items/' || n, 'note', repeat('x', (n % 200)::int)), 1, 1, 4,
    1, 0, 0, 300, ('00000000-0000-7000-8000-00000000000' || n % {workers})::uuid, at - interval '20 seconds',
    at - interval '20 seconds', at - {run} * interval '1 second', at, '{{"ok": true}}',
    case when cancelled then 'cancelled by an operator' end
from generate_series({first}::bigint, {last}::bigint) as n,
    lateral (select now() - (({total} - n) / {total}::float8) * {days} * interval '1 day' as at, n % 50 = 7 as cancelled)
        as ended
"""

_DEAD = """
insert into carafe.jobs_ended (id, kind, queue, state, args, version, attempt, max_attempts, fence, snoozes, releases,
    timeout, worker, created_at, due_at, started_at, ended_at, error_class, error, error_fingerprint, resolved_at,
    resolved_by, resolved_reason)
select uuidv7(at - interval '5 minutes' - now()), kind, 'default', 'dead',
    jsonb_build_object('number', n, 'url', 'https://example.com/items/' || n), 1, 4, 4, 4, 0, 0, 300,
    ('00000000-0000-7000-8000-00000000000' || n % {workers})::uuid, at - interval '5 minutes', at - interval '1 minute',
    at - interval '30 seconds', at, error, error || ': while fetching item ' || n || ' of the list', md5(kind || error),
    case when n % 20 = 3 then at + interval '1 minute' end, case when n % 20 = 3 then 'ana' end,
    case when n % 20 = 3 then 'known, fixed by the next release' end
from generate_series(1, {dead}::bigint) as n,
    lateral (select now() - (1 - n / {dead}::float8) * {days} * interval '1 day' as at, {kind} as kind,
        (array['ConnectTimeout', 'ConnectTimeout', 'ConnectTimeout', 'ValueError', 'KeyError', 'HTTPStatusError'])[1 + n % 6]
            as error) as died
"""

_RARE = """
insert into carafe.jobs_ended (id, kind, queue, state, args, version, attempt, max_attempts, fence, snoozes, releases,
    timeout, created_at, due_at, started_at, ended_at)
select uuidv7(at - now()), '{rare}', 'default', 'succeeded', '{{"briefing_id": "needle"}}', 1, 1, 4, 1, 0, 0, 300, at,
    at, at, at
from generate_series(1, 3) as n, lateral (select now() - {days} * interval '1 day' + n * interval '1 second' as at) as ended
"""

_LIVE = """
insert into carafe.jobs (id, kind, state, args, version, attempt, max_attempts, fence, timeout, worker, created_at, due_at,
    hinted_at, started_at, deadline_at)
select uuidv7(at - now()), {kind}, state, jsonb_build_object('number', n, 'note', repeat('x', (n % 200)::int)), 1,
    case when state = 'retrying' then 1 else 0 end, 4, case when state in ('running', 'retrying') then 1 else 0 end, 300,
    case when state = 'running' then ('00000000-0000-7000-8000-00000000000' || n % {workers})::uuid end, at,
    case when state in ('scheduled', 'retrying') then now() + (n % 7200) * interval '1 second' else at end,
    case when state in ('queued', 'running') then at + {resting} * interval '1 day' end,
    case when state in ('running', 'retrying') then now() end,
    case when state = 'running' then now() + interval '5 minutes' end
from generate_series(1, {live}::bigint) as n,
    lateral (select now() - ({live} - n) * interval '10 milliseconds' as at,
        case when n <= {workers} * 5 then 'running' when n % 10 = 0 then 'scheduled' when n % 40 = 1 then 'retrying'
            else 'queued' end as state) as made
"""

_ATTEMPTS = """
insert into carafe.attempts (job_id, kind, attempt, fence, cause, error_class, error, traceback, worker, worker_name,
    started_at, ended_at)
select id, kind, attempt, fence, 'error', coalesce(error_class, 'ConnectTimeout'),
    coalesce(error, 'ConnectTimeout: no answer'),
    'Traceback (most recent call last):' || repeat(E'\\n  File "handlers.py", line 1, in handle', 8), worker, 'worker 0',
    started_at, coalesce(ended_at, now())
from (
    select id, kind, attempt, fence, error_class, error, worker, started_at, ended_at from carafe.jobs_dead
    union all
    select id, kind, attempt, fence, null, null, null, started_at, null from carafe.jobs where state = 'retrying'
) as failed
"""

_STATISTICS = """
insert into carafe.statistics (width, at, kind, outcome, count, wait_seconds, run_seconds, waits, runs)
select {width}, at, coalesce(kind, ''), state, count, count * 19.0, count * 1.0,
    array_fill(0::bigint, array[{bars}]) || count || array_fill(0::bigint, array[{buckets} - {bars} - 1]),
    array_fill(0::bigint, array[{bars} - 4]) || count || array_fill(0::bigint, array[{buckets} - {bars} + 3])
from (
    select date_bin({width} * interval '1 second', ended_at, timestamptz '2000-01-01 00:00+00') as at, kind, state,
        count(*) as count
    from carafe.jobs_ended where ended_at > now() - {keep} * interval '1 second'
    group by grouping sets ((1, 2, 3), (1, 3))
) as folded
"""

_GAUGES = """
insert into carafe.gauges (at, queue, queued, running, scheduled, retrying, dead, oldest_wait, paused, workers, slots, used)
select at, 'default', (c.queued * (1 + sin(extract(epoch from at) / 3600)) / 2)::bigint, c.running, c.scheduled, c.retrying,
    c.dead, 30, false, {workers}, {workers} * 5, c.running
from generate_series(now() - {days} * interval '1 day', now(), interval '5 seconds') as at,
    (select count(*) filter (where state = 'queued') as queued, count(*) filter (where state = 'running') as running,
        count(*) filter (where state = 'scheduled') as scheduled, count(*) filter (where state = 'retrying') as retrying,
        (select count(*) from carafe.jobs_dead where resolved_at is null) as dead from carafe.jobs) as c
"""

_WORKERS = """
insert into carafe.workers (id, name, host, pid, incarnation, version, kinds, concurrency, state, beat_at)
select ('00000000-0000-7000-8000-00000000000' || n)::uuid, 'worker ' || n, 'host', n, 'population ' || n, '1',
    (select array_agg('kind.' || lpad(k::text, 3, '0')) from generate_series(0, {kinds} - 1) as k), 5, 'running',
    now() + interval '1 day'
from generate_series(0, {workers} - 1) as n
"""

_AUDIT = """
insert into carafe.audit (id, at, actor, via, action, target, details)
select uuidv7(at - now()), at, 'ana', 'dashboard', action, target, '{{"matched": 1200, "action": "retry"}}'
from generate_series(1, 20000) as n,
    lateral (select now() - (20000 - n) * interval '30 seconds' as at,
        case when n % 500 = 1 then 'pause' when n % 500 = 2 then 'resume' when n % 100 = 3 then 'bulk start' else 'retry' end
            as action) as acted,
    lateral (select case when action in ('pause', 'resume') then 'default' else md5(n::text) end as target) as upon
"""

KEPT = {10: 3 * 3_600, 60: 2 * 86_400, 600: 90 * 86_400}
"""Seconds that statistics are kept, by width; as in carafe.steward.statistics."""

BATCH = 250_000
"""Ended jobs of one statement."""


async def populate(connection: "asyncpg.Connection[asyncpg.Record]", size: Population, *, say: bool = False) -> None:
    """Fill a migrated database that has no jobs. Raises ``RuntimeError`` when it has some.

    The workers beat a day ahead, so that they count as alive without running.
    """
    found = "select exists (select from carafe.jobs) or exists (select from carafe.jobs_ended)"
    if await connection.fetchval(found):
        raise RuntimeError("this database has jobs already; the population goes into one that has none")
    began = time.monotonic()

    async def run(what: str, statement: str, **values: object) -> None:
        random = _RANDOM.format(n="n", salt=len(what) * 7919)
        given = {
            "kinds": size.kinds,
            "days": size.days,
            "live": size.live,
            "dead": max(size.dead, 1),
            "workers": size.workers,
            "resting": size.resting,
            "rare": RARE,
            "run": f"(0.05 + {random})",
            "kind": _KIND.format(kinds=size.kinds, random=random),
        }
        await connection.execute(statement.format(**(given | values)), timeout=1_800)
        if say:
            print(f"{time.monotonic() - began:6.1f} s  {what}", file=sys.stderr)

    async with connection.transaction():
        await run("partitions", _PARTITIONS)
        await run("rare", _RARE)
        for first in range(1, size.ended + 1, BATCH):
            last = min(size.ended, first + BATCH - 1)
            await run(f"ended {last:,}", _DONE, first=first, last=last, total=size.ended)
        if size.dead:
            await run("dead", _DEAD)
        await run("live", _LIVE)
        await run("attempts", _ATTEMPTS)
        for width, keep in KEPT.items():
            await run(f"statistics {width} s", _STATISTICS, width=width, keep=keep, buckets=len(BOUNDS) + 1, bars=10)
        await run("workers", _WORKERS)
        await run("samples", _GAUGES)
        await run("audit", _AUDIT)
    for table in ("jobs", "jobs_ended", "attempts", "statistics", "gauges", "audit", "workers"):
        await connection.execute(f"vacuum (analyze) carafe.{table}", timeout=1_800)
    if say:
        print(f"{time.monotonic() - began:6.1f} s  vacuumed and analyzed", file=sys.stderr)


async def main() -> None:
    """Migrate and fill the database that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--database", required=True, help="its URL; it is migrated, and must have no jobs")
    for field in fields(Population):
        parser.add_argument(f"--{field.name}", type=int, default=field.default)
    given = vars(parser.parse_args())
    url = given.pop("database")
    await migrate(url)
    connection = await asyncpg.connect(plain_dsn(url))
    try:
        await populate(connection, Population(**given), say=True)
    finally:
        await connection.close()


if __name__ == "__main__":
    asyncio.run(main())
