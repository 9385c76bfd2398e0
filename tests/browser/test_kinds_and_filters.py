"""Somebody looks after a kind, names a filter, asks where a job hangs, and reads times in the time zone of the browser."""

import json
import re

import pytest
from playwright.async_api import Browser, expect

from carafe import State
from tests.browser.axe import Axe
from tests.browser.conftest import Shop, Sitting, a_sitting, until
from tests.browser.kinds import Greet, Wait
from tests.waiting import eventually

pytestmark = [pytest.mark.anyio, pytest.mark.process]


async def test_a_kind_is_paused_and_resumed_on_its_page(shop: Shop, sitting: Sitting) -> None:
    await shop.client.enqueue(Greet(name="first"))
    page = await sitting.open("/kinds")
    await page.get_by_role("link", name=Greet.job_options.kind).click()
    await expect(page.get_by_role("heading", level=1)).to_have_text(Greet.job_options.kind)
    await sitting.live(page)
    await page.locator("summary", has_text="Pause this kind").click()
    dialog = page.locator("dialog[open]")
    await dialog.get_by_label("Reason").fill("guests <b>sleep</b>")
    await dialog.get_by_role("button", name="Pause").click()
    await expect(page.locator(".notice.tone-warning")).to_contain_text("guests <b>sleep</b>")
    waits = await shop.client.enqueue(Greet(name="second"))
    await expect(page.locator(".notice.tone-warning")).to_contain_text("1 queued job waits")
    assert (await shop.client.get(waits.id)).state is State.QUEUED
    await page.get_by_role("button", name="Resume this kind").click()
    await expect(page.locator(".notice.tone-warning")).to_have_count(0)

    async def ran() -> bool:
        return (await shop.client.get(waits.id)).state is State.SUCCEEDED

    await eventually(ran, within=20)


async def test_a_filter_is_named_used_and_forgotten(shop: Shop, sitting: Sitting) -> None:
    page = await sitting.open("/jobs")
    await expect(page.locator("#saved")).to_be_hidden()
    await page.goto(shop.url + "/jobs?state=dead&kind=shop.greet")
    await page.get_by_text("Save this filter").click()
    await page.get_by_label("Name").fill("Dead <b>greetings</b>")
    await page.get_by_role("button", name="Save", exact=True).click()
    link = page.get_by_role("link", name="Dead <b>greetings</b>")
    await expect(link).to_have_attribute("aria-current", "page")
    await expect(page.get_by_text("Save this filter")).to_have_count(0)
    axe = Axe()
    await axe.begin(page.context)
    await page.reload()
    assert not await axe.faults(page, all_rules=True)
    await page.goto(shop.url + "/jobs")
    await link.click()
    await page.wait_for_url("**/jobs?state=dead&kind=shop.greet")
    await page.set_viewport_size({"width": 375, "height": 900})
    assert await page.evaluate("document.documentElement.scrollWidth") <= 375
    await page.get_by_role("button", name="Remove the saved filter Dead <b>greetings</b>").click()
    await expect(link).to_have_count(0)
    await page.reload()
    await expect(page.get_by_text("Save this filter")).to_be_visible()
    await expect(link).to_have_count(0)


STORE = "stored => localStorage.setItem(`carafe-filters ${document.documentElement.dataset.viewer}`, stored)"


async def test_the_filters_of_another_user_are_not_offered(shop: Shop, sitting: Sitting) -> None:
    page = await sitting.open("/jobs")
    stored = json.dumps([{"name": "theirs", "query": "?args.customer=42"}])
    for key in ("carafe-filters", "carafe-filters somebody else"):
        await page.evaluate("([key, stored]) => localStorage.setItem(key, stored)", [key, stored])
    await page.goto(shop.url + "/jobs?state=dead")
    await expect(page.get_by_text("Save this filter")).to_be_visible()
    await expect(page.locator("#saved a")).to_have_count(0)
    await page.evaluate(STORE, stored)
    await page.reload()
    await expect(page.locator("#saved a")).to_have_count(1)


@pytest.mark.parametrize(
    "stored", ["{", "7", json.dumps([{"name": 1}, {"name": "n", "query": "javascript:alert(1)"}, None])]
)
async def test_what_others_have_stored_does_no_harm(shop: Shop, sitting: Sitting, stored: str) -> None:
    page = await sitting.open("/jobs")
    await page.evaluate(STORE, stored)
    await page.goto(shop.url + "/jobs?state=dead")
    await expect(page.get_by_text("Save this filter")).to_be_visible()
    await expect(page.locator("#saved a")).to_have_count(0)


ANOTHER_TIME = """(time) => {
    time.dateTime = "2026-01-02T23:00:00.000Z";
    document.dispatchEvent(new Event("carafe:patched"));
    time.dispatchEvent(new PointerEvent("pointerover", { bubbles: true }));
    return [time.dataset.here, time.title];
}"""


async def test_local_time_stands_beside_utc(shop: Shop, browser: Browser) -> None:
    job_id = (await shop.client.enqueue(Greet(name="Ada"))).id
    await shop.client.wait(job_id)  # the page of an ended job is not patched any more
    for zone, beside in (("Asia/Kolkata", r"\d\d:\d\d:\d\d GMT\+5:30$"), ("UTC", None)):
        async with a_sitting(browser, shop.url, timezone_id=zone) as sitting:
            page = await sitting.open(f"/jobs/{job_id}", live=True)
            created = page.locator(".facts time").first
            await expect(created).to_have_text(re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC$"))
            if beside is None:
                await expect(created).not_to_have_attribute("data-here", re.compile("."))
                await expect(page.locator("#zone")).to_have_text("")
            else:
                await expect(created).to_have_attribute("data-here", re.compile(beside))
                await expect(page.locator(".timeline time").first).to_have_attribute("data-here", re.compile(beside))
                await expect(page.locator("#zone")).to_contain_text("GMT+5:30")
                # As after a patch that gives the element another time, before the next one.
                here, title = await created.evaluate(ANOTHER_TIME)
                assert here == "2026-01-03 04:30:00 GMT+5:30"
                assert title.startswith("2026-01-02 23:00:00 UTC · ")


async def test_where_a_job_hangs_is_shown(shop: Shop, sitting: Sitting) -> None:
    job_id = (await shop.client.enqueue(Wait(note="here"))).id
    page = await sitting.open(f"/jobs/{job_id}", live=True)
    await expect(page.locator(".job-head .state-running")).to_be_visible()
    await page.get_by_role("button", name="Show stack").click()
    await expect(page.locator("pre.stack")).to_contain_text(re.compile(r"handlers\.py:\d+ in wait"))
    await shop.client.cancel(job_id)
    await until(page, "document.querySelector('.job-head .state-cancelled')")
    await expect(page.locator("pre.stack")).to_have_count(0)
