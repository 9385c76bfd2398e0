"""The pages work with the keyboard alone. "Edit and run" keeps a secret that the browser never receives, and shows all
arguments as text."""

import json
import re
from uuid import UUID

import pytest
from playwright.async_api import Page, expect
from pydantic import SecretStr

from tests.browser.conftest import Shop, Sitting, until
from tests.browser.kinds import Greet

pytestmark = [pytest.mark.anyio, pytest.mark.process]

EVIL = '<img src=x onerror="console.error(1)"><script>console.error(2)</script>'


async def row_with_focus(page: Page) -> str:
    return str(await page.evaluate("document.activeElement.closest('[data-row]')?.dataset.key ?? ''"))


async def test_the_keyboard_alone_goes_everywhere(shop: Shop, sitting: Sitting) -> None:
    await shop.client.pause()
    try:
        for number in range(3):
            await shop.client.enqueue(Greet(name=f"n{number}"))
        page = await sitting.open("/jobs?state=queued", live=True)
        keys = await page.eval_on_selector_all("[data-row]", "rows => rows.map((row) => row.dataset.key)")
        assert len(keys) == 3
        await page.keyboard.press("j")
        assert await row_with_focus(page) == keys[0]
        await page.keyboard.press("j")
        await page.keyboard.press("x")
        await page.keyboard.press("j")
        await page.keyboard.press("x")
        assert await row_with_focus(page) == keys[2]
        await page.keyboard.press("k")
        assert await row_with_focus(page) == keys[1]
        await expect(page.locator("[data-selected-count]")).to_have_text("2 selected")
        # What comes meanwhile moves nothing: it is offered.
        await shop.client.enqueue(Greet(name="late"))
        await expect(page.locator(".offer button")).to_contain_text("1 new")
        assert await row_with_focus(page) == keys[1]
        assert await page.locator("[data-row]").count() == 3
        await page.keyboard.press("n")
        await expect(page.locator("[data-row]")).to_have_count(4)
        assert await row_with_focus(page) == keys[1]
        await expect(page.locator("[data-selected-count]")).to_have_text("2 selected")
        await page.keyboard.press("?")
        await expect(page.locator("dialog[open]")).to_contain_text("Help and keys")
        await page.keyboard.press("Escape")
        await expect(page.locator("dialog")).to_have_count(0)
        await page.keyboard.press("Enter")
        await page.wait_for_url(re.compile(f"/jobs/{keys[1]}$"))
        # The search takes the id of another, typed; letters are letters there.
        await page.keyboard.press("/")
        await page.keyboard.type(keys[0])
        await page.keyboard.press("Enter")
        await page.wait_for_url(re.compile(f"/jobs/{keys[0]}$"))
        # Tab reaches the button that cancels, and Enter asks; Escape leaves it as it is, and the focus where it was.
        await until(page, "document.querySelector('details[data-confirm] summary') !== null")
        for _ in range(60):
            await page.keyboard.press("Tab")
            if await page.evaluate("document.activeElement.matches('details[data-confirm] > summary')"):
                break
        await page.keyboard.press("Enter")
        await expect(page.locator("dialog[open]")).to_be_visible()
        await page.keyboard.press("Escape")
        await expect(page.locator("dialog")).to_have_count(0)
        assert await page.evaluate("document.activeElement.matches('details[data-confirm] > summary')")
        await page.keyboard.press("Enter")
        await expect(page.locator("dialog[open] [name=reason]")).to_be_focused()
        await page.keyboard.type("by hand")
        await page.keyboard.press("Enter")
        await expect(page.locator(".job-head .state-cancelled")).to_be_visible()
    finally:
        await shop.client.resume()


async def test_arguments_are_edited_and_run_as_a_new_job(shop: Shop, sitting: Sitting) -> None:
    old = await shop.client.enqueue(Greet(name="Ana", times=1, secret=SecretStr("swordfish-7")))
    page = await sitting.open(f"/jobs/{old.id}", live=True)
    await expect(page.locator(".job-head .state-succeeded")).to_be_visible()
    assert "swordfish-7" not in await page.content()
    await page.get_by_role("link", name="Edit and run…").click()
    assert "swordfish-7" not in await page.content()
    # What is wrong is said at its field, and nothing is lost.
    await page.get_by_label("name", exact=False).first.fill("Ben")
    await page.locator("[name='args.times']").fill("2")
    await expect(page.locator("[name='secret.secret']")).to_have_value("keep")
    await page.get_by_role("button", name="Run as a new job").click()
    await page.wait_for_url(re.compile("/jobs/(?!.*edit)[0-9a-f-]{36}$"))
    assert str(old.id) not in page.url
    await expect(page.locator(".job-head .state-succeeded")).to_be_visible()
    await expect(page.locator("#fragment-job")).to_contain_text("Hello Ben! Hello Ben!")
    await expect(page.locator("dt", has_text="Copied from")).to_be_visible()
    assert "swordfish-7" not in await page.content()
    new = await shop.client.get(UUID(page.url.rpartition("/")[2]))
    assert new.args["name"] == "Ben"
    stored = await shop.fetch("select args ->> 'secret' from carafe.jobs_ended where id = $1", new.id)
    assert stored == "swordfish-7"


async def test_an_enqueued_job_is_shown_as_text(shop: Shop, sitting: Sitting) -> None:
    page = await sitting.open("/enqueue")
    await page.get_by_role("link", name="shop.greet").click()
    await page.locator("[name='args.name']").fill(EVIL)
    await page.locator("[name='args.times']").fill("1")
    await page.get_by_role("button", name="Enqueue").click()
    await page.wait_for_url(re.compile("/jobs/[0-9a-f-]{36}$"))
    await expect(page.locator(".job-head .state-succeeded")).to_be_visible()
    await expect(page.locator("#fragment-job")).to_contain_text(json.dumps(f"Hello {EVIL}!"))
    assert await page.locator("#main img, #main script").count() == 0
    for path in ("/jobs", "/", "/audit", "/workers"):
        await page.goto(shop.url + path)
        assert await page.locator("#main img, #main script").count() == 0
