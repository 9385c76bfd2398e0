"""While Postgres or Redis is away, the page says so, and it works again without a restart when they are back."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

from carafe.postgres_url import connect
from tests.dashboard.conftest import PASSWORDS, Open
from tests.dashboard.streaming import following
from tests.dashboard.visiting import Visitor
from tests.proxy import Proxy
from tests.waiting import eventually


@asynccontextmanager
async def proxied(url: str) -> AsyncIterator[Proxy]:
    proxy = Proxy(url)
    await proxy.listen()
    try:
        yield proxy
    finally:
        await proxy.refuse()


async def status(visitor: Visitor, path: str) -> int:
    return (await visitor.open(path)).status_code


async def test_pages_say_that_postgres_is_away_and_recover(opened: Open, database_url: str) -> None:
    async with proxied(database_url) as proxy, opened(database_url=proxy.url) as served:
        visitor = served.visitor()
        await visitor.sign_in("ana", PASSWORDS["ana"])
        for path in ("/", "/jobs", "/dead"):
            assert await status(visitor, path) == 200, path
        await proxy.refuse()
        for path in ("/jobs", "/workers", "/audit"):  # the groups of dead letters are remembered for 5 s
            page = await visitor.open(path)
            assert page.status_code == 503, path
            assert "Postgres cannot be reached" in page.text
            assert page.headers["retry-after"]
            # Anyone who was signed in is so still: the session is in the cookie.
            assert "Sign out" in page.text
        # The frame works, and what it stands on is said there.
        assert "Postgres cannot be reached since" in (await visitor.open("/desk")).text
        assert (await visitor.open("/jobs")).text.count("Postgres cannot be reached since") == 1
        fragment = await visitor.open("/jobs", **{"x-fragment": "1"})
        assert (fragment.status_code, fragment.headers["content-type"]) == (503, "text/plain; charset=utf-8")
        stranger = served.visitor()
        refused = await stranger.sign_in("ana", PASSWORDS["ana"])
        assert refused.status_code == 503
        assert "nobody can sign in" in refused.text
        await proxy.listen()

        async def back() -> bool:
            return await status(visitor, "/jobs") == 200

        await eventually(back, within=20)
        assert "Postgres cannot be reached" not in (await visitor.open("/jobs")).text

        async def lets_in() -> bool:
            return (await stranger.sign_in("ana", PASSWORDS["ana"])).status_code == 303

        # What acts has connections of its own, which find their way back by themselves.
        await eventually(lets_in, within=20)


async def test_a_locked_table_is_told_as_what_it_is(opened: Open, database_url: str) -> None:
    other = await connect(database_url)
    async with opened() as served:
        visitor = served.visitor()
        await visitor.sign_in("ana", PASSWORDS["ana"])
        async with other.transaction():
            await other.execute("lock table carafe.jobs in access exclusive mode")
            for path in ("/jobs", f"/jobs/{uuid4()}"):
                page = await visitor.open(path)
                assert page.status_code == 503, path
                assert "Postgres is busy" in page.text
                assert "try again in a moment" in page.text
                assert page.headers["retry-after"]
        assert await status(visitor, "/jobs") == 200
    await other.close()


async def test_a_postgres_that_falls_silent_is_told_within_seconds(opened: Open, database_url: str) -> None:
    async with proxied(database_url) as proxy, opened(database_url=proxy.url) as served:
        visitor = served.visitor()
        await visitor.sign_in("ana", PASSWORDS["ana"])
        assert await status(visitor, "/jobs") == 200
        proxy.fall_silent()

        async def told() -> bool:
            return await status(visitor, "/jobs") == 503

        await eventually(told, within=25)
        proxy.fall_silent(False)
        await proxy.hang_up()

        async def back() -> bool:
            return await status(visitor, "/jobs") == 200

        await eventually(back, within=20)


async def test_an_open_page_is_told_and_told_again(opened: Open, database_url: str) -> None:
    nobody: dict[str, Any] = {"dashboard_users": ()}
    async with (
        proxied(database_url) as proxy,
        opened(database_url=proxy.url, **nobody) as served,
        following(served.visitor().http, "jobs") as reader,
    ):
        assert json.loads((await reader.until("state")).data)["postgres"] is None
        await proxy.refuse()
        # A state that only says more of Redis or a pause may come before it.
        while not (away := json.loads((await reader.until("state")).data)["postgres"]):
            pass
        assert "Postgres cannot be reached" in away
        await proxy.listen()
        assert json.loads((await reader.until("state")).data)["postgres"] is None


async def test_pages_work_while_redis_is_away_and_say_so(opened: Open, redis_url: str) -> None:
    async with proxied(redis_url) as proxy, opened(redis_url=proxy.url) as served:
        visitor = served.visitor()
        await visitor.sign_in("ana", PASSWORDS["ana"])
        assert "Redis cannot be used" not in (await visitor.open("/jobs")).text
        await proxy.refuse()

        async def told() -> bool:
            page = await visitor.open("/jobs")
            assert page.status_code == 200
            return "Redis cannot be used" in page.text

        await eventually(told, within=20)
        await proxy.listen()

        async def back() -> bool:
            return "Redis cannot be used" not in (await visitor.open("/jobs")).text

        await eventually(back, within=20)
