"""Pruning deletes whole days of ended jobs with everything that belongs to them, and deletes nothing before its time."""

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from carafe import Client, State
from carafe.steward.partitions import Partitioner
from carafe.steward.pruner import DAY, Prunable, Pruner, Retention
from carafe.store.database import Database
from tests.jobs.by_hand import ByHand, count
from tests.jobs.conftest import worker
from tests.jobs.kinds import Greet

__all__ = ["worker"]

TODAY = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
RETENTION = Retention(succeeded=2 * DAY, dead=5 * DAY)


async def execute(database: Database, query: str, *values: object) -> None:
    async with database.connection() as connection:
        await connection.execute(query, *values)


async def make_day(database: Database, side: str, age: int) -> str:
    """A partition for the day this many days ago; its name."""
    day = TODAY - timedelta(days=age)
    name = f"{side}_{day:%Y%m%d}"
    await execute(
        database,
        f"create table carafe.{name} partition of carafe.{side} for values from ('{day:%Y-%m-%d} 00:00+00')"
        f" to ('{day + timedelta(days=1):%Y-%m-%d} 00:00+00')",
    )
    return name


async def ended(database: Database, state: str, age: float, *, attempts: int = 1, jobs: int = 1) -> list[UUID]:
    """Jobs that ended this many days ago, with their failed attempts."""
    ids = [uuid4() for _ in range(jobs)]
    ended_at = TODAY - timedelta(days=age) + timedelta(hours=12)
    await execute(
        database,
        """insert into carafe.jobs_ended (id, kind, queue, state, args, version, attempt, max_attempts, fence, snoozes,
            releases, timeout, created_at, due_at, ended_at)
        select id, 'tests.greet', 'default', $2, '{"name": "Ada"}', 1, $3::integer, 4, $3::integer, 0, 0, 60, $4, $4, $4
        from unnest($1::uuid[]) as id""",
        ids,
        state,
        attempts,
        ended_at,
    )
    await execute(
        database,
        """insert into carafe.attempts (job_id, kind, attempt, fence, cause, error, ended_at)
        select id, 'tests.greet', n, n, 'error', 'it failed', $3
        from unnest($1::uuid[]) as id, generate_series(1, $2) as n""",
        ids,
        attempts - (state == "succeeded"),
        ended_at - timedelta(days=3),
    )
    return ids


async def logged(database: Database, age: float, *, failed: bool, jobs: int = 1) -> list[UUID]:
    """Jobs that logged a line this many days ago, in an attempt that failed or did not."""
    ids = [uuid4() for _ in range(jobs)]
    await execute(
        database,
        """insert into carafe.job_logs (failed, written_at, job_id, fence, attempt, first, last, times, levels, texts)
        select $2, $3::timestamptz, id, 1, 1, 1, 1, array[$3::timestamptz], array['info'], array['it works']
        from unnest($1::uuid[]) as id""",
        ids,
        failed,
        TODAY - timedelta(days=age) + timedelta(hours=12),
    )
    return ids


async def logs_of(database: Database) -> set[UUID]:
    async with database.connection() as connection:
        return {row["job_id"] for row in await connection.fetch("select job_id from carafe.job_logs")}


async def names(database: Database) -> set[str]:
    """The partitions there are."""
    async with database.connection() as connection:
        rows = await connection.fetch(
            "select cast(inhrelid::regclass as text) as name from pg_inherits i join pg_class p on p.oid = i.inhparent"
            " where p.relname in ('jobs_dead', 'jobs_done', 'job_logs_dead', 'job_logs_done')"
        )
    return {row["name"].removeprefix("carafe.") for row in rows}


async def attempts_of(database: Database) -> set[UUID]:
    async with database.connection() as connection:
        return {row["job_id"] for row in await connection.fetch("select job_id from carafe.attempts")}


