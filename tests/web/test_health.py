"""``/health`` says which server is down; accepting goes on without Redis."""

import asyncio

import httpx
import pytest

from carafe.store.database import Database
from carafe.web import health
from carafe.web.health import Health, HealthCheck
from tests.waiting import eventually
from tests.web.conftest import Serve
from tests.web.rows import count
from tests.web.test_problems import closed_port


async def test_all_is_well(http: httpx.AsyncClient) -> None:
    answer = await http.get("/health")
    assert answer.status_code == 200
    assert answer.json() == {"status": "ok", "checks": {"postgres": {"status": "ok"}, "redis": {"status": "ok"}}}


async def test_without_redis_it_is_degraded_and_accepts(serve: Serve, database: Database) -> None:
    before = await count(database, "carafe.jobs")
    async with serve(redis_url=f"redis://:hunter2@127.0.0.1:{closed_port()}/0") as http:
        health = await http.get("/health")
        assert (health.status_code, health.json()["status"]) == (200, "degraded")
        assert health.json()["checks"]["redis"] == {"status": "down", "reason": "cannot be reached"}
        for path, body in (
            ("/api/v1/jobs", {"kind": "web.resize", "args": {"width": 1}}),
            ("/api/v1/jobs/bulk", {"jobs": [{"kind": "web.resize", "args": {"width": 1}}]}),
            ("/api/v1/briefings", {"topic": "Coffee"}),
        ):
            assert (await http.post(path, json=body)).status_code == 202
    assert await count(database, "carafe.jobs") == before + 3


async def test_without_postgres_it_is_down(serve: Serve) -> None:
    port = closed_port()
    async with serve(database_url=f"postgresql://user:hunter2@127.0.0.1:{port}/x") as http:
        health = await http.get("/health")
        assert (health.status_code, health.json()["status"]) == (503, "down")
        assert health.json()["checks"]["postgres"]["status"] == "down"
        assert "hunter2" not in health.text
        alive = await http.get("/livez")
        assert (alive.status_code, alive.text) == (200, "ok\n")
        assert str(port) not in health.text


async def test_a_flood_is_one_check(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    checks = 0
    answer = asyncio.Event()
    ask = HealthCheck._ask_both

    async def counted(self: HealthCheck) -> Health:
        nonlocal checks
        checks += 1
        await answer.wait()
        return await ask(self)

    monkeypatch.setattr(HealthCheck, "_ask_both", counted)
    monkeypatch.setattr(health, "KEPT", 60)
    async with serve() as http:
        asked = [asyncio.create_task(http.get("/health")) for _ in range(20)]
        await eventually(lambda: checks == 1)
        asked.pop().cancel()  # who goes away takes nothing from the others
        await http.get("/livez")
        answer.set()
        assert {found.status_code for found in await asyncio.gather(*asked)} == {200}
        assert (await http.get("/health")).status_code == 200
        assert checks == 1
        monkeypatch.setattr(health, "KEPT", 0)
    async with serve() as http:
        assert (await http.get("/health")).status_code == 200
        assert (await http.get("/health")).status_code == 200
        assert checks == 3


@pytest.mark.parametrize("method", ["POST", "PUT"])
async def test_it_is_only_read(http: httpx.AsyncClient, method: str) -> None:
    assert (await http.request(method, "/health")).status_code == 405
