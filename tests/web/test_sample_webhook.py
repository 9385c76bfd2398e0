"""The sample webhook works, fails or stalls as requested, and exists only in development."""

import asyncio

import httpx
import pytest

from briefings.webhook import SECRET_HEADER
from tests.web.conftest import OPERATE, TOKENS, VIEW, Serve, bearer

WEBHOOK = "/sample-webhook"
SWITCH = "/sample-webhook/behaviour"
QUESTION = {"briefing_id": "01980a2e-7c11-7000-8000-000000000001", "topic": "Coffee prices"}


async def test_it_writes_about_the_topic(http: httpx.AsyncClient) -> None:
    await http.put(SWITCH, json={"mode": "ok", "delay": 0})
    answer = await http.post(WEBHOOK, json=QUESTION)
    assert answer.status_code == 200
    assert "Coffee prices" in answer.json()["content"]


async def test_it_fails_when_told(http: httpx.AsyncClient) -> None:
    told = await http.put(SWITCH, json={"mode": "fail", "delay": 0})
    assert told.json() == (await http.get(SWITCH)).json() == {"mode": "fail", "delay": 0}
    answer = await http.post(WEBHOOK, json=QUESTION)
    assert answer.status_code == 500
    assert answer.json()["detail"] == "the sample webhook was told to fail"


async def test_it_stalls_when_told_and_lets_go_of_a_caller_that_left(serve: Serve) -> None:
    # Leaving the block ends the process's server: it would wait for a request that stalls on.
    async with serve(drain_timeout=600) as http:
        await http.put(SWITCH, json={"mode": "stall", "delay": 600})
        stalled = asyncio.create_task(http.post(WEBHOOK, json=QUESTION))
        assert (await http.get(SWITCH)).json()["mode"] == "stall"
        stalled.cancel()
        with pytest.raises(asyncio.CancelledError):
            await stalled


@pytest.mark.parametrize("body", [{"mode": "sulk"}, {"mode": "ok", "delay": -1}, {"mode": "ok", "delay": 1e9}, {}])
async def test_it_refuses_what_it_cannot_do(http: httpx.AsyncClient, body: dict[str, object]) -> None:
    assert (await http.put(SWITCH, json=body)).status_code == 422


async def test_it_wants_the_secret_where_there_is_one(serve: Serve) -> None:
    async with serve(briefing_webhook_secret="hunter2", api_tokens=TOKENS) as http:
        assert (await http.put(SWITCH, json={"mode": "ok", "delay": 0})).status_code == 401
        assert (await http.put(SWITCH, json={"mode": "ok"}, headers=bearer(VIEW))).status_code == 403
        await http.put(SWITCH, json={"mode": "ok", "delay": 0}, headers=bearer(OPERATE))
        assert (await http.post(WEBHOOK, json=QUESTION)).status_code == 401
        assert (await http.post(WEBHOOK, json=QUESTION, headers={SECRET_HEADER: "hunter3"})).status_code == 401
        assert (await http.post(WEBHOOK, json=QUESTION, headers={SECRET_HEADER: "hunter2"})).status_code == 200


async def test_a_webhook_of_ones_own_takes_its_place(serve: Serve) -> None:
    async with serve(briefing_webhook_url="https://example.org/webhook") as http:
        assert (await http.post(WEBHOOK, json=QUESTION)).status_code == 404


async def test_production_has_none(serve: Serve) -> None:
    async with serve(environment="production", host="127.0.0.1", api_tokens=TOKENS) as http:
        assert (await http.post(WEBHOOK, json=QUESTION)).status_code == 404
