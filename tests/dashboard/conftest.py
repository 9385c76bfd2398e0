"""A dashboard in the tests' own loop: uvicorn on a free port, real Postgres and Valkey behind it."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from jinja2 import BytecodeCache
from jinja2.bccache import Bucket

from briefings.settings import BriefingSettings
from carafe import Client
from carafe.dashboard import Dashboard, create_dashboard
from carafe.dashboard.added_pages import AddedPage
from carafe.dashboard.security.passwords import hash_password
from carafe.settings.settings import Settings
from carafe.store.database import Database
from carafe.web.server import WebServer
from tests.dashboard import desk
from tests.dashboard.visiting import Visitor

PASSWORDS = {"ana": "correct horse", "vic": "battery staple"}
KEY = "k" * 40


@dataclass
class Served:
    """A dashboard that answers."""

    web: WebServer
    dashboard: Dashboard
    settings: Settings
    visitors: list[httpx.AsyncClient]

    def visitor(self, **headers: str) -> Visitor:
        """Somebody with a browser of their own."""
        http = httpx.AsyncClient(base_url=self.web.url, timeout=30, verify=False)  # reading authorities' keys takes 40 ms
        self.visitors.append(http)
        return Visitor(http, **headers)


@asynccontextmanager
async def served(app: FastAPI, settings: Settings, port_setting: str = "DASHBOARD_PORT") -> AsyncIterator[WebServer]:
    """`app` over HTTP for the time of the block."""
    web = WebServer(app, settings, port_setting=port_setting)
    ready = asyncio.Event()
    serving = asyncio.create_task(web.serve(ready=ready.set))
    started = asyncio.create_task(ready.wait())
    await asyncio.wait([serving, started], return_when=asyncio.FIRST_COMPLETED)
    started.cancel()
    try:
        if ready.is_set():
            yield web
    finally:
        web.stop()
        await serving


Open = Callable[..., AbstractAsyncContextManager[Served]]


class Compiled(BytecodeCache):
    """Templates that a dashboard of these tests has compiled, for those after it. One that changes is compiled again."""

    def __init__(self) -> None:
        self._kept: dict[str, bytes] = {}

    def load_bytecode(self, bucket: Bucket) -> None:
        if bucket.key in self._kept:
            bucket.bytecode_from_string(self._kept[bucket.key])

    def dump_bytecode(self, bucket: Bucket) -> None:
        self._kept[bucket.key] = bucket.bytecode_to_string()


compiled = Compiled()


@pytest.fixture(scope="session")
def users() -> str:
    """DASHBOARD_USERS: ana may act, vic may look."""
    return f"ana:operate:{hash_password(PASSWORDS['ana'])},vic:view:{hash_password(PASSWORDS['vic'])}"


@pytest.fixture(scope="module")
def settings(database_url: str, redis_url: str, users: str) -> BriefingSettings:
    """Development with two users, on the module's servers; no upkeep, so that nothing moves by itself."""
    return BriefingSettings.model_validate(
        {
            "database_url": database_url,
            "redis_url": redis_url,
            "port": 0,
            "dashboard_port": 0,
            "metrics_port": 0,
            "steward": False,
            "job_modules": "tests.web.kinds_for_tests",
            "drain_timeout": 5,
            "dashboard_users": users,
            "dashboard_secret_keys": KEY,
        }
    )


@pytest.fixture(scope="module")
def opened(settings: BriefingSettings) -> Open:
    """``async with opened(setting=value) as served``: a dashboard with other settings, and the desk for a page."""

    @asynccontextmanager
    async def with_settings(authenticate: Any = None, **changes: Any) -> AsyncIterator[Served]:
        changed = BriefingSettings.model_validate(
            {name: getattr(settings, name) for name in BriefingSettings.model_fields} | changes
        )
        client = Client.from_settings(changed)
        pages = [AddedPage("Desk", desk.router, "/desk", templates=desk.TEMPLATES)]
        app = create_dashboard(changed, client, authenticate=authenticate, pages=pages)
        app.state.dashboard.templates.bytecode_cache = compiled
        visitors: list[httpx.AsyncClient] = []
        try:
            async with served(app, changed) as web:
                try:
                    yield Served(web, app.state.dashboard, changed, visitors)
                finally:
                    for http in visitors:
                        await http.aclose()
        finally:
            await client.close()

    return with_settings


@pytest.fixture
def acts() -> Iterator[list[tuple[str, str]]]:
    """What was done at the desk during a test."""
    desk.done.clear()
    yield desk.done
    desk.done.clear()


@pytest.fixture(scope="module")
async def database(database_url: str) -> AsyncIterator[Database]:
    """What the tests themselves ask the module's database."""
    database = Database(database_url, pool_size=2, name="tests")
    yield database
    await database.close()


@pytest.fixture(scope="module")
async def dashboard(opened: Open) -> AsyncIterator[Served]:
    """A dashboard for the tests of a module's pages."""
    async with opened() as served:
        yield served


@pytest.fixture(scope="module")
async def ana(dashboard: Served) -> Visitor:
    """Somebody signed in who may act."""
    visitor = dashboard.visitor()
    await visitor.sign_in("ana", PASSWORDS["ana"])
    return visitor


@pytest.fixture(scope="module")
async def vic(dashboard: Served) -> Visitor:
    """Somebody signed in who may look."""
    visitor = dashboard.visitor()
    await visitor.sign_in("vic", PASSWORDS["vic"])
    return visitor


@pytest.fixture
def client(dashboard: Served) -> Client:
    """The client of that dashboard."""
    return dashboard.dashboard.client
