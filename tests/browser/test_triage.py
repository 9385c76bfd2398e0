"""A person on call works on groups of dead letters: a probe, a replay at a rate with a pause, bulk actions while the process
is killed."""

import asyncio
import re
import signal

import pytest
from playwright.async_api import Page, expect

from tests.browser.conftest import Shop, Sitting, until
from tests.browser.kinds import Broken, Greet, Invoice, Letter, Parcel, Refund, Wait
from tests.waiting import eventually

pytestmark = [pytest.mark.anyio, pytest.mark.process]

GONE = ("ERR_CONNECTION_REFUSED", "ERR_INCOMPLETE_CHUNKED_ENCODING", "ERR_CONNECTION_RESET", "ERR_EMPTY_RESPONSE")
"""What a browser says of a server that was killed."""

CAUSES: dict[str, type[Broken]] = {"bank": Invoice, "printer": Letter, "courier": Parcel, "ledger": Refund}


async def die(shop: Shop, cause: str, number: int) -> None:
    """Let as many jobs of a cause die."""
    await shop.breaks(cause)
    await shop.client.enqueue_many([CAUSES[cause](cause=cause, number=n) for n in range(number)])
    await eventually(lambda: dead(shop, cause, number), 60)


async def dead(shop: Shop, cause: str, number: int) -> bool:
    return await number_of(shop, cause, "dead") == number


async def number_of(shop: Shop, cause: str, state: str) -> int:
    """Jobs of a cause in a state."""
    kind = CAUSES[cause].job_options.kind
    return int(
        await shop.fetch(
            "select (select count(*) from carafe.jobs where kind = $1 and state = $2)"
            " + (select count(*) from carafe.jobs_ended where kind = $1 and state = $2 and resolved_at is null)",
            kind,
            state,
        )
    )


async def fact(page: Page, name: str) -> int:
    """A number of the bulk action that the page shows."""
    text = await page.locator(f".bulk-progress dl div:has(dt:text-is('{name}')) dd").first.inner_text()
    return int(text.replace(",", ""))


async def test_four_groups_are_triaged(shop: Shop, sitting: Sitting) -> None:
    for cause, number in (("bank", 120), ("printer", 8), ("courier", 5), ("ledger", 3)):
        await die(shop, cause, number)
    page = await sitting.open("/dead", live=True)
    rows = page.locator("tbody tr[data-row]")
    await expect(rows).to_have_count(4)
    await expect(rows.nth(0)).to_contain_text("shop.invoice")  # the largest first
    await expect(rows.nth(0)).to_contain_text("no answer from bank")
    await rows.nth(0).get_by_role("link", name="Open").click()
    await expect(page.get_by_role("heading", level=1)).to_contain_text("shop.invoice")

    # Still broken: the probe says so in place.
    await page.get_by_role("button", name="Probe one", exact=True).click()
    probe = page.locator("section.probe")
    await expect(probe).to_contain_text("It is dead again with the same error")
    # Mended: it worked.
    await shop.works("bank")
    await page.get_by_role("button", name="Probe one", exact=True).click()
    await expect(probe).to_contain_text("It succeeded.")

    # All others at a rate, with a pause in the middle of it.
    await page.get_by_label("Rate").fill("20")
    await page.get_by_role("button", name="Replay all").click()
    bulk = page.locator(".bulk-progress").first
    await expect(bulk).to_contain_text("at most 20/s")
    await bulk.get_by_role("button", name="Pause").click()
    await expect(page.locator(".bulk-progress").get_by_role("button", name="Resume")).to_be_visible()
    done = await fact(page, "Done")
    assert 0 <= done < 119
    assert await number_of(shop, "bank", "dead") == 119 - done
    # Nobody runs ahead while it is paused: the row itself does not move with the next looks of the steward.
    await page.locator(".bulk-progress").get_by_role("button", name="Resume").click()
    await sitting.live(page)
    await page.evaluate("window.stays = true")
    await expect(page.locator(".bulk-progress").first).to_contain_text("done")
    await eventually(lambda: finished(page), 30)
    assert [await fact(page, name) for name in ("Done", "Skipped", "Failed")] == [119, 0, 0]
    assert await page.evaluate("window.stays === true")
    await eventually(lambda: succeeded(shop, "bank", 120), 30)
    assert await number_of(shop, "bank", "dead") == 0

    # The next group is given up, with a reason.
    await page.get_by_role("link", name="Dead letters").first.click()
    await page.locator("tbody tr[data-row]", has_text="shop.letter").get_by_role("link", name="Open").click()
    await page.locator("summary", has_text="Discard all…").click()
    dialog = page.locator("dialog[open]")
    await dialog.get_by_label("Reason").fill("the printer was sold")
    await dialog.get_by_role("button", name="Discard all").click()
    await eventually(lambda: dead(shop, "printer", 0), 30)


