"""Who may enter and what they may do, as far as a browser enforces it: cookies, forms, Origin."""

import re
from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Browser, expect

from carafe import State
from tests.browser.conftest import OpenShop, Shop, Sitting, a_sitting, until
from tests.browser.kinds import Wait

pytestmark = [pytest.mark.anyio, pytest.mark.process]

REFUSED = r"status of 40[0-9]"


@pytest.fixture(scope="module")
async def shop(open_shop: OpenShop, users: str) -> AsyncIterator[Shop]:
    """The service with two people who have passwords; no worker, so that nothing moves by itself."""
    async with open_shop(worker=False, DASHBOARD_USERS=users, DASHBOARD_SECRET_KEYS="k" * 40) as shop:
        yield shop


async def test_the_password_opens_and_signing_out_closes(shop: Shop, sitting: Sitting) -> None:
    sitting.expects(REFUSED)
    page = await sitting.open("/jobs?kind=shop.wait")
    await expect(page).to_have_url(re.compile("/login"))
    await sitting.sign_in("ana", page, "wrong horse")
    await expect(page.get_by_role("alert")).to_be_visible()
    assert await page.get_by_label("Password").input_value() == ""
    await expect(page.get_by_label("Name")).to_have_value("ana")
    await sitting.sign_in("ana", page)
    # Where one wanted to go.
    await expect(page).to_have_url(re.compile(r"/jobs\?kind=shop\.wait$"))
    await expect(page.locator(".viewer-name")).to_have_text("ana")
    other = await sitting.open("/", live=True)
    await page.bring_to_front()
    await page.get_by_role("button", name="Sign out").click()
    await expect(page.get_by_label("Password")).to_be_visible()
    # A page that is still open elsewhere says so, and follows no longer.
    await other.bring_to_front()
    await expect(other.locator("#conditions [data-key=session]")).to_contain_text("You are signed out")
    await other.reload()
    await expect(other).to_have_url(re.compile("/login"))


async def test_the_keys_of_a_page_open_nothing_elsewhere(shop: Shop, sitting: Sitting, browser: Browser) -> None:
    """A form that another site sends, even with the right token and the cookie beside it, is refused."""
    sitting.expects(REFUSED)
    page = await sitting.sign_in("ana")
    await expect(page.locator(".viewer-name")).to_be_visible()
    enqueued = await shop.client.enqueue(Wait(note="forged"))
    await page.goto(f"{shop.url}/jobs/{enqueued.id}")
    token = await page.locator("input[name=token]").first.get_attribute("value")
    # localhost is another origin than 127.0.0.1 with the same cookie rules; the cookie goes with it, as on a shared domain.
    cookies = await sitting.context.cookies()
    elsewhere = f"http://localhost:{shop.environment['PORT']}"
    await sitting.context.add_cookies(
        [{"name": c["name"], "value": c["value"], "domain": "localhost", "path": "/"} for c in cookies if c.get("name")]
    )
    answer = await sitting.context.request.post(
        f"{shop.url}/jobs/{enqueued.id}/cancel", form={"token": token or ""}, headers={"Origin": elsewhere}
    )
    assert answer.status == 403
    forged = await sitting.context.new_page()
    await forged.goto(elsewhere + "/health")
    await forged.set_content(
        f'<form method="post" action="{shop.url}/jobs/{enqueued.id}/cancel">'
        f'<input name="token" value="{token}"><button>Win</button>'
    )
    async with forged.expect_navigation():
        await forged.get_by_role("button", name="Win").click()
    assert (await shop.client.get(enqueued.id)).state is State.QUEUED
    # The same from the page itself is what it is for.
    own = await sitting.context.request.post(
        f"{shop.url}/jobs/{enqueued.id}/cancel", form={"token": token or ""}, headers={"Origin": shop.url}
    )
    assert own.ok, await own.text()
    assert (await shop.client.get(enqueued.id)).state is State.CANCELLED


async def test_who_may_look_sees_all_and_can_do_nothing(shop: Shop, browser: Browser) -> None:
    enqueued = await shop.client.enqueue(Wait(note="look"))
    async with a_sitting(browser, shop.url) as sitting:
        sitting.expects(REFUSED)
        page = await sitting.sign_in("vic")
        await expect(page.locator(".viewer-name")).to_have_text("vic")
        for path in ("/", "/jobs", f"/jobs/{enqueued.id}", "/dead", "/workers", "/bulk", "/briefings"):
            await page.goto(shop.url + path)
            await expect(page.get_by_role("heading", level=1)).to_be_visible()
            acts = page.locator("main form[method=post]")
            assert await acts.count() == 0, path
        # Neither by hand.
        token = await page.locator("input[name=token]").first.get_attribute("value")
        status = await page.evaluate(
            """async ([path, token]) => {
                const body = new URLSearchParams({ token });
                return (await fetch(path, { method: "POST", body })).status;
            }""",
            [f"/jobs/{enqueued.id}/cancel", token],
        )
        assert status == 403
        await page.goto(f"{shop.url}/enqueue?kind=shop.greet")
        await expect(page.get_by_role("heading", level=1)).to_contain_text(re.compile("view|allowed|may", re.I))
    assert (await shop.client.get(enqueued.id)).state is State.QUEUED


async def test_a_session_that_expires_is_said_and_loses_nothing_typed(shop: Shop, sitting: Sitting) -> None:
    sitting.expects(REFUSED)
    page = await sitting.sign_in("ana")
    await expect(page.locator(".viewer-name")).to_be_visible()
    await page.goto(f"{shop.url}/briefings")
    await sitting.live(page)
    await page.get_by_label("Topic").fill("half a thought")
    # The browser drops a cookie that has expired; the open stream is rechecked by the server, the next request has none.
    await sitting.context.clear_cookies()
    await page.get_by_label("Topic").focus()
    await shop.client.enqueue(Wait(note="makes the page ask"))
    await until(page, "document.querySelector('#conditions [data-key=session]')")
    assert await page.get_by_label("Topic").input_value() == "half a thought"
