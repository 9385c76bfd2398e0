"""The number of series of one process depends only on the number of kinds, not on jobs, workers, pods or restarts."""

import re
from collections import Counter

import asyncpg
import httpx
import pytest

from carafe.telemetry.metrics import ATTEMPT_BOUNDS, BOUNDS
from tests.metrics.many_kinds import COUNT
from tests.metrics.processes import Process, Samples
from tests.waiting import eventually

pytestmark = pytest.mark.process

PODS = 1000


@pytest.fixture(scope="module")
def environment(database_url: str, redis_url: str) -> dict[str, str]:
    return {
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url,
        "JOB_MODULES": "tests.metrics.many_kinds",
        "HANDLER_MODULES": "tests.metrics.many_kinds",
        "WEB_APPLICATION": "tests.metrics.web:create",
        "MIGRATIONS": "",
        "LOG_FORMAT": "json",
        "PORT": "0",
        "PROBE_PORT": "0",
    }


def bound(kinds: int) -> int:
    """Series of one process at most: by kind three counters of seven outcomes at most, two histograms with the bounds of
    waits and one with those of attempts; and what is not by kind."""
    histograms = 2 * (len(BOUNDS) + 3) + len(ATTEMPT_BOUNDS) + 3
    return kinds * (1 + 1 + 1 + 7 + 3 + histograms) + 200


def of_each(samples: Samples) -> Counter[str]:
    return Counter(name for name, _ in samples)


async def run_all(api: httpx.AsyncClient, database_url: str, rounds: int) -> None:
    jobs = [{"kind": f"many.kind{number}", "args": {}} for number in range(COUNT)] * rounds
    assert (await api.post("/jobs/bulk", json={"jobs": jobs})).status_code == 202
    connection = await asyncpg.connect(database_url)

    async def ended() -> bool:
        return bool(await connection.fetchval("select count(*) = 0 from carafe.jobs"))

    try:
        await eventually(ended, 60)
    finally:
        await connection.close()


async def test_two_hundred_kinds_and_any_number_of_jobs(
    web: Process, worker: Process, api: httpx.AsyncClient, database_url: str
) -> None:
    await run_all(api, database_url, 1)
    first = of_each(await worker.at_rest(ends=COUNT)), of_each(web.samples())
    await run_all(api, database_url, 5)
    for before, after in zip(first, (of_each(await worker.at_rest(ends=6 * COUNT)), of_each(web.samples())), strict=True):
        assert (after - before, before - after) == (Counter(), Counter())
    for process in (web, worker):
        assert len(process.samples()) <= bound(COUNT)
    assert len(worker.samples()) > 40 * COUNT, "the worker shows less than was thought: the bound says nothing"


async def test_a_thousand_pods_that_came_and_went_add_nothing(
    web: Process, worker: Process, api: httpx.AsyncClient, database_url: str
) -> None:
    # What was rescued would run alone, each job in a process of its own.
    assert (await api.post("/queues/default/pause")).status_code == 200
    before = of_each(web.samples())
    connection = await asyncpg.connect(database_url)
    try:
        # Each ran some job when it was killed: the steward rescues them all.
        await connection.execute(
            """
            with gone as (
                insert into carafe.workers (id, name, host, pid, incarnation, version, kinds, concurrency, state, beat_at)
                select gen_random_uuid(), 'celery@pod-' || n, 'pod-' || n, 1, 'pod ' || gen_random_uuid() || ' 1 0', '0',
                    array['many.kind' || n % 200], 5, 'lost', now() - interval '1 hour'
                from generate_series(1, $1) n returning id, kinds
            )
            insert into carafe.jobs (id, kind, state, args, version, max_attempts, timeout, worker, created_at, due_at,
                started_at, deadline_at, fence)
            select gen_random_uuid(), kinds[1], 'running', '{}', 1, 4, 300, id, now(), now(), now(),
                now() + interval '1 hour', 1 from gone
            """,
            PODS,
        )

        def rescued() -> float:
            # One line of thousands: to read them all takes as long as many rescues.
            (line,) = re.findall(r"^carafe_workers_lost_total (\S+)$", web.metrics(), re.MULTILINE)
            return float(line)

        await eventually(lambda: rescued() >= PODS, 120)
    finally:
        await connection.close()
    after = of_each(web.samples())
    # Kinds that were rescued may be shown with their outcome from now on; nothing is by pod, worker or restart.
    grown = {name: count for name, count in after.items() if count > before[name]}
    assert set(grown) <= {
        "carafe_jobs_rescued_total",
        "carafe_jobs_finished_total",
        "carafe_jobs_promoted_total",
        "carafe_hints_repaired_total",
    }
    assert len(web.samples()) <= bound(COUNT)
    assert "pod-" not in web.metrics()
