"""The job API: accept, follow, list, cancel, retry, and what it says of kinds and queues."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest
import redis

from carafe.jobs.queue_name import QUEUE
from carafe.store.database import Database
from carafe.store.filter_words import WORDS
from tests.web.conftest import Serve
from tests.web.rows import claim, count, fail, succeed

JOBS = "/api/v1/jobs"


def resize(width: int = 100, **options: Any) -> dict[str, Any]:
    return {"kind": "web.resize", "args": {"width": width}, **options}


async def dead_job(http: httpx.AsyncClient, database: Database, **options: Any) -> str:
    job: str = (await http.post(JOBS, json=resize(**options))).json()["id"]
    await fail(database, await claim(database, job, "web.resize"), "no such picture", final=True)
    return job


async def test_an_accepted_job_can_be_followed_at_its_location(http: httpx.AsyncClient, redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as queue:
        before = queue.llen(QUEUE)
        accepted = await http.post(JOBS, json=resize(320))
        assert accepted.status_code == 202
        assert accepted.json()["state"] == "queued"
        assert queue.llen(QUEUE) == before + 1
    job = (await http.get(accepted.headers["Location"])).json()
    assert job["id"] == accepted.json()["id"]
    assert job["args"] == {"width": 320, "name": "", "factor": 1.0}
    assert (job["attempt"], job["max_attempts"], job["timeout"]) == (0, 2, 60)
    assert job["note"] == "No workers are alive: start one with `carafe serve --worker`."
    assert job["attempts"] == []


async def test_secret_arguments_are_redacted(http: httpx.AsyncClient) -> None:
    accepted = await http.post(JOBS, json={"kind": "web.login", "args": {"user": "ada", "password": "hunter2"}})
    found = await http.get(accepted.headers["Location"])
    assert found.json()["args"]["user"] == "ada"
    assert "hunter2" not in found.text


@pytest.mark.parametrize("when", ["delay", "run_at"])
async def test_a_job_for_later_is_scheduled(http: httpx.AsyncClient, when: str) -> None:
    later = datetime.now(UTC) + timedelta(hours=2)
    option: dict[str, Any] = {when: 7200 if when == "delay" else later.isoformat()}
    accepted = await http.post(JOBS, json=resize(**option))
    assert (accepted.status_code, accepted.json()["state"]) == (202, "scheduled")
    due = datetime.fromisoformat((await http.get(accepted.headers["Location"])).json()["due_at"])
    assert abs(due - later) < timedelta(minutes=1)


async def test_at_most_one_live_job_holds_a_unique_key(http: httpx.AsyncClient) -> None:
    first = await http.post(JOBS, json=resize(unique_key="only"))
    second = await http.post(JOBS, json=resize(200, unique_key="only"))
    assert (first.status_code, first.json()["existing"]) == (202, False)
    assert (second.status_code, second.json()["existing"]) == (200, True)
    assert second.json()["id"] == first.json()["id"]
    assert second.headers["Location"] == first.headers["Location"]


async def test_a_repeated_request_is_one_job(http: httpx.AsyncClient, database: Database) -> None:
    key = {"Idempotency-Key": str(uuid4())}
    first = await http.post(JOBS, json=resize(), headers=key)
    stored = await count(database, "carafe.jobs")
    again = await http.post(JOBS, json=resize(), headers=key)
    assert (again.status_code, again.json()) == (first.status_code, first.json())
    assert "Idempotency-Replayed" not in first.headers
    assert again.headers["Idempotency-Replayed"] == "true"
    other = await http.post(JOBS, json=resize(101), headers=key)
    assert (other.status_code, other.json()["type"]) == (409, "/problems/idempotency-conflict")
    assert await count(database, "carafe.jobs") == stored


async def test_a_bulk_is_accepted_in_its_order(http: httpx.AsyncClient, redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as queue:
        before = queue.llen(QUEUE)
        bulk = {"jobs": [resize(1 + index % 10_000) for index in range(10_000)]}
        accepted = await http.post(f"{JOBS}/bulk", json=bulk)
        assert accepted.status_code == 202
        assert queue.llen(QUEUE) == before + 10_000
    jobs = accepted.json()["jobs"]
    assert len({job["id"] for job in jobs}) == 10_000
    last = (await http.get(f"{JOBS}/{jobs[-1]['id']}")).json()
    assert last["args"]["width"] == 10_000


async def test_a_repeated_bulk_is_one_bulk(http: httpx.AsyncClient, database: Database) -> None:
    key = {"Idempotency-Key": str(uuid4())}
    bulk = {"jobs": [resize(1), resize(2, delay=60)]}
    first = await http.post(f"{JOBS}/bulk", json=bulk, headers=key)
    stored = await count(database, "carafe.jobs")
    again = await http.post(f"{JOBS}/bulk", json=bulk, headers=key)
    assert again.json() == first.json()
    assert again.headers["Idempotency-Replayed"] == "true"
    assert await count(database, "carafe.jobs") == stored


async def test_a_bulk_with_faults_stores_nothing_and_lists_them_all(http: httpx.AsyncClient, database: Database) -> None:
    stored = await count(database, "carafe.jobs")
    jobs = [resize() for _ in range(6)]
    jobs[1] = {"kind": "web.nothing"}
    jobs[2] = resize(0)
    jobs[4] = resize(unique_key="line\nbreak")
    jobs[5] = {"kind": "web.resize", "args": {"width": 1, "name": "x" * 3_000}}
    refused = await http.post(f"{JOBS}/bulk", json={"jobs": jobs})
    assert (refused.status_code, refused.json()["type"]) == (422, "/problems/bulk-invalid")
    assert [(fault["index"], fault["path"], fault["type"]) for fault in refused.json()["faults"]] == [
        (1, "jobs.1", "unknown-kind"),
        (2, "jobs.2.args.width", "greater_than_equal"),
        (4, "jobs.4.unique_key", "invalid-option"),
        (5, "jobs.5", "payload-too-large"),
    ]
    assert await count(database, "carafe.jobs") == stored


async def test_a_bulk_of_another_form_says_which_entry(http: httpx.AsyncClient) -> None:
    refused = await http.post(f"{JOBS}/bulk", json={"jobs": [resize(), {"args": {}}, {**resize(), "when": 1}]})
    assert (refused.status_code, refused.json()["type"]) == (422, "/problems/invalid-request")
    assert [(fault["index"], fault["path"]) for fault in refused.json()["faults"]] == [
        (1, "jobs.1.kind"),
        (2, "jobs.2.when"),
    ]


async def test_a_bulk_lists_faults_of_form_and_of_values_in_one_answer(http: httpx.AsyncClient, database: Database) -> None:
    stored = await count(database, "carafe.jobs")
    jobs = [
        resize(0),
        {"kind": "web.nothing"},
        resize(delay=-1),
        resize(),
        resize(delay=5, run_at="2031-01-01T00:00:00Z"),
        {"args": {}, "when": 1},
        resize(unique_key="line\nbreak"),
    ]
    refused = await http.post(f"{JOBS}/bulk", json={"jobs": jobs})
    assert (refused.status_code, refused.json()["type"]) == (422, "/problems/bulk-invalid")
    assert refused.json()["detail"].startswith("6 of 7 jobs are not valid; nothing was stored: [0] ")
    assert refused.json()["fault_count"] == 6
    assert [(fault["index"], fault["path"], fault["type"]) for fault in refused.json()["faults"]] == [
        (0, "jobs.0.args.width", "greater_than_equal"),
        (1, "jobs.1", "unknown-kind"),
        (2, "jobs.2.delay", "greater_than_equal"),
        (4, "jobs.4.delay", "invalid-option"),
        (5, "jobs.5.when", "extra_forbidden"),
        (6, "jobs.6.unique_key", "invalid-option"),
    ]
    assert await count(database, "carafe.jobs") == stored


async def test_a_bulk_over_its_limit_is_refused(serve: Serve, database: Database) -> None:
    stored = await count(database, "carafe.jobs")
    async with serve(bulk_limit=3) as http:
        refused = await http.post(f"{JOBS}/bulk", json={"jobs": [resize()] * 4})
    assert refused.status_code == 422
    assert "BULK_LIMIT" in refused.json()["detail"]
    assert await count(database, "carafe.jobs") == stored


async def test_listing_walks_through_all_pages(http: httpx.AsyncClient) -> None:
    made = [(await http.post(JOBS, json={"kind": "web.anything"})).json()["id"] for _ in range(5)]
    found: list[str] = []
    query: dict[str, Any] = {"kind": "web.anything", "limit": 2}
    while True:
        page = (await http.get(JOBS, params=query)).json()
        found += [job["id"] for job in page["jobs"]]
        if page["next_cursor"] is None:
            break
        query["cursor"] = page["next_cursor"]
    assert found == made[::-1]


async def test_listing_filters_by_state_and_time(http: httpx.AsyncClient, database: Database) -> None:
    dead = await dead_job(http, database)
    row = await claim(database, (await http.post(JOBS, json=resize())).json()["id"], "web.resize")
    await succeed(database, row, '{"ok": true}')
    ended = (await http.get(JOBS, params={"state": ["dead", "succeeded"], "limit": 500})).json()["jobs"]
    assert {job["state"] for job in ended} == {"dead", "succeeded"}
    only = (await http.get(JOBS, params={"state": "dead", "limit": 1})).json()["jobs"]
    assert (only[0]["id"], only[0]["error"]) == (dead, "no such picture")
    since = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    assert (await http.get(JOBS, params={"since": since})).json()["jobs"] == []
    assert (await http.get(JOBS, params={"until": since, "limit": 1})).json()["jobs"] != []


async def test_listing_takes_every_filter_of_the_page(http: httpx.AsyncClient, database: Database) -> None:
    dead = await dead_job(http, database)
    whole = (await http.get(f"{JOBS}/{dead}")).json()
    live = (await http.post(JOBS, json=resize(777))).json()["id"]

    async def found(**query: Any) -> set[str]:
        page = (await http.get(JOBS, params={"limit": 500, **query})).json()
        return {job["id"] for job in page["jobs"]}

    for query in (
        {"error_class": whole["error_class"]},
        {"text": "SUCH PICTURE"},
        {"worker": whole["worker"]},
        {"resolved": "false", "state": "dead"},
        {"id": [dead, str(uuid4())]},
    ):
        assert dead in await found(**query), query
        assert live not in await found(**query), query
    assert live in await found(**{"args.width": "777"})
    assert dead not in await found(**{"args.width": "777"})
    assert await found(fingerprint="none") == set()
    assert dead not in await found(resolved="true")


async def test_a_live_job_has_the_error_of_its_last_failed_attempt(http: httpx.AsyncClient, database: Database) -> None:
    job = (await http.post(JOBS, json=resize())).json()["id"]
    await fail(database, await claim(database, job, "web.resize"), "no such picture", final=False)
    [listed] = (await http.get(JOBS, params={"id": job})).json()["jobs"]
    alone = (await http.get(f"{JOBS}/{job}")).json()
    assert (listed["state"], listed["error"]) == ("retrying", "no such picture")
    assert {name: alone[name] for name in listed} == listed


async def test_all_that_is_wrong_with_a_query_is_told_at_once(http: httpx.AsyncClient) -> None:
    query = {"state": "asleep", "worker": "w", "since": "2026-01-01", "kind": "", "stat": "x", "limit": "0"}
    refused = await http.get(JOBS, params=query)
    assert (refused.status_code, refused.json()["type"]) == (422, "/problems/invalid-request")
    assert {fault["path"] for fault in refused.json()["faults"]} == set(query)
    assert refused.json()["fault_count"] == len(query)


async def test_a_cursor_is_of_its_own_listing(http: httpx.AsyncClient, database: Database) -> None:
    await dead_job(http, database)
    await dead_job(http, database)
    cursor = (await http.get(JOBS, params={"state": "dead", "limit": 1})).json()["next_cursor"]
    refused = await http.get(JOBS, params={"cursor": cursor})
    assert (refused.status_code, refused.json()["faults"][0]["path"]) == (422, "cursor")


async def test_the_document_names_every_filter(http: httpx.AsyncClient) -> None:
    operation = (await http.get("/openapi.json")).json()["paths"][JOBS]["get"]
    assert [one["name"] for one in operation["parameters"]] == [*(word.name for word in WORDS), "cursor", "limit"]


@pytest.mark.parametrize(
    "query",
    [
        {"stat": "dead"},
        {"state": "asleep"},
        {"limit": "0"},
        {"limit": "501"},
        {"kind": "a\0b"},
        {"cursor": "no cursor"},
        {"cursor": "fDAxOTgwYTJl", "state": "dead"},
        {"cursor": "OTk5OS0xMi0zMVQyMzo1OTo1OS0xNDowMHwwMTk4MGEyZS03YzExLTcwMDAtODAwMC0wMDAwMDAwMDAwMDE", "state": "dead"},
        {"since": "2026-01-01T00:00:00"},
        {"since": "0001-01-01T00:00:00+14:00"},
        {"until": "9999-12-31T23:59:59-14:00"},
    ],
)
async def test_a_query_that_makes_no_sense_is_refused(http: httpx.AsyncClient, query: dict[str, str]) -> None:
    refused = await http.get(JOBS, params=query)
    assert refused.status_code == 422, refused.text
    assert refused.json()["faults"]


async def test_a_waiting_job_is_cancelled_at_once(http: httpx.AsyncClient) -> None:
    job = (await http.post(JOBS, json=resize())).json()["id"]
    cancelled = await http.post(f"{JOBS}/{job}/cancel")
    assert (cancelled.status_code, cancelled.json()["state"]) == (200, "cancelled")
    again = await http.post(f"{JOBS}/{job}/cancel")
    assert (again.status_code, again.json()["type"]) == (409, "/problems/not-allowed-in-state")


async def test_a_running_job_is_asked_to_stop(http: httpx.AsyncClient, database: Database) -> None:
    job = (await http.post(JOBS, json=resize())).json()["id"]
    row = await claim(database, job, "web.resize")
    asked = (await http.post(f"{JOBS}/{job}/cancel")).json()
    assert asked["state"] == "running"
    assert asked["cancel_requested_at"] is not None
    await succeed(database, row, "null")


async def test_a_dead_job_shows_its_attempts_and_can_be_retried(http: httpx.AsyncClient, database: Database) -> None:
    job = await dead_job(http, database)
    attempt = (await http.get(f"{JOBS}/{job}")).json()["attempts"][0]
    assert (attempt["attempt"], attempt["cause"], attempt["error"]) == (1, "error", "no such picture")
    retried = await http.post(f"{JOBS}/{job}/retry")
    assert (retried.status_code, retried.json()["state"]) == (200, "queued")
    assert (retried.json()["attempt"], retried.json()["max_attempts"]) == (1, 3)


async def test_a_scheduled_job_can_run_now(http: httpx.AsyncClient) -> None:
    job = (await http.post(JOBS, json=resize(delay=3600))).json()["id"]
    refused = await http.post(f"{JOBS}/{job}/retry")
    assert refused.status_code == 409
    assert "possible for this one: run_now, cancel" in refused.json()["detail"]
    assert (await http.post(f"{JOBS}/{job}/run_now")).json()["state"] == "queued"


async def test_a_succeeded_job_cannot_be_retried(http: httpx.AsyncClient, database: Database) -> None:
    job = (await http.post(JOBS, json=resize())).json()["id"]
    await succeed(database, await claim(database, job, "web.resize"), '"done"')
    assert (await http.get(f"{JOBS}/{job}")).json()["result"] == "done"
    assert (await http.post(f"{JOBS}/{job}/retry")).status_code == 409


async def test_a_dead_job_waits_for_the_holder_of_its_unique_key(http: httpx.AsyncClient, database: Database) -> None:
    job = await dead_job(http, database, unique_key="shared")
    await http.post(JOBS, json=resize(unique_key="shared"))
    refused = await http.post(f"{JOBS}/{job}/retry")
    assert (refused.status_code, refused.json()["type"]) == (409, "/problems/not-allowed-in-state")
    assert "unique key" in refused.json()["detail"]


@pytest.mark.parametrize(("method", "action"), [("GET", ""), ("POST", "/cancel"), ("POST", "/retry")])
async def test_a_job_that_is_not_there_is_not_found(http: httpx.AsyncClient, method: str, action: str) -> None:
    missing = await http.request(method, f"{JOBS}/{uuid4()}{action}")
    assert (missing.status_code, missing.json()["type"]) == (404, "/problems/job-not-found")


async def test_kinds_come_with_their_schemas_and_options(http: httpx.AsyncClient) -> None:
    kinds = {kind["kind"]: kind for kind in (await http.get("/api/v1/kinds")).json()["kinds"]}
    assert kinds["web.resize"]["args_schema"]["properties"]["width"]["maximum"] == 10_000
    assert (kinds["web.resize"]["timeout"], kinds["web.resize"]["max_retries"]) == (60, 1)
    assert kinds["web.login"]["max_retries"] == 3
    assert kinds["briefing.generate"]["description"] == "Have the webhook write a briefing."


async def test_queues_are_counted(http: httpx.AsyncClient, database: Database) -> None:
    before = (await http.get("/api/v1/queues")).json()["queues"][0]
    await http.post(JOBS, json=resize())
    await http.post(JOBS, json=resize(delay=60))
    await dead_job(http, database)
    after = (await http.get("/api/v1/queues")).json()["queues"][0]
    assert after["name"] == "default"
    assert [after[state] - before[state] for state in ("queued", "running", "scheduled", "dead")] == [1, 0, 1, 1]
    assert after["oldest_wait"] > 0
