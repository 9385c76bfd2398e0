"""A web process in the tests' own loop: uvicorn on a free port, real Postgres and Valkey behind it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import httpx
import pytest

from app.main import create_app
from briefings.settings import BriefingSettings
from carafe.settings.settings import ApiToken, Settings, hash_token
from carafe.store.database import Database
from carafe.web.server import WebServer

VIEW, OPERATE, OTHER = "view-token", "operate-token", "other-token"
TOKENS = (
    ApiToken("reader", "view", hash_token(VIEW)),
    ApiToken("ops", "operate", hash_token(OPERATE)),
    ApiToken("other", "operate", hash_token(OTHER)),
)

Serve = Callable[..., AbstractAsyncContextManager[httpx.AsyncClient]]


def bearer(token: str) -> dict[str, str]:
    """The header that carries a token."""
    return {"Authorization": f"Bearer {token}"}


@asynccontextmanager
async def served(application: Any, settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """`application` over HTTP for the time of the block, with a client for it."""
    web = WebServer(application, settings)
    ready = asyncio.Event()
    serving = asyncio.create_task(web.serve(ready=ready.set))
    started = asyncio.create_task(ready.wait())
    await asyncio.wait([serving, started], return_when=asyncio.FIRST_COMPLETED)
    started.cancel()
    try:
        if ready.is_set():
            async with httpx.AsyncClient(base_url=web.url, timeout=30) as client:
                yield client
    finally:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("carafe.web.server.QUIET", 0.0)  # the client has gone: nobody is to be told to go
            web.stop()
            await serving


@pytest.fixture(scope="module")
def settings(database_url: str, redis_url: str) -> BriefingSettings:
    """Development without tokens, on the module's servers; no upkeep, so that nothing moves by itself."""
    return BriefingSettings.model_validate(
        {
            "database_url": database_url,
            "redis_url": redis_url,
            "port": 0,
            "dashboard_port": 0,
            "steward": False,
            "job_modules": "briefings.jobs,tests.web.kinds_for_tests",
            "job_args_limit": 2_000,
            "drain_timeout": 5,
        }
    )


@pytest.fixture(scope="module")
def serve(settings: BriefingSettings) -> Serve:
    """``async with serve(setting=value) as http``: this repository's application with other settings."""

    def with_settings(**changes: Any) -> AbstractAsyncContextManager[httpx.AsyncClient]:
        changed = BriefingSettings.model_validate({**settings.model_dump(), **changes})
        return served(create_app(changed), changed)

    return with_settings


@pytest.fixture(scope="module")
async def http(serve: Serve) -> AsyncIterator[httpx.AsyncClient]:
    """A client of this repository's application as `settings` say."""
    async with serve() as client:
        yield client


@pytest.fixture(scope="module")
async def database(database_url: str) -> AsyncIterator[Database]:
    """What the tests themselves ask the module's database."""
    database = Database(database_url, pool_size=2, name="tests")
    yield database
    await database.close()
