"""Briefings: the row and its job are one transaction, and the status follows the job in the transaction that moves it."""

from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from sqlalchemy import delete

from briefings.jobs import GenerateBriefing
from briefings.model import Briefing
from carafe import Client
from carafe.settings.settings import Settings
from carafe.store.database import Database
from carafe.web.transactions import transaction
from tests.web.rows import claim, count, fail, succeed

BRIEFINGS = "/api/v1/briefings"
KIND = "briefing.generate"
RESULT = '{"content": "Coffee is up."}'


async def ask(http: httpx.AsyncClient, topic: str = "Coffee prices") -> dict[str, Any]:
    accepted = await http.post(BRIEFINGS, json={"topic": topic})
    assert accepted.status_code == 202
    briefing: dict[str, Any] = accepted.json()
    return briefing


async def look(http: httpx.AsyncClient, briefing: dict[str, Any]) -> tuple[str, str | None, str | None]:
    found = (await http.get(f"{BRIEFINGS}/{briefing['id']}")).json()
    return found["status"], found["content"], found["error"]


async def test_a_briefing_and_its_job_are_made_together(http: httpx.AsyncClient) -> None:
    accepted = await http.post(BRIEFINGS, json={"topic": "  Coffee prices "})
    assert accepted.status_code == 202
    assert accepted.json()["status"] == "pending"
    briefing = (await http.get(accepted.headers["Location"])).json()
    assert (briefing["id"], briefing["topic"]) == (accepted.json()["id"], "Coffee prices")
    job = (await http.get(f"/api/v1/jobs/{briefing['job_id']}")).json()
    assert (job["kind"], job["args"], job["state"]) == (KIND, {"briefing_id": briefing["id"]}, "queued")


async def test_a_rollback_leaves_neither(settings: Settings, database: Database) -> None:
    before = await count(database, "briefings"), await count(database, "carafe.jobs")

    async def fails(client: Client) -> None:
        async with transaction(client) as session:
            session.add(briefing := Briefing(topic="Tea"))
            await session.flush()
            await client.enqueue(GenerateBriefing(briefing_id=briefing.id), session=session)
            raise LookupError

    async with Client.from_settings(settings) as client:
        with pytest.raises(LookupError):
            await fails(client)
    assert (await count(database, "briefings"), await count(database, "carafe.jobs")) == before


async def test_the_status_follows_the_job_to_its_content(http: httpx.AsyncClient, database: Database) -> None:
    briefing = await ask(http)
    row = await claim(database, briefing["job_id"], KIND)
    assert await look(http, briefing) == ("processing", None, None)
    await succeed(database, row, RESULT)
    assert await look(http, briefing) == ("completed", "Coffee is up.", None)
    assert (await http.get(f"{BRIEFINGS}/{briefing['id']}")).json()["completed_at"] is not None


async def test_a_failed_attempt_makes_it_wait_again(http: httpx.AsyncClient, database: Database) -> None:
    briefing = await ask(http)
    await fail(database, await claim(database, briefing["job_id"], KIND), "webhook answered 500", final=False)
    assert await look(http, briefing) == ("pending", None, None)


async def test_it_fails_with_the_job_s_error_and_a_retry_clears_it(http: httpx.AsyncClient, database: Database) -> None:
    briefing = await ask(http)
    await fail(database, await claim(database, briefing["job_id"], KIND), "webhook answered 500: sorry", final=True)
    assert await look(http, briefing) == ("failed", None, "webhook answered 500: sorry")
    await http.post(f"/api/v1/jobs/{briefing['job_id']}/retry")
    assert await look(http, briefing) == ("pending", None, None)
    await succeed(database, await claim(database, briefing["job_id"], KIND), RESULT)
    assert await look(http, briefing) == ("completed", "Coffee is up.", None)


async def test_a_cancelled_job_fails_it(http: httpx.AsyncClient) -> None:
    briefing = await ask(http)
    await http.post(f"/api/v1/jobs/{briefing['job_id']}/cancel")
    assert await look(http, briefing) == ("failed", None, "cancelled")


async def test_a_job_that_is_not_its_own_leaves_it_alone(http: httpx.AsyncClient, database: Database) -> None:
    briefing = await ask(http)
    other = {"kind": KIND, "args": {"briefing_id": briefing["id"]}}
    job = (await http.post("/api/v1/jobs", json=other)).json()["id"]
    await fail(database, await claim(database, job, KIND), "not yours", final=True)
    assert await look(http, briefing) == ("pending", None, None)


async def test_a_deleted_briefing_does_not_hold_up_its_job(http: httpx.AsyncClient, database: Database) -> None:
    briefing = await ask(http)
    async with database.sessions()() as session, session.begin():
        await session.execute(delete(Briefing).where(Briefing.id == UUID(briefing["id"])))
    assert (await http.get(f"{BRIEFINGS}/{briefing['id']}")).status_code == 404
    cancelled = await http.post(f"/api/v1/jobs/{briefing['job_id']}/cancel")
    assert cancelled.json()["state"] == "cancelled"


async def test_a_repeated_request_is_one_briefing(http: httpx.AsyncClient, database: Database) -> None:
    key = {"Idempotency-Key": str(uuid4())}
    first = await http.post(BRIEFINGS, json={"topic": "Coffee"}, headers=key)
    before = await count(database, "briefings"), await count(database, "carafe.jobs")
    again = await http.post(BRIEFINGS, json={"topic": "Coffee"}, headers=key)
    assert (again.status_code, again.json()) == (202, first.json())
    assert again.headers["Location"] == first.headers["Location"]
    assert again.headers["Idempotency-Replayed"] == "true"
    other = await http.post(BRIEFINGS, json={"topic": "Tea"}, headers=key)
    assert (other.status_code, other.json()["type"]) == (409, "/problems/idempotency-conflict")
    assert (await count(database, "briefings"), await count(database, "carafe.jobs")) == before


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"topic": ""},
        {"topic": "   "},
        {"topic": "x" * 501},
        {"topic": "two\nlines"},
        {"topic": "a\0b"},
        {"topic": 7},
        {"topic": "Coffee", "status": "completed"},
    ],
)
async def test_a_topic_that_cannot_be_one(http: httpx.AsyncClient, database: Database, body: dict[str, Any]) -> None:
    before = await count(database, "briefings"), await count(database, "carafe.jobs")
    refused = await http.post(BRIEFINGS, json=body)
    assert (refused.status_code, refused.json()["type"]) == (422, "/problems/invalid-request")
    assert (await count(database, "briefings"), await count(database, "carafe.jobs")) == before


async def test_listing_walks_from_the_newest_to_the_oldest(http: httpx.AsyncClient, database: Database) -> None:
    made = [(await ask(http, f"Topic {number}"))["id"] for number in range(5)]
    found: list[str] = []
    query: dict[str, Any] = {"limit": 2}
    while True:
        page = (await http.get(BRIEFINGS, params=query)).json()
        found += [briefing["id"] for briefing in page["briefings"]]
        if page["next_cursor"] is None:
            break
        query["cursor"] = page["next_cursor"]
    assert found[:5] == made[::-1]
    assert len(found) == len(set(found)) == await count(database, "briefings")


async def test_a_briefing_that_is_not_there_is_not_found(http: httpx.AsyncClient) -> None:
    missing = await http.get(f"{BRIEFINGS}/{uuid4()}")
    assert (missing.status_code, missing.json()["type"]) == (404, "/problems/briefing-not-found")
