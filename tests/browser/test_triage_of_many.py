"""Fifty thousand dead letters in four groups are shown at once, probed, replayed at a rate with a pause, or discarded for a
reason."""

import pytest
from playwright.async_api import Locator, Page, expect

from carafe.store.fingerprint import fingerprint
from tests.browser.conftest import Shop, Sitting
from tests.browser.handlers import ConnectTimeout
from tests.browser.kinds import Broken, Invoice, Letter, Parcel, Refund
from tests.waiting import eventually

pytestmark = [pytest.mark.anyio, pytest.mark.process]

GROUPS: dict[str, tuple[type[Broken], int]] = {
    "bank": (Invoice, 33_000),
    "printer": (Letter, 12_000),
    "courier": (Parcel, 3_000),
    "ledger": (Refund, 2_000),
}

DEAD = """
insert into carafe.jobs_ended (id, kind, queue, state, args, version, attempt, max_attempts, fence, snoozes, releases,
    timeout, created_at, due_at, started_at, ended_at, error_class, error, error_fingerprint)
select gen_random_uuid(), $1, 'default', 'dead', jsonb_build_object('cause', $2::text, 'number', n), 1, 1, 1, 1, 0, 0, 60,
    at, at, at, at, $4, 'no answer from ' || $2::text, $5
from generate_series(1, $3::integer) as n, lateral (select now() - n * interval '10 milliseconds' as at) as t
"""


async def number_of(shop: Shop, cause: str, condition: str) -> int:
    """Ended jobs of a cause that meet an SQL condition."""
    kind = GROUPS[cause][0].job_options.kind
    return int(await shop.fetch(f"select count(*) from carafe.jobs_ended where kind = $1 and {condition}", kind))


async def fact(page: Page, name: str) -> int:
    """A number of the bulk action that the page shows first."""
    text = await page.locator(f".bulk-progress dl div:has(dt:text-is('{name}')) dd").first.inner_text()
    return int(text.replace(",", ""))


def group(page: Page, cause: str) -> Locator:
    return page.locator("tbody tr[data-row]", has_text=GROUPS[cause][0].job_options.kind)


async def test_fifty_thousand_are_triaged(shop: Shop, sitting: Sitting) -> None:
    error_class = f"{ConnectTimeout.__module__}.{ConnectTimeout.__qualname__}"
    for cause, (kind, number) in GROUPS.items():
        name = kind.job_options.kind
        same = fingerprint(name, error_class, f"no answer from {cause}")
        await shop.execute(DEAD, name, cause, number, error_class, same)
    await shop.execute("analyze carafe.jobs_ended")

    page = await sitting.open("/dead", live=True)
    await expect(page.locator("tbody tr[data-row]")).to_have_count(4)
    for index, (cause, (_, number)) in enumerate(GROUPS.items()):
        row = page.locator("tbody tr[data-row]").nth(index)
        await expect(row).to_contain_text(f"no answer from {cause}")
        await expect(row).to_contain_text(f"{number:,}")

    # Mended: one is tried, then all others at a rate, with a pause in the middle of it.
    await group(page, "courier").get_by_role("link", name="Open").click()
    await page.get_by_role("button", name="Probe one", exact=True).click()
    await expect(page.locator("section.probe")).to_contain_text("It succeeded.")
    await page.get_by_label("Rate").fill("300")
    await page.get_by_role("button", name="Replay all").click()
    replay = page.locator(".bulk-progress").first
    await expect(replay).to_contain_text("at most 300/s")
    await replay.get_by_role("button", name="Pause").click()
    await expect(replay.get_by_role("button", name="Resume")).to_be_visible()
    done = await fact(page, "Done")
    assert done < 2_999
    assert await number_of(shop, "courier", "state = 'dead'") == 2_999 - done
    await replay.get_by_role("button", name="Resume").click()

    async def replayed() -> bool:
        return [await fact(page, name) for name in ("Done", "Skipped", "Failed")] == [2_999, 0, 0]

    await eventually(replayed, 60)

    async def worked() -> bool:
        return await number_of(shop, "courier", "state = 'succeeded'") == 3_000

    await eventually(worked, 120)

    # Never again: the largest is given up, with a reason, and stays findable.
    await page.get_by_role("link", name="Dead letters").first.click()
    await group(page, "bank").get_by_role("link", name="Open").click()
    await page.locator("summary", has_text="Discard all…").click()
    dialog = page.locator("dialog[open]")
    await dialog.get_by_label("Reason").fill("the bank is closed for good")
    await dialog.get_by_role("button", name="Discard all").click()

    async def discarded() -> bool:
        return await number_of(shop, "bank", "resolved_reason = 'the bank is closed for good'") == 33_000

    await eventually(discarded, 120)
    assert await number_of(shop, "bank", "state = 'dead' and resolved_at is not null") == 33_000

    # What is left is what nobody touched.
    await page.get_by_role("link", name="Dead letters").first.click()
    await expect(page.locator("tbody tr[data-row]")).to_have_count(2)
    await expect(group(page, "printer")).to_contain_text("12,000")
    await expect(group(page, "ledger")).to_contain_text("2,000")
    assert await number_of(shop, "printer", "state = 'dead' and resolved_at is null") == 12_000
    assert await number_of(shop, "ledger", "state = 'dead' and resolved_at is null") == 2_000
