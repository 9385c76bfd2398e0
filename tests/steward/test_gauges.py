"""Samples of what waits and runs, and the statistics of what has ended, folded into buckets."""

import asyncio
from typing import Any

from carafe import Client
from carafe.jobs.identifiers import uuid7
from carafe.steward.gauges import Sampler
from carafe.steward.statistics import Folder
from carafe.store.database import Database
from carafe.store.statements import WORKER_START
from carafe.telemetry.metrics import BOUNDS
from tests.jobs.by_hand import ByHand, count, run
from tests.jobs.conftest import worker
from tests.jobs.kinds import Greet

__all__ = ["worker"]

ADA = Greet(name="Ada")


async def rows(database: Database, query: str) -> list[dict[str, Any]]:
    async with database.connection() as connection:
        return [dict(row) for row in await connection.fetch(query)]


async def test_a_sample_counts_each_state_and_the_workers(carafe_client: Client, worker: ByHand) -> None:
    database = carafe_client.database
    jobs = [job.id for job in await carafe_client.enqueue_many([ADA] * 6)]
    _, dead, retrying, snoozed = await worker.claim(*jobs[:4])
    await worker.fail(dead, final=True)
    await worker.fail(retrying)
    await worker.snooze(snoozed)
    announced = {
        "host": "here",
        "pid": 1,
        "incarnation": "1",
        "version": "1",
        "kinds": [],
        "versions": [],
        "concurrency": 5,
        "pod": "",
    }
    await run(database, WORKER_START, id=worker.id, name="by hand", **announced)
    await run(database, WORKER_START, id=uuid7(), name="another", **announced)
    await carafe_client.pause()

    await Sampler(database).round()

    [sample] = await rows(database, "select * from carafe.gauges")
    assert sample["queue"] == "default"
    assert [sample[state] for state in ("queued", "running", "scheduled", "retrying", "dead")] == [2, 1, 1, 1, 1]
    assert sample["oldest_wait"] > 0
    assert (sample["workers"], sample["slots"], sample["paused"]) == (2, 10, True)


async def test_statistics_are_folded_by_kind_and_for_all_kinds(carafe_client: Client, worker: ByHand) -> None:
    database = carafe_client.database
    for _ in range(2):
        jobs = [job.id for job in await carafe_client.enqueue_many([ADA] * 3)]
        first, second, third = await worker.claim(*jobs)
        await worker.succeed(first)
        await worker.succeed(second)
        await worker.fail(third, final=True)
        await Folder(database).round()

    assert await count(database, "statistics_deltas") == 0
    for width in (10, 60, 600):
        found = await rows(
            database,
            "select kind, outcome, sum(count) as count, sum(wait_seconds) as waited from carafe.statistics"
            f" where width = {width} group by 1, 2 order by 1, 2",
        )
        assert [(row["kind"], row["outcome"], row["count"]) for row in found] == [
            ("", "dead", 2),
            ("", "succeeded", 4),
            ("tests.greet", "dead", 2),
            ("tests.greet", "succeeded", 4),
        ]
        assert found[1]["waited"] == found[3]["waited"] > 0
    for row in await rows(database, "select * from carafe.statistics"):
        assert len(row["waits"]) == len(row["runs"]) == len(BOUNDS) + 1
        assert sum(row["waits"]) == sum(row["runs"]) == row["count"]
        assert row["at"].timestamp() % row["width"] == 0


async def test_each_delta_counts_in_its_own_bar(carafe_client: Client) -> None:
    database = carafe_client.database
    deltas = [(0, 3, 1), (0, 3, 4), (18, 0, 2), (7, 7, 5)]
    async with database.connection() as connection:
        for wait, ran, number in deltas:
            await connection.execute(
                "insert into carafe.statistics_deltas values ('2026-01-02 03:04:55Z', 'a', 'succeeded', $1, $2, $3, 0.5, 2)",
                wait,
                ran,
                number,
            )
    await Folder(database).round()

    found = await rows(database, "select * from carafe.statistics where kind = 'a' order by width")
    assert [f"{row['at']:%H:%M:%S}" for row in found] == ["03:04:50", "03:04:00", "03:00:00"]
    for row in found:
        assert (row["count"], row["wait_seconds"], row["run_seconds"]) == (12, 2.0, 8.0)
        assert {bar: number for bar, number in enumerate(row["waits"]) if number} == {0: 5, 7: 5, 18: 2}
        assert {bar: number for bar, number in enumerate(row["runs"]) if number} == {0: 2, 3: 5, 7: 5}


async def test_two_who_fold_at_once_count_nothing_twice(carafe_client: Client) -> None:
    database = carafe_client.database
    async with database.connection() as connection:
        await connection.execute(
            "insert into carafe.statistics_deltas (kind, outcome, wait_bucket, run_bucket, count, wait_seconds, run_seconds)"
            " select 'k' || n % 7, 'succeeded', n % 19, n % 19, 1, 1, 1 from generate_series(1, 20000) as n"
        )
    folders = [Folder(database), Folder(database)]
    while await count(database, "statistics_deltas"):
        await asyncio.gather(*(folder.round() for folder in folders))

    [total] = await rows(database, "select sum(count) as n from carafe.statistics where kind = '' and width = 600")
    assert total["n"] == 20_000 == sum(folder.folded for folder in folders)
