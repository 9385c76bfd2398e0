"""Pausing and resuming a queue, and a kind, over HTTP."""

from collections.abc import AsyncIterator

import httpx
import pytest

from tests.web.conftest import OPERATE, TOKENS, VIEW, Serve, bearer

QUEUE = "/api/v1/queues/default"


@pytest.fixture(scope="module")
async def guarded(serve: Serve) -> AsyncIterator[httpx.AsyncClient]:
    """The application with tokens."""
    async with serve(api_tokens=TOKENS) as http:
        yield http


async def test_a_queue_is_paused_and_resumed(guarded: httpx.AsyncClient) -> None:
    headers = bearer(OPERATE)
    paused = await guarded.post(f"{QUEUE}/pause", params={"reason": "the webhook is down"}, headers=headers)
    assert paused.status_code == 200
    assert paused.json()["paused_at"] is not None
    assert (paused.json()["paused_by"], paused.json()["paused_reason"]) == ("ops", "the webhook is down")
    accepted = await guarded.post("/api/v1/jobs", json={"kind": "web.resize", "args": {"width": 1}}, headers=headers)
    assert (accepted.status_code, accepted.json()["state"]) == (202, "queued")
    assert "paused" in (await guarded.get(accepted.headers["Location"], headers=headers)).json()["note"]
    [listed] = (await guarded.get("/api/v1/queues", headers=bearer(VIEW))).json()["queues"]
    assert listed["paused_by"] == "ops"
    resumed = await guarded.post(f"{QUEUE}/resume", headers=headers)
    assert (resumed.status_code, resumed.json()["paused_at"]) == (200, None)


@pytest.mark.parametrize("action", ["pause", "resume"])
async def test_it_needs_the_role_operate_and_a_queue_that_is_there(guarded: httpx.AsyncClient, action: str) -> None:
    assert (await guarded.post(f"{QUEUE}/{action}")).status_code == 401
    assert (await guarded.post(f"{QUEUE}/{action}", headers=bearer(VIEW))).status_code == 403
    missing = await guarded.post(f"/api/v1/queues/other/{action}", headers=bearer(OPERATE))
    assert (missing.status_code, missing.json()["type"]) == (404, "/problems/queue-not-found")
    strange = await guarded.post("/api/v1/queues/%00/pause", headers=bearer(OPERATE))
    assert strange.status_code == 422


KIND = "/api/v1/kinds/web.resize"


async def test_a_kind_is_paused_and_resumed(guarded: httpx.AsyncClient) -> None:
    headers = bearer(OPERATE)
    paused = await guarded.post(f"{KIND}/pause", params={"reason": "the webhook is down"}, headers=headers)
    assert paused.status_code == 200
    assert paused.json()["paused_at"] is not None
    assert (paused.json()["paused_by"], paused.json()["paused_reason"]) == ("ops", "the webhook is down")
    accepted = await guarded.post("/api/v1/jobs", json={"kind": "web.resize", "args": {"width": 1}}, headers=headers)
    assert (accepted.status_code, accepted.json()["state"]) == (202, "queued")
    note = (await guarded.get(accepted.headers["Location"], headers=headers)).json()["note"]
    assert note.startswith("The kind 'web.resize' is paused since ")
    [listed] = (await guarded.get("/api/v1/paused-kinds", headers=bearer(VIEW))).json()["kinds"]
    assert (listed["kind"], listed["paused_by"]) == ("web.resize", "ops")
    resumed = await guarded.post(f"{KIND}/resume", headers=headers)
    assert (resumed.status_code, resumed.json()["paused_at"]) == (200, None)
    assert (await guarded.get("/api/v1/paused-kinds", headers=bearer(VIEW))).json() == {"kinds": []}


@pytest.mark.parametrize("action", ["pause", "resume"])
async def test_pausing_a_kind_needs_the_role_operate(guarded: httpx.AsyncClient, action: str) -> None:
    assert (await guarded.post(f"{KIND}/{action}")).status_code == 401
    assert (await guarded.post(f"{KIND}/{action}", headers=bearer(VIEW))).status_code == 403
    assert (await guarded.post(f"/api/v1/kinds/a%20b/{action}", headers=bearer(OPERATE))).status_code == 422


@pytest.mark.parametrize(
    ("query", "field"),
    [("reason=%FF%C0", "query"), ("reason=a%0Ab", "query.reason"), ("reason=%1B%5B31m", "query.reason")],
)
async def test_a_reason_is_one_line_of_text(guarded: httpx.AsyncClient, query: str, field: str) -> None:
    for path in (KIND, QUEUE):
        address = httpx.URL(guarded.base_url).copy_with(raw_path=f"{path}/pause?{query}".encode())
        refused = await guarded.post(address, headers=bearer(OPERATE))
        assert refused.status_code == 422
        assert field in [fault["path"] for fault in refused.json()["faults"]]


@pytest.mark.parametrize("action", ["pause", "resume"])
async def test_a_kind_that_nobody_knows_is_neither_paused_nor_resumed(guarded: httpx.AsyncClient, action: str) -> None:
    missing = await guarded.post(f"/api/v1/kinds/no.such/{action}", headers=bearer(OPERATE))
    assert (missing.status_code, missing.json()["type"]) == (404, "/problems/kind-not-found")