async def test_days_wholly_beyond_retention_are_dropped_with_their_attempts(carafe_client: Client) -> None:
    database = carafe_client.database
    old_done, kept_done = await make_day(database, "jobs_done", 4), await make_day(database, "jobs_done", 1)
    old_dead, kept_dead = await make_day(database, "jobs_dead", 7), await make_day(database, "jobs_dead", 4)
    await ended(database, "succeeded", 4, attempts=3, jobs=1_500)
    await ended(database, "cancelled", 4, attempts=2)
    await ended(database, "dead", 7, attempts=4, jobs=3)
    kept = await ended(database, "succeeded", 1, attempts=2) + await ended(database, "dead", 4, attempts=4)
    before = await names(database)

    pruner = Pruner(database, RETENTION)
    await pruner.round()

    assert await names(database) == before - {old_done, old_dead}
    assert {kept_done, kept_dead} <= before
    assert await attempts_of(database) == set(kept)
    assert (pruner.pruned["partitions"], pruner.pruned["attempts"]) == (2, 1_500 * 2 + 2 + 3 * 4)
    for job in kept:
        assert (await carafe_client.get(job)).attempts


async def test_days_of_log_lines_are_dropped_and_those_of_failures_are_kept_as_long_as_dead_jobs(
    carafe_client: Client,
) -> None:
    database = carafe_client.database
    old_done, kept_done = await make_day(database, "job_logs_done", 4), await make_day(database, "job_logs_done", 1)
    old_dead, kept_dead = await make_day(database, "job_logs_dead", 7), await make_day(database, "job_logs_dead", 4)
    for age, failed in ((4, False), (7, True)):
        await logged(database, age, failed=failed)
    kept = await logged(database, 1, failed=False) + await logged(database, 4, failed=True)
    before = await names(database)

    pruner = Pruner(database, RETENTION)
    await pruner.round()

    assert await names(database) == before - {old_done, old_dead}
    assert {kept_done, kept_dead} <= before
    assert await logs_of(database) == set(kept)
    assert pruner.pruned["partitions"] == 2


