"""A team's own FastAPI application: a few lines give it the job API, health, and jobs in its own transaction."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
from fastapi import FastAPI
from sqlalchemy import text

from carafe import Client
from carafe.settings.settings import Settings
from carafe.web import ClientOf, Operator, carafe_lifespan, mount_jobs_api, transaction
from tests.web.conftest import served
from tests.web.kinds_for_tests import Resize


def own_application(settings: Settings, events: list[str]) -> FastAPI:
    @asynccontextmanager
    async def own(app: FastAPI) -> AsyncIterator[dict[str, str]]:
        events.append("started")
        yield {"kept": "state"}
        events.append("stopped")

    client = Client.from_settings(settings)
    app = FastAPI(lifespan=carafe_lifespan(client, settings, inner=own))
    mount_jobs_api(app, client, settings, prefix="/background")

    @app.post("/pictures", status_code=202)
    async def upload(caller: Operator, client: ClientOf) -> str:
        async with transaction(client) as session:
            await session.execute(text("create table if not exists pictures (name text)"))
            await session.execute(text("insert into pictures values ('a')"))
            return str((await client.enqueue(Resize(width=7), session=session)).id)

    return app


async def test_it_enqueues_and_follows_its_jobs(settings: Settings) -> None:
    events: list[str] = []
    with_upkeep = settings.model_copy(update={"steward": True})
    async with served(own_application(with_upkeep, events), with_upkeep) as http:
        assert (await http.get("/health")).status_code == 200
        job = (await http.post("/pictures")).json()
        found = await http.get(f"/background/jobs/{job}")
        assert found.json()["args"]["width"] == 7
        assert (await http.get("/nothing")).headers["Content-Type"] == "application/problem+json"
        await document_is_whole(http)
    assert events == ["started", "stopped"]


async def document_is_whole(http: httpx.AsyncClient) -> None:
    document = (await http.get("/openapi.json")).text
    assert "/background/jobs/bulk" in document
    assert "BulkRequest" in document
    assert "BriefingRequest" not in document
