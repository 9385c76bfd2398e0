"""Behind a proxy that removes a prefix from each path: every link, form, redirect, cookie and stream has that prefix."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from html import unescape

import httpx
import pytest
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from carafe import Client
from carafe.dashboard.standalone import dashboard_alone
from carafe.settings.settings import Settings, SettingsError, load_settings
from tests.dashboard.conftest import PASSWORDS, served
from tests.dashboard.ended import dead, every
from tests.dashboard.streaming import following
from tests.dashboard.visiting import Visitor

PATH = "/ops/carafe-jobs"
LINK = re.compile(r'(href|src|action)="([^"#][^"]*)"')


def stripping(target: httpx.AsyncClient) -> Starlette:
    """A proxy that serves `target` under `PATH`, and nothing beside it."""

    async def forward(request: Request) -> Response:
        if not request.url.path.startswith(f"{PATH}/"):
            return PlainTextResponse("not mine", 404)
        path = request.url.path.removeprefix(PATH) + (f"?{request.url.query}" if request.url.query else "")
        passed = target.build_request(request.method, path, headers=request.headers.raw, content=await request.body())
        answer = await target.send(passed, stream=True)
        forwarded = StreamingResponse(answer.aiter_raw(), answer.status_code, background=BackgroundTask(answer.aclose))
        forwarded.raw_headers = [pair for pair in answer.headers.raw if pair[0].lower() != b"transfer-encoding"]
        return forwarded

    return Starlette(routes=[Route("/{path:path}", forward, methods=["GET", "POST"])])


@asynccontextmanager
async def proxied(settings: Settings, **changes: object) -> AsyncIterator[Visitor]:
    """A visitor of a dashboard that runs alone behind such a proxy."""
    values = {name: getattr(settings, name) for name in Settings.model_fields}
    changed = Settings.model_validate(values | {"dashboard_root_path": PATH} | changes)
    async with (
        served(dashboard_alone(None, changed), changed) as web,
        httpx.AsyncClient(base_url=web.url, timeout=30, verify=False) as target,
        served(stripping(target), changed) as proxy,  # type: ignore[arg-type]
        httpx.AsyncClient(base_url=proxy.url, timeout=30, verify=False) as http,
    ):
        yield Visitor(http)


async def test_all_links_lead_to_where_the_proxy_has_it(settings: Settings, client: Client, database: object) -> None:
    await dead(client, database, every())  # type: ignore[arg-type]
    async with proxied(settings) as visitor:
        start = await visitor.open(f"{PATH}/")
        assert (start.status_code, start.headers["location"]) == (303, f"{PATH}/login")
        await visitor.open(f"{PATH}/login?next=/jobs")
        signed_in = await visitor.send(f"{PATH}/login", name="ana", password=PASSWORDS["ana"], next="/jobs")
        assert signed_in.headers["location"] == f"{PATH}/jobs"
        assert f"Path={PATH};" in signed_in.headers["set-cookie"]

        waiting, seen = [f"{PATH}/"], {f"{PATH}/"}
        while waiting:
            link = waiting.pop()
            page = await visitor.open(link)
            assert page.status_code == 200, link
            if "text/html" not in page.headers["content-type"]:
                continue
            assert f'data-root="{PATH}"' in page.text
            for attribute, given in LINK.findall(page.text):
                found = unescape(given)
                assert found.startswith(f"{PATH}/"), (link, found)
                if found not in seen and attribute != "action" and len(seen) < 120:
                    seen.add(found)
                    waiting.append(found)
        assert len(seen) > 30
        assert any("/static/" in link for link in seen)
        assert any("/edit" in link for link in seen)


async def test_forms_and_streams_work_there(settings: Settings, client: Client) -> None:
    job = (await client.enqueue(every(), delay=3_600)).id
    async with proxied(settings) as visitor:
        await visitor.open(f"{PATH}/login")
        await visitor.send(f"{PATH}/login", name="ana", password=PASSWORDS["ana"])
        await visitor.open(f"{PATH}/jobs/{job}")
        cancelled = await visitor.send(f"{PATH}/jobs/{job}/cancel", reason="not now")
        assert (cancelled.status_code, cancelled.headers["location"]) == (303, f"{PATH}/jobs/{job}")
        page = await visitor.open(f"{PATH}/jobs/{job}")
        assert "Cancelled." in page.text
        assert "Cancelled." not in (await visitor.open(f"{PATH}/jobs/{job}")).text  # its cookie was taken back
        visitor.origin = "https://elsewhere.example"
        assert (await visitor.send(f"{PATH}/logout")).status_code == 403
        async with following(visitor.http, f"job:{job}", PATH) as reader:
            await reader.until("changed", f"job:{job}")


async def test_over_https_its_cookies_keep_to_its_path(settings: Settings) -> None:
    async with proxied(settings, dashboard_proxy_networks="127.0.0.0/8") as visitor:
        page = await visitor.open(f"{PATH}/login", **{"x-forwarded-proto": "https"})
        assert page.headers["set-cookie"].startswith("__Secure-carafe_dashboard=")
        assert f"Path={PATH};" in page.headers["set-cookie"]
        assert "Secure" in page.headers["set-cookie"].split("; ")


@pytest.mark.parametrize("path", ["ops", "/ops//jobs", "/ops/../jobs", "/o ps", "https://example.org/ops", "/ops?x", "//x"])
def test_a_path_that_is_none_is_refused(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DASHBOARD_ROOT_PATH", path)
    with pytest.raises(SettingsError, match="DASHBOARD_ROOT_PATH: must be a path such as /ops/jobs"):
        load_settings()
