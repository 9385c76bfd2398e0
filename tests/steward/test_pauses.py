"""While Postgres is locked or away, the log says so once, and it says when work continues."""

import pytest
from structlog.testing import capture_logs

from carafe import Client
from carafe.postgres_url import connect
from carafe.steward import Steward
from tests.jobs.kinds import Greet


async def test_a_lock_is_said_once_for_all_services_and_without_a_traceback(
    carafe_client: Client, steward: Steward, monkeypatch: pytest.MonkeyPatch
) -> None:
    await carafe_client.enqueue(Greet(name="waits"))
    other = await connect(carafe_client.database.url)

    async def at_once(_: float) -> None:
        pass

    monkeypatch.setattr("carafe.steward.service.asyncio.sleep", at_once)
    async with carafe_client.database.connection() as connection:
        limit = "alter database {} set lock_timeout = '50ms'"
        await connection.execute(limit.format(await connection.fetchval("select quote_ident(current_database())")))
    await carafe_client.database.close()
    try:
        with capture_logs() as lines:
            async with other.transaction():
                await other.execute("lock table carafe.jobs in access exclusive mode")
                for _ in range(2):
                    await steward.promoter.round()
                    await steward.repairer.round()
            await steward.promoter.round()
            assert [line["event"] for line in lines] == ["upkeep paused"]
            await steward.repairer.round()
    finally:
        await other.close()
    assert [(line["event"], line["log_level"]) for line in lines] == [
        ("upkeep paused", "warning"),
        ("upkeep goes on", "info"),
    ]
    assert lines[0]["why"].startswith("Postgres is locked: another session has held")
