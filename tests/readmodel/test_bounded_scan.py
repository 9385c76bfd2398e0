"""A walk's windows end when their time is over, whatever rows they contain."""

import time

import pytest

from carafe.store.bounded_scan import fetched, windows
from carafe.store.database import Database
from carafe.store.filters import JobFilter
from carafe.store.keyset import walk_of
from tests.readmodel.conftest import PATIENT

pytestmark = pytest.mark.anyio


async def test_windows_follow_each_other_to_the_end(populated_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("carafe.store.bounded_scan.LARGEST", 6_000)
    database = Database(populated_url, pool_size=1)
    walk = walk_of(JobFilter(), "live", {})
    assert walk is not None
    async with database.connection() as connection:
        total = await connection.fetchval("select count(*) from carafe.jobs")
        found = [window async for window in windows(connection, walk, None, time.monotonic() + PATIENT)]
        counted = 0
        for window in found:
            query = walk.numbers(window.after, window.until)
            counted += sum(row["number"] for row in await connection.fetch(query.text, *query.values))
    assert counted == total
    assert [window.tried for window in found] == [4_000, 10_000, 16_000]
    assert found[-1].until is None
    await database.close()


async def test_a_window_whose_end_is_not_found_in_time_is_not_given(
    populated_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lock stands for a way that takes too long."""
    monkeypatch.setattr("carafe.store.bounded_scan.OVERRUN", 0.01 - PATIENT)
    database = Database(populated_url, pool_size=2)
    walk = walk_of(JobFilter(), "live", {})
    assert walk is not None
    async with database.connection() as connection, database.connection() as other:
        found = windows(connection, walk, None, time.monotonic() + PATIENT)
        first = await anext(found)
        assert first.until is not None
        transaction = other.transaction()
        await transaction.start()
        await other.execute("lock table carafe.jobs in access exclusive mode")
        assert [window async for window in found] == []
        assert await connection.fetchval("select 1") == 1, "the connection is as good as before"
        assert await fetched(connection, walk.numbers(None, first.until), time.monotonic()) is None
        await transaction.rollback()
        again = windows(connection, walk, first.until, time.monotonic() + PATIENT)
        assert (await anext(again)).until is not None, "and who goes on from there finds more"
    await database.close()
