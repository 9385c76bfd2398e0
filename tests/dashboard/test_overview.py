"""The overview over HTTP: links of counters, requests for a live part only, ranges, and who paused and resumed the queue and
why."""

import re
from datetime import UTC, datetime, timedelta
from html import unescape
from urllib.parse import parse_qsl, urlsplit

import pytest

from carafe.jobs.states import State
from carafe.store.database import Database
from carafe.store.filters import JobFilter
from tests.dashboard.conftest import PASSWORDS, Open, Served
from tests.dashboard.visiting import Visitor
from tests.waiting import eventually
from tests.web.kinds_for_tests import Resize


async def ana(served: Served) -> Visitor:
    """Somebody who may act."""
    visitor = served.visitor()
    await visitor.sign_in("ana", PASSWORDS["ana"])
    return visitor


async def text(visitor: Visitor, path: str) -> str:
    answer = await visitor.open(path)
    assert answer.status_code == 200, answer.text
    return answer.text


def words(page: str) -> str:
    return unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page)))


async def test_counters_count_and_link_to_what_they_count(opened: Open) -> None:
    async with opened() as served:
        for _ in range(3):
            await served.dashboard.client.enqueue(Resize(width=1), run_at=datetime.now(UTC) + timedelta(hours=1))
        visitor = await ana(served)

        async def counted() -> bool:
            return bool(re.search(r"\b3 scheduled\b", words(await text(visitor, "/?fragment=now"))))

        await eventually(counted, within=10)
        links = re.findall(r'class="counter[^"]*" href="([^"]+)"', await text(visitor, "/"))
        assert len(links) == len(State)
        for link, state in zip(links, State, strict=True):
            split = urlsplit(unescape(link))
            if state is State.DEAD:
                assert split.path == "/dead"
            else:
                assert JobFilter.from_query(parse_qsl(split.query)).states == {state}
            assert (await visitor.open(unescape(link))).status_code == 200


async def test_a_live_part_is_the_same_as_in_the_page_and_comes_alone(opened: Open) -> None:
    async with opened() as served:
        visitor = await ana(served)
        page = await text(visitor, "/?range=5m")
        for name in ("now", "charts"):
            address = unescape(re.findall(rf'id="fragment-{name}" data-fragment="([^"]+)"', page)[0])
            part = await text(visitor, address)
            assert part.lstrip().startswith(f'<div class="fragment" id="fragment-{name}"')
            assert "<html" not in part
            assert "range=5m" in address or name == "now"


@pytest.mark.parametrize(
    ("range_", "said"), [("5m", "Last 5 minutes"), ("1h", "Last hour"), ("24h", "Last 24"), ("7d", "Last 7")]
)
async def test_every_range_is_drawn(opened: Open, range_: str, said: str) -> None:
    async with opened() as served:
        assert said in await text(await ana(served), f"/?range={range_}")


@pytest.mark.parametrize("query", ["range=1y", "kind=a%00b", "fragment=other"])
async def test_an_address_that_is_not_valid_says_which_part(opened: Open, query: str) -> None:
    async with opened() as served:
        answer = await (await ana(served)).open(f"/?{query}")
        assert answer.status_code == 422
        assert query.partition("=")[0] in words(answer.text)


async def test_pausing_and_resuming_say_who_and_why(opened: Open, database: Database) -> None:
    async with opened() as served:
        visitor = await ana(served)
        await visitor.open("/")
        answer = await visitor.send("/pause", reason="webhook <b>down</b>")
        assert (answer.status_code, answer.headers["location"]) == (303, "/")

        async def paused() -> bool:
            return "Paused since" in await text(visitor, "/?range=1h")

        await eventually(paused, within=10)
        page = await text(visitor, "/")
        assert "by ana: webhook <b>down</b>" in words(page).replace("  ", " ")
        assert "<b>down" not in page
        assert words(page).count("webhook") == 1, "one banner, and nothing beside it"
        assert "Nothing needs attention" not in page
        await visitor.send("/resume")

        async def resumed() -> bool:
            return "Paused since" not in await text(visitor, "/")

        await eventually(resumed, within=10)
        async with database.connection() as connection:
            rows = await connection.fetch(
                "select action, actor, via, reason from carafe.audit where action in ('pause', 'resume') "
                "order by at desc, id desc limit 2"
            )
        assert [(row["action"], row["actor"], row["via"]) for row in rows] == [
            ("resume", "ana", "dashboard"),
            ("pause", "ana", "dashboard"),
        ]
        assert rows[1]["reason"] == "webhook <b>down</b>"


async def test_who_may_only_look_can_neither_pause_nor_resume(opened: Open, database: Database) -> None:
    async with opened() as served:
        await served.dashboard.client.resume()
        visitor = served.visitor()
        await visitor.sign_in("vic", PASSWORDS["vic"])
        page = await text(visitor, "/")
        assert 'action="/pause"' not in page
        await visitor.open("/login")
        assert (await visitor.send("/pause", reason="mischief")).status_code == 403
        assert (await visitor.send("/resume")).status_code == 403
        async with database.connection() as connection:
            assert await connection.fetch("select 1 from carafe.queues where paused_at is not null") == []


async def test_help_is_a_page(opened: Open) -> None:
    async with opened() as served:
        page = await text(await ana(served), "/help")
        assert 'id="help-content"' in page
        for state in State:
            assert state.value in words(page)


async def test_what_is_shared_by_viewers_has_each_one_s_own_token_and_role(opened: Open) -> None:
    async with opened() as served:
        operator, other = await ana(served), await ana(served)
        viewer = served.visitor()
        await viewer.sign_in("vic", PASSWORDS["vic"])

        async def known() -> bool:
            return "Pause" in await text(operator, "/?fragment=now")

        await eventually(known, within=10)
        # One after the other within what a text is kept for, or not: it must be right either way.
        parts = [await text(visitor, "/?fragment=now") for visitor in (operator, other, viewer)]
        tokens = [re.findall(r'name="token" value="([^"]+)"', part) for part in parts]
        assert len(set(tokens[0])) == len(set(tokens[1])) == 1
        assert tokens[0] != tokens[1]
        assert tokens[2] == []
        assert "Pause" not in parts[2]
        # And it is a token that works.
        await text(operator, "/?fragment=now")
        assert (await operator.send("/pause", reason="")).status_code == 303
