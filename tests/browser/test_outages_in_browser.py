"""When Postgres or Redis is away, too many pages are open, or the process is asked to end, open pages say so and recover by
themselves."""

import asyncio
import signal
from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Browser, expect

from tests.browser.conftest import OpenShop, Shop, Sitting, a_sitting, until
from tests.browser.kinds import Greet
from tests.proxy import Proxy, proxy_to

pytestmark = [pytest.mark.anyio, pytest.mark.process]

UNAVAILABLE = "status of 503"
GONE = ("ERR_CONNECTION_REFUSED", "ERR_INCOMPLETE_CHUNKED_ENCODING", "ERR_CONNECTION_RESET", "ERR_EMPTY_RESPONSE")

TABS = 5


@pytest.fixture(scope="module")
async def postgres(database_url: str) -> AsyncIterator[Proxy]:
    """The way to Postgres."""
    async with proxy_to(database_url) as proxy:
        yield proxy


@pytest.fixture(scope="module")
async def redis(redis_url: str) -> AsyncIterator[Proxy]:
    """The way to Redis."""
    async with proxy_to(redis_url) as proxy:
        yield proxy


@pytest.fixture(scope="module")
async def shop(open_shop: OpenShop, postgres: Proxy, redis: Proxy) -> AsyncIterator[Shop]:
    """The service behind ways that can be cut; no worker."""
    async with open_shop(worker=False, DATABASE_URL=postgres.url, REDIS_URL=redis.url, DRAIN_TIMEOUT="600") as shop:
        yield shop


async def test_redis_away_is_said_and_is_over_by_itself(shop: Shop, sitting: Sitting, redis: Proxy) -> None:
    page = await sitting.open("/jobs", live=True)
    await page.evaluate("window.stays = true")
    await redis.refuse()
    try:
        await expect(page.locator("#conditions [data-key=redis]")).to_contain_text("Redis cannot be used")
        # What is done meanwhile is done.
        await shop.client.enqueue(Greet(name="Meanwhile"))
        await expect(page.locator("tr[data-row]", has_text="shop.greet").first).to_be_visible()
    finally:
        await redis.listen()
    await expect(page.locator("#conditions [data-key=redis]")).to_have_count(0)
    assert await page.evaluate("window.stays === true")


async def test_postgres_away_is_said_and_is_over_by_itself(shop: Shop, sitting: Sitting, postgres: Proxy) -> None:
    sitting.expects(UNAVAILABLE)
    page = await sitting.open("/jobs", live=True)
    await page.evaluate("window.stays = true")
    await postgres.refuse()
    try:
        await expect(page.locator("#conditions [data-key=postgres]")).to_contain_text("Postgres cannot be reached")
        other = await sitting.open("/jobs?state=queued")
        await expect(other.locator("#main")).to_contain_text("Postgres cannot be reached")
    finally:
        await postgres.listen()
    await expect(page.locator("#conditions [data-key=postgres]")).to_have_count(0)
    assert await page.evaluate("window.stays === true")
    # The page that never came comes.
    await expect(other.get_by_role("heading", level=1)).to_have_text("Jobs")
    await shop.client.enqueue(Greet(name="After"))
    await expect(page.locator("tr[data-row]", has_text="shop.greet").first).to_be_visible()


async def test_a_page_too_many_asks_instead(open_shop: OpenShop, browser: Browser) -> None:
    async with open_shop(worker=False, DASHBOARD_STREAMS="1") as shop, a_sitting(browser, shop.url) as sitting:
        sitting.expects(UNAVAILABLE)
        first = await sitting.open("/jobs", live=True)
        second = await sitting.open("/jobs?kind=shop.greet")
        await second.wait_for_selector("#live[data-live=polling]")
        before = await second.locator("tr[data-row]").count()
        await shop.client.enqueue(Greet(name="Polled"))
        await until(second, f"document.querySelectorAll('tr[data-row]').length > {before}")
        assert await first.evaluate("document.getElementById('live').dataset.live") == "on"


async def test_the_process_exits_at_once_under_five_tabs_and_they_come_back(shop: Shop, sitting: Sitting) -> None:
    sitting.expects(*GONE)
    pages = [await sitting.open(path, live=True) for path in ("/", "/jobs", "/dead", "/workers", "/bulk")]
    assert len(pages) == TABS
    for page in pages:
        await page.evaluate("window.stays = true")
    shop.web.send(signal.SIGTERM)
    # Far less than DRAIN_TIMEOUT, which it would wait for if an open page held it.
    assert await asyncio.to_thread(shop.web.wait, 20) == 0
    await shop.start_web()
    for page in pages:
        await sitting.live(page)
        assert await page.evaluate("window.stays === true")
