"""The dashboard under a path of another application: all its URLs work there, and it ends with that application."""

import asyncio
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI, Request

from carafe import Client
from carafe.dashboard import Dashboard, Viewer, add_page, mount_dashboard
from carafe.settings.settings import Settings
from carafe.web.application import carafe_lifespan, mount_jobs_api
from tests.cli.conftest import ROOT, bare_environment
from tests.dashboard import desk
from tests.dashboard.conftest import PASSWORDS, served
from tests.dashboard.streaming import following
from tests.dashboard.visiting import Visitor
from tests.waiting import eventually

PATH = "/ops/jobs"


def who(request: Request) -> Viewer | None:
    """The other application's own idea of who looks."""
    name = request.headers.get("x-employee")
    return Viewer(name, operates=name == "ana") if name else None


@asynccontextmanager
async def another(settings: Settings, *, own_users: bool = False) -> AsyncIterator[tuple[Visitor, Dashboard, FastAPI]]:
    """A FastAPI application of somebody else's, with the dashboard in it."""
    client = Client.from_settings(settings)
    app = FastAPI(lifespan=carafe_lifespan(client, settings))
    add_page(app, "Desk", desk.router, path="/desk", templates=desk.TEMPLATES)
    mount_jobs_api(app, client, settings)
    dashboard = mount_dashboard(app, PATH, client, settings, authenticate=None if own_users else who)

    @app.get("/")
    async def own() -> str:
        return "somebody else's"

    async with served(app, settings, "PORT") as web, httpx.AsyncClient(base_url=web.url, timeout=30, verify=False) as http:
        yield Visitor(http), dashboard, app


async def test_every_link_leads_to_where_it_is_mounted(settings: Settings, acts: list[tuple[str, str]]) -> None:
    async with another(settings) as (visitor, _, _):
        assert (await visitor.open("/")).json() == "somebody else's"
        assert (await visitor.open(f"{PATH}/desk")).status_code == 401
        visitor.headers["x-employee"] = "ana"
        page = await visitor.open(f"{PATH}/desk")
        assert page.status_code == 200
        links = re.findall(r'(?:href|src|action)="([^"#][^"]*)"', page.text)
        assert len(links) > 5
        assert [link for link in links if not link.startswith(f"{PATH}/")] == []
        assert f'href="{PATH}/desk" aria-current="page"' in page.text
        for link in links:
            if "/static/" in link:
                kept = await visitor.open(link)
                assert kept.status_code == 200
                assert "immutable" in kept.headers["cache-control"]
        acted = await visitor.send(f"{PATH}/desk", what="good")
        assert (acted.status_code, acted.headers["location"]) == (303, f"{PATH}/desk?again=1")
        assert "Did good." in (await visitor.open(f"{PATH}/desk")).text
        # Its headers are its own.
        assert "content-security-policy" not in (await visitor.open("/")).headers
    assert acts == [("ana", "good")]


async def test_it_answers_at_its_path_with_and_without_a_slash(settings: Settings) -> None:
    async with another(settings) as (visitor, _, _):
        visitor.headers["x-employee"] = "ana"
        assert (await visitor.open(f"{PATH}/")).status_code == 200
        bare = await visitor.http.get(PATH, headers=visitor.headers, follow_redirects=True)
        assert bare.status_code == 200


async def test_the_users_of_the_settings_sign_in_there(settings: Settings) -> None:
    async with another(settings, own_users=True) as (visitor, _, _):
        page = await visitor.open(f"{PATH}/desk")
        assert (page.status_code, page.headers["location"]) == (303, f"{PATH}/login?next=/desk")
        await visitor.open(f"{PATH}/login")
        answer = await visitor.send(f"{PATH}/login", name="ana", password=PASSWORDS["ana"], next="/desk")
        assert answer.headers["location"] == f"{PATH}/desk"
        assert "Desk of ana" in (await visitor.open(f"{PATH}/desk")).text


async def test_it_ends_with_the_application(settings: Settings) -> None:
    async with (
        another(settings) as (visitor, dashboard, _),
        following(visitor.http, "jobs", PATH, **{"x-employee": "ana"}) as reader,
    ):
        await reader.until("state")
    assert dashboard.streams.ended.is_set()
    assert dashboard.streams.open == 0


def test_two_pages_cannot_have_one_path(settings: Settings) -> None:
    client = Client.from_settings(settings)
    dashboard = mount_dashboard(FastAPI(), PATH, client, settings)
    for path in ("/jobs", "desk", "/desk/"):
        with pytest.raises(ValueError, match="path"):
            dashboard.add_page("Desk", desk.router, path=path)


@pytest.mark.process
def test_under_plain_uvicorn_five_open_pages_do_not_hold_the_exit_up(
    database_url: str, redis_url: str, tmp_path: Path
) -> None:
    environment = bare_environment() | {
        "PYTHONPATH": str(ROOT),
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url,
        "STEWARD": "false",
    }
    log = tmp_path / "uvicorn.log"
    with open(log, "wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "uvicorn", "tests.dashboard.elsewhere:app", "--port", "0"],
            cwd=ROOT,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
        )

    async def five_pages() -> None:
        found = await eventually(lambda: re.search(r"running on (http://\S+)", log.read_text()), within=40)
        assert found is not None
        async with httpx.AsyncClient(base_url=found[1], timeout=30, verify=False) as http, AsyncExitStack() as stack:
            for _ in range(5):
                reader = await stack.enter_async_context(following(http, "overview", PATH))
                await reader.until("state")
            process.send_signal(signal.SIGTERM)
            await asyncio.to_thread(process.wait, 15)

    try:
        asyncio.run(five_pages())
        assert process.returncode in (0, -signal.SIGTERM), log.read_text()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