async def finished(page: Page) -> bool:
    return await page.locator(".bulk-progress").first.get_by_role("button").count() == 0


async def succeeded(shop: Shop, cause: str, number: int) -> bool:
    return await number_of(shop, cause, "succeeded") == number


async def test_all_that_match_survive_the_death_of_the_process(shop: Shop, sitting: Sitting) -> None:
    number = 300
    sitting.expects(
        "ERR_CONNECTION_REFUSED", "ERR_INCOMPLETE_CHUNKED_ENCODING", "ERR_CONNECTION_RESET", "ERR_EMPTY_RESPONSE"
    )
    await shop.execute("delete from carafe.jobs_ended where kind = 'shop.parcel'")
    await die(shop, "courier", number)
    other = await shop.client.enqueue(Wait(note="of another kind"))
    page = await sitting.open("/jobs", live=True)
    # By the page's own filters.
    await page.locator("nav.tabs a", has_text=re.compile("^dead", re.I)).click()
    await page.locator("summary", has_text="More filters").click()
    await page.get_by_label("Kind").select_option("shop.parcel")
    await page.get_by_role("button", name="Filter", exact=True).click()
    await expect(page.locator(".chips")).to_contain_text("shop.parcel")
    await page.get_by_label(re.compile("that match")).check()
    await expect(page.locator("[data-selected-count]")).to_have_text("all that match")
    await shop.works("courier")
    await page.locator("button[name=action][value=retry]").click()
    await expect(page.get_by_text(re.compile("match(es)? now"))).to_contain_text(str(number))
    await page.get_by_label("Reason").fill("the courier is back")
    await page.get_by_label("Rate").fill("60")
    await page.get_by_role("button", name=re.compile("Retry 300 jobs")).click()
    await page.wait_for_url(re.compile("/bulk/[0-9a-f-]{36}"))
    await sitting.live(page)
    await until(page, "document.querySelector('.bulk-progress progress').value > 0")

    shop.web.send(signal.SIGKILL)
    await asyncio.to_thread(shop.web.wait)
    left = await number_of(shop, "courier", "dead")
    assert 0 < left < number
    # The page says that it is not live, keeps what it had, and comes back by itself.
    await page.evaluate("window.stays = true")
    await until(page, "document.getElementById('live').dataset.live !== 'on'")
    await shop.start_web()
    await sitting.live(page)
    await eventually(lambda: finished(page), 30)
    assert await page.evaluate("window.stays === true")
    assert [await fact(page, name) for name in ("Done", "Skipped", "Failed")] == [number, 0, 0]
    await eventually(lambda: succeeded(shop, "courier", number), 30)
    retried = await shop.fetch(
        "select count(*) from carafe.audit a join carafe.jobs_ended e on a.target = e.id::text"
        " where a.action = 'retry' and e.kind = 'shop.parcel'"
    )
    assert retried == number
    await shop.client.cancel(other.id)


async def test_a_selection_is_cancelled(shop: Shop, sitting: Sitting) -> None:
    await shop.client.pause()
    try:
        ids = [(await shop.client.enqueue(Greet(name=f"n{number}"))).id for number in range(4)]
        page = await sitting.open("/jobs?state=queued&kind=shop.greet", live=True)
        for job in ids[:2]:
            await page.locator(f'tr[data-key="{job}"] input[name=selected]').check()
        await expect(page.locator("[data-selected-count]")).to_have_text("2 selected")
        await page.locator("button[name=action][value=cancel]").click()
        await page.get_by_role("button", name="Cancel 2 jobs").click()
        await page.wait_for_url(re.compile("/bulk/[0-9a-f-]{36}"))
        await sitting.live(page)
        await eventually(lambda: finished(page), 30)
        assert await fact(page, "Done") == 2
        states = [(await shop.client.get(job)).state.value for job in ids]
        assert states == ["cancelled", "cancelled", "queued", "queued"]
    finally:
        await shop.client.resume()
