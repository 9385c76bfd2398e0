"""Every page, with and without data, light and dark, wide and narrow: everybody can use it, and no text becomes markup."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlencode

import pytest
from fastapi import APIRouter
from fastapi.routing import APIRoute
from playwright.async_api import Browser, Dialog, Page, expect

from app import dashboard as briefings_page
from carafe.dashboard.application import PAGES
from carafe.dashboard.security import login
from carafe.testing.databases import Databases
from tests.browser.axe import Axe
from tests.browser.conftest import OpenShop, Sitting, a_sitting
from tests.browser.places import NOBODY, Place, anywhere, of_a_storefront
from tests.browser.storefront import Storefront, fill, freshen_at
from tests.proxy import Proxy

pytestmark = [pytest.mark.anyio, pytest.mark.process]

REFUSED = r"status of (40[0-9]|422|503)"

PHONE = 375

HOSTILE = (
    "\"'><b class=hostile>x</b><img src=x onerror=window.hostile=1>"
    "<script>window.hostile=1;alert(1)</script></textarea></title>"
)
"""What every text of a system may hold."""

MADE = "window.hostile !== undefined || !!document.querySelector('.hostile, img[src=x], script:not([src]), [onerror]')"
"""Whether any of it has become more than text."""

TOLD = """(() => {
    const values = [...document.querySelectorAll("input, textarea")].map((field) => field.value);
    return [document.body.textContent, ...values].some((text) => text.includes("<b class=hostile>"));
})()"""
"""Whether some of it is on the page at all, as text or in a field."""

SIDEWAYS = """(() => {
    const root = document.documentElement;
    const held = (element) => {
        for (let one = element.parentElement; one && one !== document.body; one = one.parentElement) {
            if (getComputedStyle(one).overflowX !== "visible") return true;
        }
        return false;
    };
    const wide = [...document.body.querySelectorAll("*")].filter((element) => {
        const box = element.getBoundingClientRect();
        return element.checkVisibility() && box.width > 0 && box.right > root.clientWidth + 1 && !held(element);
    });
    const scroll = root.scrollWidth > root.clientWidth ? [`scrolls sideways, ${root.scrollWidth} px wide`] : [];
    return [...scroll, ...wide.slice(0, 3).map((element) => `sticks out: ${element.outerHTML.slice(0, 120)}`)];
})()"""


@dataclass
class Seen:
    """A system to look at: signed in as those who look, by name."""

    url: str
    sittings: dict[str, Sitting]
    fresh: Callable[[], Any]

    async def tabs(self, *, width: int = 1280) -> dict[str, Page]:
        """One tab for each of them."""
        tabs = {}
        for name, sitting in self.sittings.items():
            tabs[name] = await sitting.open("/login")
            if name:
                await sitting.sign_in(name, tabs[name])
                await expect(tabs[name].locator(".viewer-name")).to_have_text(name)
            await tabs[name].set_viewport_size({"width": width, "height": 900})
        return tabs


Look = Callable[..., Any]


@pytest.fixture(scope="module")
def look(open_shop: OpenShop, carafe_databases: Databases, browser: Browser, users: str) -> Look:
    """``async with look(database_url) as seen``: the dashboard over that database, and three who look at it."""

    @asynccontextmanager
    async def looked(database_url: str) -> AsyncIterator[Seen]:
        changes = {
            "DATABASE_URL": database_url,
            "JOB_MODULES": "briefings.jobs,tests.browser.storefront",
            "STEWARD": "false",
            "DASHBOARD_USERS": users,
            "DASHBOARD_SECRET_KEYS": "k" * 40,
        }
        async with (
            open_shop(worker=False, **changes) as shop,
            a_sitting(browser, shop.url) as ana,
            a_sitting(browser, shop.url) as vic,
            a_sitting(browser, shop.url) as nobody,
        ):
            sittings = {"ana": ana, "vic": vic, "": nobody}
            for sitting in sittings.values():
                sitting.expects(REFUSED)
            yield Seen(shop.url, sittings, lambda: freshen_at(database_url))

    return looked


def none(faults: Sequence[str]) -> None:
    """All that was found is told at once."""
    assert not faults, "\n".join(faults)


async def every_way(page: Page, axe: Axe) -> list[str]:
    """What is wrong with it in light and dark, wide and narrow: its contrast in each way, all else once for each."""
    faults = []
    ways: list[tuple[Literal["light", "dark"], int, bool]] = [
        ("light", 1280, True),
        ("dark", 1280, False),
        ("dark", PHONE, True),
        ("light", PHONE, False),
    ]
    for scheme, width, all_rules in ways:
        await page.set_viewport_size({"width": width, "height": 900})
        await page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        found = [*(await page.evaluate(SIDEWAYS)), *(await axe.faults(page, all_rules=all_rules))]
        faults += [f"{scheme}, {width} px: {fault}" for fault in found]
    return faults


async def walk(seen: Seen, places: Sequence[Place]) -> list[str]:
    """Go everywhere; what is wrong where."""
    axe = Axe()
    for sitting in seen.sittings.values():
        await axe.begin(sitting.context)
    tabs, faults = await seen.tabs(), []
    for place in places:
        await seen.fresh()
        page = tabs[place.who]
        answer = await page.goto(seen.url + place.path)
        assert answer is not None
        if answer.status != place.status:
            faults.append(f"{place.name}: {answer.status} instead of {place.status}")
            continue
        faults += [f"{place.name}: {fault}" for fault in await every_way(page, axe)]
    return faults


async def test_a_filled_system_can_be_used_by_everybody(look: Look, carafe_databases: Databases) -> None:
    with carafe_databases.fresh() as url:
        front = await fill(url)
        async with look(url) as seen:
            none(await walk(seen, [*anywhere(), *of_a_storefront(front)]))


async def test_an_empty_system_can_be_used_by_everybody(look: Look, database_url: str) -> None:
    async with look(database_url) as seen:
        seen.fresh = nothing
        none(await walk(seen, anywhere()))


async def nothing() -> None:
    """No steward leads, nothing was ever sampled."""


async def test_it_can_be_used_while_postgres_is_away(look: Look, carafe_databases: Databases) -> None:
    with carafe_databases.fresh() as url:
        await fill(url)
        proxy = Proxy(url)
        await proxy.listen()
        async with look(proxy.url) as seen:
            page = (await seen.tabs())["ana"]
            await seen.sittings["ana"].live(page)
            await proxy.refuse()
            await expect(page.locator("#conditions [data-key=postgres]")).to_be_visible()
            faults = await every_way(page, axe := Axe())
            answer = await page.goto(seen.url + "/jobs")
            assert answer is not None
            assert answer.status == 503
            none(faults + await every_way(page, axe))


TELLS_NOTHING = {
    "jobs-no-match",
    "jobs-search-fault",
    "kind-gone",
    "dead-group-gone",
    "enqueue",
    "enqueue-form",
    "help",
    "login",
    "forbidden",
    "not-found",
}
"""Pages on which nothing stands that comes from a job or a person."""


async def test_text_of_jobs_and_people_is_shown_as_text(look: Look, carafe_databases: Databases) -> None:
    with carafe_databases.fresh() as url:
        front = await fill(url, lambda text: text + HOSTILE)
        async with look(url) as seen:
            places = [*anywhere(), *of_a_storefront(front)]
            addresses = [(place.name, place.who, place.path) for place in places if place.name != "jobs-filtered"]
            none(await shows_text(seen, addresses, tells=lambda name: name not in TELLS_NOTHING))


async def test_text_of_addresses_is_shown_as_text(look: Look, database_url: str) -> None:
    said = dict.fromkeys(("kind", "text", "error_class", "fingerprint", "args.name"), HOSTILE)
    paths = {
        "jobs": "/jobs?" + urlencode(said),
        "jobs-state": "/jobs?" + urlencode({"state": HOSTILE}),
        "jobs-cursor": "/jobs?" + urlencode({"cursor": HOSTILE}),
        "search": "/jobs?" + urlencode({"q": HOSTILE}),
        "search-argument": "/jobs?" + urlencode({"q": f"args.name:{HOSTILE}"}),
        "overview": "/?" + urlencode({"kind": HOSTILE}),
        "overview-range": "/?" + urlencode({"range": HOSTILE}),
        "group": "/dead/group?" + urlencode({"kind": HOSTILE, "fingerprint": HOSTILE, "probe": HOSTILE}),
        "bulk": "/bulk/new?" + urlencode({"action": HOSTILE}),
        "bulk-filter": "/bulk/new?" + urlencode({"action": "cancel", "kind": HOSTILE, "text": HOSTILE}),
        "enqueue": "/enqueue?" + urlencode({"kind": HOSTILE}),
        "audit": "/audit?" + urlencode({"target": HOSTILE}),
        "briefings": "/briefings?" + urlencode({"before": HOSTILE}),
        "login": "/login?" + urlencode({"next": "/" + HOSTILE}),
        "nowhere": "/" + HOSTILE.replace("/", "%2F").replace("#", "%23"),
        "no-job": "/jobs/" + HOSTILE.replace("/", "%2F").replace("#", "%23"),
        "kind": "/kinds/" + HOSTILE.replace("/", "%2F").replace("#", "%23"),
        "no-bulk": f"/bulk/{NOBODY}{HOSTILE.replace('/', '%2F')}",
    }
    async with look(database_url) as seen:
        addresses = [(name, "" if name == "login" else "ana", path) for name, path in paths.items()]
        told = {"jobs", "search", "search-argument", "group", "bulk-filter", "audit", "kind"}
        none(await shows_text(seen, addresses, tells=told.__contains__))


async def shows_text(seen: Seen, addresses: Sequence[tuple[str, str, str]], tells: Callable[[str], bool]) -> list[str]:
    """Go to each (name, who, path): where a dialog opened, an element was made, or what must be told is not."""
    tabs, faults, dialogs = await seen.tabs(width=PHONE), [], list[str]()

    async def opened(dialog: Dialog) -> None:
        dialogs.append(dialog.message)
        await dialog.dismiss()

    for tab in tabs.values():
        tab.on("dialog", opened)
    for name, who, path in addresses:
        await seen.fresh()
        page = tabs[who]
        answer = await page.goto(seen.url + path)
        assert answer is not None
        if answer.status == 500:
            faults.append(f"{name}: 500")
        await page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
        if dialogs or await page.evaluate(MADE):
            faults.append(f"{name}: markup became more than text {dialogs}")
        if tells(name) and not await page.evaluate(TOLD):
            faults.append(f"{name}: does not tell it")
        faults += [f"{name}: {fault}" for fault in await page.evaluate(SIDEWAYS)]
    return faults


async def test_what_is_looked_for_is_found(browser: Browser) -> None:
    page = await browser.new_page()
    await page.set_content(
        "<html lang=en><title>t</title><main><h1>h</h1><input>"
        "<p style='color: #bbb; background: #fff; width: 2000px'>faint</p>"
        f"<p>{HOSTILE}</p><ul><li><b>like others</b><li><b>like others</b><li><b>unlike them</b></ul></main>"
        "<style>li:last-child b { color: #ccc }</style>"
    )
    axe = Axe()
    faults = await every_way(page, axe)
    for expected in (
        "light, 1280 px: label",
        "dark, 375 px: label",
        "light, 375 px: color-contrast",
        "dark, 375 px: scrolls",
    ):
        assert any(fault.startswith(expected) for fault in faults), (expected, faults)
    assert all("unlike them" in fault for fault in faults if "color-contrast" in fault)
    assert sum("color-contrast" in fault for fault in faults) == 4
    assert await page.evaluate(MADE)
    # On another page what looks like that is known, and what does not is looked at.
    await page.set_content(
        "<html lang=en><title>u</title><main><h1>h</h1><p style='color: #bbb; background: #fff'>faint</p></main>"
    )
    assert sum("color-contrast" in fault and "faint" in fault for fault in await every_way(page, axe)) == 4
    await page.set_content("<html lang=en><title>u</title><main><h1>h</h1><p>plain</p><input></main>")
    assert [fault.partition(": ")[2][:5] for fault in await every_way(page, axe)] == ["label", "label"]
    await page.close()


def test_no_page_is_forgotten() -> None:
    front = Storefront.sample()
    visited = {place.route for place in [*anywhere(), *of_a_storefront(front)]}
    routers: list[APIRouter] = [router for _, routers in PAGES for router in routers]
    routes = [route for router in [*routers, login.router, briefings_page.router] for route in router.routes]
    there = {route.path for route in routes if isinstance(route, APIRoute) and "GET" in (route.methods or ())}
    assert there - {"/jobs/{job_id}/raw/{part}"} == visited  # that one is JSON or text, and no page
