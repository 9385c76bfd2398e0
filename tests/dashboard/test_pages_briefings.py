"""The briefings page, an example of a page that an application adds: request a briefing, and see it completed or failed."""

import re
from collections.abc import AsyncIterator
from html import unescape
from uuid import UUID, uuid4

import pytest

from app.main import create_app
from briefings.settings import BriefingSettings
from carafe import Client
from carafe.dashboard import create_dashboard
from carafe.dashboard.added_pages import pages_of
from carafe.store.database import Database
from tests.dashboard.conftest import PASSWORDS, served
from tests.dashboard.visiting import Visitor
from tests.web.rows import claim, fail, succeed

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
async def visitors(settings: BriefingSettings) -> AsyncIterator[dict[str, Visitor]]:
    """ana, who may act, and vic, who may look, at the briefing service's dashboard."""
    import httpx

    application = create_app(settings)
    client = Client.from_settings(settings)
    app = create_dashboard(settings, client, pages=pages_of(application))
    try:
        async with served(app, settings) as web:
            found = {name: Visitor(httpx.AsyncClient(base_url=web.url, timeout=30, verify=False)) for name in PASSWORDS}
            for name, visitor in found.items():
                await visitor.sign_in(name, PASSWORDS[name])
            yield found
            for visitor in found.values():
                await visitor.http.aclose()
    finally:
        await client.close()


def job_of(page: str) -> UUID:
    """The job that the page links to."""
    found = re.search(r'href="/jobs/([0-9a-f-]{36})"', page)
    assert found
    return UUID(found[1])


async def ask(visitor: Visitor, topic: str) -> str:
    """Have a briefing written; returns its page's path."""
    await visitor.open("/briefings")
    answer = await visitor.send("/briefings", topic=topic)
    assert answer.status_code == 303
    return answer.headers["location"]


async def test_a_briefing_is_asked_for_and_completed(visitors: dict[str, Visitor], database: Database) -> None:
    ana = visitors["ana"]
    path = await ask(ana, "Coffee & <b>prices</b>")
    page = (await ana.open(path)).text
    assert "pending" in page
    assert "Coffee &amp; &lt;b&gt;prices&lt;/b&gt;" in page
    job_id = job_of(page)
    assert f'data-topic="job:{job_id}"' in page
    row = await claim(database, job_id, "briefing.generate")
    assert "processing" in (await ana.open(path)).text
    await succeed(database, row, '{"content": "First line\\n\\n<script>second</script>"}')
    done = await ana.open(path, **{"X-Fragment": "1"})
    assert "completed" in done.text
    assert "<p>First line</p>" in done.text
    assert "<script>second" not in done.text
    listed = await ana.open("/briefings")
    assert path in unescape(listed.text)
    assert '<a href="/briefings" aria-current="page">' in listed.text


async def test_a_briefing_that_fails_says_why(visitors: dict[str, Visitor], database: Database) -> None:
    ana = visitors["ana"]
    path = await ask(ana, "Tea")
    row = await claim(database, job_of((await ana.open(path)).text), "briefing.generate")
    await fail(database, row, "webhook answered 500 <i>", final=True)
    page = (await ana.open(path)).text
    assert "failed" in page
    assert "webhook answered 500 &lt;i&gt;" in page


@pytest.mark.parametrize("topic", ["", "  ", "two\nlines", "x" * 501])
async def test_a_topic_that_is_none_is_said_so(visitors: dict[str, Visitor], topic: str, database: Database) -> None:
    ana = visitors["ana"]
    await ana.open("/briefings")
    async with database.connection() as connection:
        before = await connection.fetchval("select count(*) from briefings")
        page = await ana.send("/briefings", topic=topic)
        assert await connection.fetchval("select count(*) from briefings") == before
    assert page.status_code == 422
    assert 'id="error-topic"' in page.text


async def test_a_viewer_sees_briefings_and_asks_for_none(visitors: dict[str, Visitor]) -> None:
    vic = visitors["vic"]
    page = await vic.open("/briefings")
    assert page.status_code == 200
    assert 'name="topic"' not in page.text
    assert (await vic.send("/briefings", topic="Mine")).status_code == 403
    assert (await vic.open(f"/briefings/{uuid4()}")).status_code == 404
    assert (await vic.open("/briefings?before=nonsense")).status_code == 422
