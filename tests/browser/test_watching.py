"""Open pages follow a briefing from its form to its text, a running job that is cancelled, and a pause, without a reload."""

import re

import pytest
from playwright.async_api import Page, expect

from carafe import State
from tests.browser.conftest import Shop, Sitting, until
from tests.browser.kinds import Greet, Wait

pytestmark = [pytest.mark.anyio, pytest.mark.process]


async def never_reloads(page: Page) -> None:
    """From now on the page's own memory tells whether it was loaded again."""
    await page.evaluate("window.stays = true")


async def stayed(page: Page) -> bool:
    return bool(await page.evaluate("window.stays === true"))


async def test_a_briefing_is_generated_and_completes_before_ones_eyes(shop: Shop, sitting: Sitting) -> None:
    page = await sitting.open("/briefings")
    await page.get_by_label("Topic").fill("Carafes <b>& glass</b>")
    await page.get_by_role("button", name="Generate").click()
    await page.wait_for_url(re.compile("/briefings/[0-9a-f-]{36}$"))
    await never_reloads(page)
    await expect(page.locator("#fragment-briefing")).to_contain_text("completed")
    await expect(page.get_by_role("heading", name="Content")).to_be_visible()
    assert await stayed(page)
    await expect(page.get_by_role("heading", level=1)).to_have_text("Carafes <b>& glass</b>")
    await page.get_by_role("link", name="Its job").click()
    await expect(page.locator(".job-head .state-succeeded")).to_be_visible()
    await expect(page.locator(".timeline")).to_contain_text("succeeded")


async def test_a_running_job_is_cancelled(shop: Shop, sitting: Sitting) -> None:
    enqueued = await shop.client.enqueue(Wait(note="for <i>ever</i>"))
    page = await sitting.open(f"/jobs/{enqueued.id}", live=True)
    await never_reloads(page)
    await expect(page.locator(".job-head .state-running")).to_be_visible()
    await expect(page.locator(".logs")).to_contain_text("waiting: for <i>ever</i>")
    assert await stayed(page)
    await page.locator("summary", has_text="Cancel…").click()
    dialog = page.locator("dialog[open]")
    await dialog.get_by_label("Reason").fill("no longer needed")
    await dialog.get_by_role("button", name="Cancel the job").click()
    await expect(page.locator(".flash")).to_be_visible()
    await sitting.live(page)
    await never_reloads(page)
    await expect(page.locator(".job-head .state-cancelled")).to_be_visible()
    assert await stayed(page)
    assert (await shop.client.get(enqueued.id)).state is State.CANCELLED
    await expect(page.locator(".timeline")).to_contain_text("no longer needed")


async def test_a_pause_holds_jobs_and_says_so_everywhere(shop: Shop, sitting: Sitting) -> None:
    other = await sitting.open("/jobs", live=True)
    page = await sitting.open("/", live=True)
    await page.bring_to_front()
    await page.locator("summary", has_text="Pause").click()
    dialog = page.locator("dialog[open]")
    await dialog.get_by_label("Reason").fill("the bank is closed")
    await dialog.locator("form button.tone-primary, form button.tone-danger").click()
    await expect(page.locator("#conditions [data-key=paused]")).to_contain_text("the bank is closed")
    await other.bring_to_front()
    await expect(other.locator("#conditions [data-key=paused]")).to_contain_text("the bank is closed")
    enqueued = await shop.client.enqueue(Greet(name="Ana"))
    waiting = await sitting.open(f"/jobs/{enqueued.id}", live=True)
    await never_reloads(waiting)
    await expect(waiting.locator(".notice", has_text="aused")).not_to_have_count(0)
    await expect(waiting.locator(".job-head .state-queued")).to_be_visible()
    await page.bring_to_front()
    await page.get_by_role("button", name="Resume").click()
    await until(page, "!document.querySelector('#conditions [data-key=paused]')")
    await waiting.bring_to_front()
    await expect(waiting.locator(".job-head .state-succeeded")).to_be_visible()
    await expect(waiting.locator("#conditions [data-key=paused]")).to_have_count(0)
    assert await stayed(waiting)
