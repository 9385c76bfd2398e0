"""The steward analyzes the live jobs when the planner's number of them differs from the sample by a factor."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from structlog.testing import capture_logs

from carafe import Client
from carafe.steward import Steward
from carafe.steward.analyzer import Analyzer
from tests.plans.population import LOST, WORKER, WORKERS, fill

pytestmark = pytest.mark.anyio


async def believed(client: Client) -> float:
    async with client.database.connection() as connection:
        number: float = await connection.fetchval("select reltuples from pg_class where oid = 'carafe.jobs'::regclass")
    return number


async def execute(client: Client, query: str, *values: Any) -> None:
    async with client.database.connection() as connection:
        await connection.execute(query, *values)


async def test_after_a_burst_the_table_is_analyzed_once(
    carafe_client: Client, steward: Steward, monkeypatch: pytest.MonkeyPatch
) -> None:
    await execute(carafe_client, "alter table carafe.jobs set (autovacuum_enabled = false)")
    await execute(carafe_client, WORKERS, WORKER, LOST)
    await execute(carafe_client, "analyze carafe.jobs")
    async with carafe_client.database.connection() as connection:
        await fill(connection)
    await steward.sampler.work()

    await steward.analyzer.work()
    assert steward.analyzer.analyzed == 0, "it was analyzed a moment ago"

    monkeypatch.setattr("carafe.steward.analyzer.REST", 0.0)
    await steward.analyzer.work()
    assert await believed(carafe_client) > 20_000
    await steward.analyzer.work()
    assert steward.analyzer.analyzed == 1, "what is known is not asked for again"


async def test_a_small_queue_is_left_alone(carafe_client: Client, steward: Steward) -> None:
    async with carafe_client.database.connection() as connection:
        await connection.execute(WORKERS, WORKER, LOST)
        await fill(connection, 0.02)
    await steward.sampler.work()
    await steward.analyzer.work()
    assert steward.analyzer.analyzed == 0


class As:
    """A database whose one connection has the rights of another user."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Any]:
        yield self._connection


async def test_without_the_right_it_says_so_once(
    carafe_client: Client, steward: Steward, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("carafe.steward.analyzer.LEAST", 0.5)
    monkeypatch.setattr("carafe.steward.analyzer.REST", 0.0)
    async with carafe_client.database.connection() as connection:
        await connection.execute(WORKERS, WORKER, LOST)
        await connection.execute("analyze carafe.jobs")
        await fill(connection, 0.02)
    await steward.sampler.work()
    async with carafe_client.database.connection() as connection:
        await connection.execute("create role plans_analyst nosuperuser; grant usage on schema carafe to plans_analyst")
        await connection.execute("grant select on carafe.gauges to plans_analyst; set role plans_analyst")
        analyzer = Analyzer(As(connection))  # type: ignore[arg-type]
        try:
            with capture_logs() as logs:
                await analyzer.work()
                await analyzer.work()
        finally:
            await connection.execute("reset role; drop owned by plans_analyst; drop role plans_analyst")
    assert analyzer.analyzed == 0
    assert ["may not ANALYZE it" in entry["event"] for entry in logs] == [True]
