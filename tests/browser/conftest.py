"""A person's browser, and what it visits: a real `carafe serve` with its dashboard, and a real worker.

    async def test_something(shop: Shop, sitting: Sitting) -> None:
        page = await sitting.open("/jobs")

Any error on a page's console, any exception in its scripts and any violation of the content security policy fails the test
at its end, unless the test said before that it comes: `sitting.expects("status of 503")`.

Waits are Playwright's own (`expect(…)`, `page.wait_for_selector`) or `until(page, "expression")`: `wait_for_function` with
a string needs `unsafe-eval`, which the dashboard's policy rightly refuses.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Page, expect
from playwright.async_api import Error as PlaywrightError

from carafe import Client
from carafe.dashboard.security.passwords import hash_password
from carafe.dev.embedded import free_port
from tests.browser.chromium import chromium
from tests.cli.running import Running, running
from tests.waiting import eventually

PASSWORDS = {"ana": "correct horse", "vic": "battery staple"}
"""ana may act, vic may look."""

PATIENCE = 30.0
"""Seconds that a page may take to show something: for a busy machine; the tests wait for what happens, not for this."""

expect.set_options(timeout=PATIENCE * 1000)

MACHINE = "ERR_NETWORK_CHANGED"
"""Chromium drops all connections when a network interface comes or goes, as they do where containers run beside it."""

VIOLATIONS = """
addEventListener("securitypolicyviolation", (event) =>
  console.error(`violates ${event.effectiveDirective}: ${event.blockedURI} ${event.sourceFile ?? ""}`));
"""


@dataclass
class Shop:
    """The service under test. `url` is the dashboard's, the same after a restart."""

    folder: Path
    environment: dict[str, str]
    url: str
    client: Client
    web: Running
    worker: Running | None
    _processes: ExitStack

    async def start_web(self) -> None:
        """The web process again, after the last one has ended; on the same ports."""
        self.web = await asyncio.to_thread(self._start, "serve")
        await asyncio.to_thread(self.web.says, r"dashboard=(http://\S+)")

    async def start_worker(self) -> None:
        """A worker, until it is ready."""
        self.worker = await asyncio.to_thread(self._start, "serve", "--worker")
        await asyncio.to_thread(self.worker.says, "worker ready")

    def _start(self, *arguments: str) -> Running:
        return self._processes.enter_context(running(*arguments, folder=self.folder, **self._of(arguments)))

    def _of(self, arguments: tuple[str, ...]) -> dict[str, str]:
        # Upkeep is the web process's, so that killing it kills the process that runs bulk actions.
        return self.environment | ({"STEWARD": "false"} if "--worker" in arguments else {})

    async def breaks(self, cause: str) -> None:
        """From now on jobs with this cause fail."""
        await self.execute("insert into causes values ($1) on conflict do nothing", cause)

    async def works(self, cause: str) -> None:
        """From now on they succeed."""
        await self.execute("delete from causes where cause = $1", cause)

    async def execute(self, statement: str, *arguments: Any) -> None:
        """A statement in the service's database."""
        async with self.client.database.connection() as connection:
            await connection.execute(statement, *arguments)

    async def fetch(self, statement: str, *arguments: Any) -> Any:
        """The first column of the first row."""
        async with self.client.database.connection() as connection:
            return await connection.fetchval(statement, *arguments)


@dataclass
class Sitting:
    """Somebody's browser for the time of a test: its pages share cookies, and what they complain about is kept."""

    context: BrowserContext
    url: str
    complaints: list[str] = field(default_factory=list)
    _expected: list[str] = field(default_factory=list)

    def expects(self, *patterns: str) -> None:
        """Complaints that match are part of this test (a 503 that the browser reports, for one)."""
        self._expected += patterns

    def unexpected(self) -> list[str]:
        """What was complained about and nobody expected."""
        ignored = [*self._expected, MACHINE]
        return [one for one in self.complaints if not any(re.search(pattern, one) for pattern in ignored)]

    async def open(self, path: str = "/", live: bool = False) -> Page:
        """A new tab at `path`; `live` waits until it follows by stream."""
        page = await self.context.new_page()
        page.set_default_timeout(PATIENCE * 1000)
        self._watch(page)
        await self._load(page, path)
        if live:
            await self.live(page)
        return page

    async def live(self, page: Page) -> None:
        """Wait until the page's stream is open."""
        await page.wait_for_selector("#live[data-live=on]")

    async def sign_in(self, name: str, page: Page | None = None, password: str | None = None) -> Page:
        """Fill in the sign-in form; the page that follows."""
        page = page or await self.open("/login")
        await page.get_by_label("Name").fill(name)
        await page.get_by_label("Password").fill(PASSWORDS[name] if password is None else password)
        await page.get_by_role("button", name="Sign in").click()
        return page

    async def _load(self, page: Page, path: str) -> None:
        for _ in range(5):
            before = len(self.complaints)
            try:
                await page.goto(self.url + path)
            except PlaywrightError as error:
                if MACHINE not in str(error):
                    raise
            else:
                if not any(MACHINE in one for one in self.complaints[before:]):
                    return
        raise AssertionError(f"{path}: this machine's network interfaces change all the time")

    def _watch(self, page: Page) -> None:
        def said(message: ConsoleMessage) -> None:
            if message.type in ("error", "warning"):
                self.complaints.append(f"{message.type} on {page.url}: {message.text} ({message.location.get('url', '')})")

        page.on("console", said)
        page.on("pageerror", lambda error: self.complaints.append(f"exception on {page.url}: {error}"))
        page.on("crash", lambda _: self.complaints.append(f"crash of {page.url}"))


