"""The counts agree with the tables, over processes, threads, children and restarts."""

from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import httpx
import pytest

from tests.metrics.conftest import Start
from tests.metrics.processes import Process, Samples, total
from tests.waiting import eventually

pytestmark = pytest.mark.process

MIX = {"fine": 60, "threaded": 30, "apart": 4, "whole": 10, "flaky": 12, "failing": 8, "snoozing": 3, "declining": 5}
"""Jobs of each kind in one round."""


@pytest.fixture(scope="module")
async def tables(database_url: str) -> AsyncIterator["asyncpg.Pool[asyncpg.Record]"]:
    async with asyncpg.create_pool(database_url, min_size=1, max_size=2) as pool:
        yield pool


async def round_of_jobs(api: httpx.AsyncClient, tables: "asyncpg.Pool[asyncpg.Record]") -> None:
    """Enqueue the mix in one bulk, cancel one that waits, and wait until nothing is left."""
    jobs = [{"kind": f"metrics.{kind}", "args": {}} for kind, count in MIX.items() for _ in range(count)]
    answer = await api.post("/jobs/bulk", json={"jobs": jobs})
    assert answer.status_code == 202, answer.text
    later = (await api.post("/jobs", json={"kind": "metrics.fine", "args": {}, "delay": 3600})).json()
    assert (await api.post(f"/jobs/{later['id']}/cancel")).status_code == 200

    async def all_ended() -> bool:
        return bool(await tables.fetchval("select count(*) = 0 from carafe.jobs"))

    await eventually(all_ended, 120)


@pytest.fixture(scope="module")
async def counted(start: Start, web: Process, api: httpx.AsyncClient, tables: "asyncpg.Pool[asyncpg.Record]") -> Samples:
    """The sum of what every process has shown: two workers, of which one is restarted between two rounds, and web."""
    first = [await start("serve", "--worker", STEWARD="false") for _ in range(2)]
    await round_of_jobs(api, tables)
    gone = await first[0].at_rest()
    await first[0].stop()
    again = await start("serve", "--worker", STEWARD="false")
    await round_of_jobs(api, tables)
    found: Counter[Any] = Counter()
    # `at_rest` waits for a worker that has done something.
    for samples in (gone, await first[1].at_rest(), await again.at_rest(), web.samples()):
        found.update(samples)
    return dict(found)


Table = dict[tuple[str, str], int]


async def by_kind(tables: "asyncpg.Pool[asyncpg.Record]", query: str) -> Table:
    return {(row[0], row[1]): row[2] for row in await tables.fetch(query)}


def shown(samples: Samples, name: str, *outcomes: str) -> Table:
    """A counter's values by kind and outcome, without zeros."""
    found = {}
    for (metric, labels), value in samples.items():
        has = dict(labels)
        if metric == name and has.get("outcome") in outcomes and value:
            found[has["kind"], has["outcome"]] = int(value)
    return found


async def test_every_end_is_counted_once(counted: Samples, tables: "asyncpg.Pool[asyncpg.Record]") -> None:
    ended = await by_kind(tables, "select kind, state, count(*) from carafe.jobs_ended group by 1, 2")
    assert sum(ended.values()) == 2 * (sum(MIX.values()) + 1)
    assert shown(counted, "carafe_jobs_finished_total", "succeeded", "dead", "cancelled") == ended


async def test_every_failed_attempt_is_counted_once(counted: Samples, tables: "asyncpg.Pool[asyncpg.Record]") -> None:
    failed = await by_kind(tables, "select kind, 'all', count(*) from carafe.attempts group by 1")
    assert failed
    of_kinds: Counter[tuple[str, str]] = Counter()
    for (kind, _), count in shown(counted, "carafe_jobs_finished_total", "retrying", "dead").items():
        of_kinds[kind, "all"] += count
    assert of_kinds == failed


async def test_every_accepted_job_is_counted_once(counted: Samples, tables: "asyncpg.Pool[asyncpg.Record]") -> None:
    assert total(counted, "carafe_jobs_accepted_total") == await tables.fetchval("select count(*) from carafe.jobs_ended")


async def test_what_was_started_is_what_is_over(counted: Samples, tables: "asyncpg.Pool[asyncpg.Record]") -> None:
    started, over = Counter[str](), Counter[str]()
    for (name, labels), value in counted.items():
        if name == "carafe_jobs_started_total":
            started[dict(labels)["kind"]] += int(value)
        elif name == "carafe_jobs_finished_total":
            over[dict(labels)["kind"]] += int(value)
    over["metrics.fine"] -= 2  # one a round was cancelled while it waited, and never started
    assert started == over
    snoozes = await tables.fetchval("select sum(snoozes) from carafe.jobs_ended")
    assert total(counted, "carafe_jobs_finished_total", outcome="snoozed") == snoozes >= 2 * MIX["snoozing"]


async def test_histograms_have_seen_each_once(counted: Samples, tables: "asyncpg.Pool[asyncpg.Record]") -> None:
    assert total(counted, "carafe_job_wait_seconds_count") == total(counted, "carafe_jobs_started_total")
    ran = sum(total(counted, "carafe_jobs_finished_total", outcome=outcome) for outcome in ("succeeded", "retrying", "dead"))
    assert total(counted, "carafe_job_run_seconds_count") == ran
    attempts = await tables.fetchval("select sum(attempt) from carafe.jobs_ended where state in ('succeeded', 'dead')")
    assert total(counted, "carafe_job_attempts_sum") == attempts
    assert total(counted, "carafe_job_attempts_bucket", kind="metrics.flaky", le="2.0") == 0
    assert total(counted, "carafe_job_attempts_bucket", kind="metrics.flaky", le="3.0") == 2 * MIX["flaky"]


async def test_waits_are_those_of_the_statistics_table(counted: Samples, tables: "asyncpg.Pool[asyncpg.Record]") -> None:
    """Of a kind that never fails: both know the same jobs and use the same bounds. The table knows of ends alone, so claims
    that a busy worker handed back, unbegun, are in the metric only, at most as many as it says of itself."""

    async def folded() -> bool:
        return bool(await tables.fetchval("select count(*) = 0 from carafe.statistics_deltas"))

    await eventually(folded, 60)
    query = """
        select waits, sum(count), sum(wait_seconds) from carafe.statistics
        where kind = 'metrics.threaded' and outcome = 'succeeded' and width = 600 group by waits
    """
    rows = await tables.fetch(query)
    bars = [sum(row[0][index] for row in rows) for index in range(len(rows[0][0]))]
    handed_back = sum(
        total(counted, "carafe_jobs_finished_total", kind="metrics.threaded", outcome=outcome)
        for outcome in ("returned", "drained")
    )
    running = 0
    bounds = sorted(
        {dict(labels)["le"] for (name, labels), _ in counted.items() if name == "carafe_job_wait_seconds_bucket"},
        key=float,
    )
    for bar, bound in zip(bars, bounds, strict=True):
        running += bar
        seen = total(counted, "carafe_job_wait_seconds_bucket", kind="metrics.threaded", le=bound)
        assert running <= seen <= running + handed_back, bound
    assert total(counted, "carafe_job_wait_seconds_count", kind="metrics.threaded") == running + handed_back
    seconds = float(sum(row[2] for row in rows))
    measured = total(counted, "carafe_job_wait_seconds_sum", kind="metrics.threaded")
    assert measured >= seconds - 1e-3
    assert handed_back or measured == pytest.approx(seconds, abs=1e-3)
