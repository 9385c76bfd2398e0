"""What every answer carries, and the page at /docs that loads nothing from elsewhere."""

import re
from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI

from app.main import create_app
from briefings.settings import BriefingSettings
from carafe import Client
from carafe.web.application import carafe_lifespan, mount_jobs_api
from tests.web.conftest import Serve, bearer, served

JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
async def broken(settings: BriefingSettings) -> AsyncIterator[httpx.AsyncClient]:
    """The application, with a route that fails."""
    app: FastAPI = create_app(settings)

    @app.get("/broken")
    async def fails() -> None:
        raise RuntimeError("broken")

    async with served(app, settings) as http:
        yield http


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/api/v1/jobs", 200),
        ("GET", "/api/v1/queues", 200),
        ("GET", "/health", 200),
        ("GET", "/livez", 200),
        ("GET", "/openapi.json", 200),
        ("GET", "/api/v1/nothing", 404),
        ("GET", "/nothing", 404),
        ("DELETE", "/health", 405),
        ("POST", "/api/v1/jobs", 415),
        ("GET", "/api/v1/jobs?limit=x", 422),
        ("GET", "/broken", 500),
    ],
)
async def test_every_answer_says_that_it_is_data_and_not_to_be_kept(
    broken: httpx.AsyncClient, method: str, path: str, status: int
) -> None:
    answer = await broken.request(method, path)
    assert answer.status_code == status
    assert answer.headers.get_list("x-content-type-options") == ["nosniff"]
    assert answer.headers.get_list("cache-control") == ["no-store"]
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]


async def test_refusals_say_it_too(serve: Serve) -> None:
    async with serve(api_tokens="a:view:" + "0" * 64) as http:
        answers = [
            await http.get("/api/v1/jobs"),
            await http.get("/api/v1/jobs", headers=bearer("wrong")),
            await http.post("/api/v1/jobs", content=b"x" * 100_000, headers=JSON),
        ]
        for answer in answers:
            assert answer.status_code == 401
            assert (answer.headers["x-content-type-options"], answer.headers["cache-control"]) == ("nosniff", "no-store")


async def test_an_application_s_own_routes_are_left_alone(settings: BriefingSettings) -> None:
    client = Client.from_settings(settings)
    app = FastAPI(lifespan=carafe_lifespan(client, settings))
    mount_jobs_api(app, client, settings)

    @app.get("/own")
    async def own() -> str:
        return "own"

    async with served(app, settings) as http:
        assert "cache-control" not in (await http.get("/own")).headers
        assert (await http.get("/api/v1/jobs")).headers["cache-control"] == "no-store"


async def test_the_page_at_docs_loads_its_scripts_from_here(http: httpx.AsyncClient) -> None:
    page = await http.get("/docs")
    assert page.status_code == 200
    loaded = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert len(loaded) == 5
    assert not [link for link in loaded if "//" in link]
    assert not re.search(r"<script>|<style|onload=", page.text)
    policy = page.headers["content-security-policy"]
    assert "script-src 'self';" in policy
    assert "unsafe" not in policy
    for link in loaded:
        if not link.startswith("data:"):
            assert (await http.get(f"/{link}")).status_code == 200, link
    assert (await http.get("/docs/swagger-ui-bundle.js")).headers["content-type"].startswith("text/javascript")
    assert (await http.get("/redoc")).status_code == 404