async def until(page: Page, expression: str, within: float = PATIENCE) -> Any:
    """The first true value of a JavaScript expression in the page. Raises AssertionError at the deadline."""

    async def value() -> Any:
        return await page.evaluate(expression)

    try:
        return await eventually(value, within)
    except AssertionError:
        raise AssertionError(f"not within {within:g} s on {page.url}: {expression}") from None


@asynccontextmanager
async def a_sitting(browser: Browser, url: str, **options: Any) -> AsyncIterator[Sitting]:
    """A browser profile of its own, which must have nothing to complain about at the end."""
    context = await browser.new_context(**options)
    await context.add_init_script(VIOLATIONS)
    sitting = Sitting(context, url)
    try:
        yield sitting
    finally:
        await context.close()
    unexpected = sitting.unexpected()
    assert not unexpected, "the browser complained:\n" + "\n".join(dict.fromkeys(unexpected))


@pytest.fixture(scope="session")
async def browser() -> AsyncIterator[Browser]:
    """A headless Chromium, for all tests of this process: each has profiles of its own (`a_sitting`)."""
    async with chromium() as browser:
        yield browser


def environment_of(database_url: str, redis_url: str, **changes: str) -> dict[str, str]:
    """The settings of the service: briefings and the shop's kinds, on these servers."""
    return {
        "ENVIRONMENT": "development",
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url,
        "SETTINGS_CLASS": "briefings.settings:BriefingSettings",
        "JOB_MODULES": "briefings.jobs,tests.browser.kinds",
        "HANDLER_MODULES": "worker.handlers.briefings,tests.browser.handlers",
        "MIGRATIONS": "briefings.migrations",
        "WEB_APPLICATION": "app.main:create_app",
        "WORKER_APPLICATION": "carafe.engine.application:app",
        "PORT": str(free_port()),
        "DASHBOARD_PORT": str(free_port()),
        "METRICS_PORT": "0",
        "PROBE_PORT": "0",
        "WORKER_CONCURRENCY": "4",
        "DRAIN_TIMEOUT": "10",
        "JOB_RETRY_BASE": "0.05",
        "DASHBOARD_STREAMS": "20",
    } | changes


OpenShop = Callable[..., AbstractAsyncContextManager[Shop]]


@pytest.fixture(scope="module")
def open_shop(database_url: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> OpenShop:
    """``async with open_shop(worker=False, SETTING="value") as shop``: the processes with other settings."""

    @asynccontextmanager
    async def opened(worker: bool = True, **changes: str) -> AsyncIterator[Shop]:
        environment = environment_of(database_url, redis_url, **changes)
        async with Client.connect(database_url=database_url, redis_url=redis_url) as client:
            with ExitStack() as processes:
                folder = tmp_path_factory.mktemp("shop")
                web = processes.enter_context(running("serve", folder=folder, **environment))
                url = (await asyncio.to_thread(web.says, r"dashboard=(http://\S+)"))[1].rstrip("/")
                shop = Shop(folder, environment, url, client, web, None, processes)
                await shop.execute("create table if not exists causes (cause text primary key)")
                if worker:
                    await shop.start_worker()
                yield shop

    return opened


@pytest.fixture(scope="module")
async def shop(open_shop: OpenShop) -> AsyncIterator[Shop]:
    """The service of this module, open to everybody on this machine, with a worker."""
    async with open_shop() as shop:
        yield shop


@pytest.fixture
async def sitting(browser: Browser, shop: Shop) -> AsyncIterator[Sitting]:
    """A browser profile for this test."""
    said = len(shop.web.output)
    try:
        async with a_sitting(browser, shop.url) as sitting:
            yield sitting
    except AssertionError:
        print(shop.web.output[said:][-20_000:])  # noqa: T201 - pytest shows it beside the failure
        raise


@pytest.fixture(scope="session")
def users() -> str:
    """DASHBOARD_USERS: ana may act, vic may look."""
    return f"ana:operate:{hash_password(PASSWORDS['ana'])},vic:view:{hash_password(PASSWORDS['vic'])}"