async def test_log_lines_outside_any_day_are_deleted_in_batches(
    carafe_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("carafe.steward.pruner.BATCH", 100)
    database = carafe_client.database
    await logged(database, 400, failed=False, jobs=250)
    await logged(database, 400, failed=True, jobs=120)
    kept = await logged(database, 4, failed=True) + await logged(database, 1, failed=False)
    pruner = Pruner(database, RETENTION)
    assert sum(one.rows for one in await pruner.prunable() if one.name == "job_logs") == 370

    assert await pruner.work()
    assert await count(database, "job_logs") == 372 - 200
    await pruner.round()

    assert await logs_of(database) == set(kept)
    assert pruner.pruned["job_logs"] == 370
    assert await pruner.prunable() == []


async def test_a_day_that_is_not_wholly_beyond_retention_stays(carafe_client: Client) -> None:
    database = carafe_client.database
    name = await make_day(database, "jobs_done", 2)  # a part of it is younger than two days, unless it is midnight sharp
    await ended(database, "succeeded", 2)

    await Pruner(database, RETENTION).round()

    assert name in await names(database)


async def test_a_job_that_was_retried_keeps_its_attempts(carafe_client: Client) -> None:
    database = carafe_client.database
    await make_day(database, "jobs_dead", 9)
    retried, _ = await ended(database, "dead", 9, attempts=4, jobs=2)
    await carafe_client.retry(retried)

    await Pruner(database, RETENTION).round()

    record = await carafe_client.get(retried)
    assert (record.state, len(record.attempts)) == (State.QUEUED, 4)
    assert await attempts_of(database) == {retried}


async def test_jobs_outside_any_day_are_deleted_in_batches(carafe_client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("carafe.steward.pruner.BATCH", 100)
    database = carafe_client.database
    await ended(database, "succeeded", 400, attempts=2, jobs=250)
    await ended(database, "dead", 400, jobs=120)
    kept = await ended(database, "dead", 3)

    pruner = Pruner(database, RETENTION)
    assert await pruner.work()
    assert await count(database, "jobs_ended") == 371 - 200
    await pruner.round()

    assert await count(database, "jobs_ended") == 1
    assert await attempts_of(database) == set(kept)
    assert pruner.pruned["other_days"] == 370


async def test_a_day_in_use_is_left_and_nobody_who_ends_a_job_waits(carafe_client: Client, worker: ByHand) -> None:
    database = carafe_client.database
    name = await make_day(database, "jobs_done", 9)
    await ended(database, "succeeded", 9)
    pruner = Pruner(database, RETENTION)

    async with database.connection() as reader:
        transaction = reader.transaction()
        await transaction.start()
        await reader.fetch("select count(*) from carafe.jobs_ended")
        await pruner.round()
        assert pruner.in_use == {name}
        job = (await carafe_client.enqueue(Greet(name="Ada"))).id
        [claim] = await worker.claim(job)
        await worker.succeed(claim)
        assert (await carafe_client.get(job)).state is State.SUCCEEDED
        await transaction.rollback()

    assert name in await names(database)
    await pruner.round()
    assert name not in await names(database)


async def test_only_days_of_ended_jobs_can_be_dropped(carafe_client: Client) -> None:
    async with carafe_client.database.connection() as connection:
        for name in ("jobs", "jobs_done", "jobs_done_other", "attempts"):
            with pytest.raises(Exception, match="is no day partition"):
                await connection.fetchval("select carafe.drop_partition($1)", name)


async def test_expired_keys_old_samples_and_old_statistics_go(carafe_client: Client) -> None:
    database = carafe_client.database
    await carafe_client.enqueue(Greet(name="Ada"), idempotency_key="kept")
    await execute(
        database,
        "insert into carafe.idempotency_keys (scope, key, request_hash, expires_at) values ('', 'old', '', now())",
    )
    for age in ("7 days", "9 days"):
        await execute(
            database,
            "insert into carafe.gauges select now() - $1::text::interval, 'default', 0, 0, 0, 0, 0, 0, false, 0, 0",
            age,
        )
    for width, age in ((10, "1 hour"), (10, "4 hours"), (60, "4 hours"), (60, "3 days"), (600, "3 days"), (600, "91 days")):
        await execute(
            database,
            "insert into carafe.statistics values ($1, now() - $2::text::interval, '', 'succeeded', 1, 0, 0, '{}', '{}')",
            width,
            age,
        )

    pruner = Pruner(database, RETENTION)
    expected = [Prunable("idempotency_keys", 1), Prunable("gauges", 1), Prunable("statistics", 3)]
    assert sorted(await pruner.prunable(), key=str) == sorted(expected, key=str)
    await pruner.round()

    assert await pruner.prunable() == []
    assert [await count(database, table) for table in ("idempotency_keys", "gauges", "statistics")] == [1, 1, 3]


async def test_what_would_go_is_told_before_it_goes(carafe_client: Client) -> None:
    database = carafe_client.database
    name = await make_day(database, "jobs_done", 9)
    await ended(database, "succeeded", 9)
    await ended(database, "dead", 400, jobs=2)
    pruner = Pruner(database, RETENTION)

    found = await pruner.prunable()

    assert [(one.name, one.partition) for one in found] == [(name, True), ("jobs_dead_other", False)]
    assert found[1].rows == 2
    assert await count(database, "jobs_ended") == 3
    await pruner.prune()
    assert await pruner.prunable() == []


async def test_a_day_with_strays_does_not_keep_the_next_days_from_their_partitions(carafe_client: Client) -> None:
    database = carafe_client.database
    today, tomorrow = (f"jobs_done_{TODAY + timedelta(days=ahead):%Y%m%d}" for ahead in (0, 1))
    await execute(database, f"drop table carafe.{today}, carafe.{tomorrow}")
    await ended(database, "succeeded", 0)

    await Partitioner(database).round()

    assert tomorrow in await names(database)
    assert today not in await names(database)
