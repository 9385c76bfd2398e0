"""Acting over HTTP: the actions of the table, edit and run, draining a worker, bulk actions, and the audit of it all."""

from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import httpx
import pytest

from carafe.store.database import Database
from carafe.store.statements import WORKER_START
from tests.answering import ANSWERS_AT_ONCE, LINE
from tests.web.conftest import OPERATE, TOKENS, VIEW, Serve, bearer
from tests.web.rows import claim, fail

API = "/api/v1"


@pytest.fixture(scope="module")
async def guarded(serve: Serve) -> AsyncIterator[httpx.AsyncClient]:
    """The application with tokens."""
    async with serve(api_tokens=TOKENS) as http:
        http.headers.update(bearer(OPERATE))
        yield http


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url)
    yield database
    await database.close()


async def enqueue(http: httpx.AsyncClient, **options: Any) -> str:
    accepted = await http.post(f"{API}/jobs", json={"kind": "web.resize", "args": {"width": 1}, **options})
    assert accepted.status_code == 202, accepted.text
    return str(accepted.json()["id"])


async def dead(http: httpx.AsyncClient, database: Database) -> str:
    job_id = await enqueue(http)
    await fail(database, await claim(database, job_id, "web.resize"), "it failed", final=True)
    return job_id


async def audited(database: Database, target: str) -> list[tuple[Any, ...]]:
    async with database.connection() as connection:
        rows = await connection.fetch(
            "select actor, via, action, reason from carafe.audit where target = $1 order by at, id", target
        )
    return [tuple(row) for row in rows]


async def test_a_dead_job_is_given_up_and_run_again(guarded: httpx.AsyncClient, database: Database) -> None:
    job = await dead(guarded, database)
    missing = await guarded.post(f"{API}/jobs/{job}/discard")
    assert (missing.status_code, missing.json()["faults"][0]["path"]) == (422, "query.reason")
    blank = await guarded.post(f"{API}/jobs/{job}/discard", params={"reason": " "})
    assert (blank.status_code, blank.json()["faults"][0]["path"]) == (422, "reason")
    discarded = await guarded.post(f"{API}/jobs/{job}/discard", params={"reason": "the feed is gone"})
    assert discarded.status_code == 200
    assert (discarded.json()["resolved_by"], discarded.json()["resolved_reason"]) == ("ops", "the feed is gone")
    again = await guarded.post(f"{API}/jobs/{job}/discard", params={"reason": "twice"})
    assert (again.status_code, again.json()["type"]) == (409, "/problems/not-allowed-in-state")
    retried = await guarded.post(f"{API}/jobs/{job}/retry", params={"reason": "it is back"})
    assert (retried.status_code, retried.json()["state"], retried.json()["resolved_at"]) == (200, "queued", None)
    assert await audited(database, job) == [
        ("ops", "api", "discard", "the feed is gone"),
        ("ops", "api", "retry", "it is back"),
    ]


async def test_a_scheduled_job_is_run_now_and_cancelled(guarded: httpx.AsyncClient, database: Database) -> None:
    job = await enqueue(guarded, delay=3600)
    assert (await guarded.post(f"{API}/jobs/{job}/run_now")).json()["state"] == "queued"
    refused = await guarded.post(f"{API}/jobs/{job}/run_now")
    assert refused.status_code == 409
    assert (await guarded.post(f"{API}/jobs/{job}/cancel", params={"reason": "no need"})).json()["error"] == "no need"
    assert [row[2:] for row in await audited(database, job)] == [("run_now", None), ("cancel", "no need")]


async def test_a_job_is_edited_and_run(guarded: httpx.AsyncClient, database: Database) -> None:
    job = await dead(guarded, database)
    edited = await guarded.post(f"{API}/jobs/{job}/edit-and-run", json={"args": {"width": 2}})
    assert edited.status_code == 202, edited.text
    new = (await guarded.get(edited.headers["Location"])).json()
    assert (new["args"]["width"], new["created_by"], new["state"]) == (2, "ops", "queued")
    assert [row[2] for row in await audited(database, new["id"])] == ["edit and run"]
    wrong = await guarded.post(f"{API}/jobs/{job}/edit-and-run", json={"args": {"width": "wide"}})
    assert (wrong.status_code, wrong.json()["faults"][0]["path"]) == (422, "args.width")
    secret = await guarded.post(f"{API}/jobs/{job}/edit-and-run", json={"args": {"width": 1}, "keep_secrets": ["/x"]})
    assert (secret.status_code, secret.json()["faults"][0]["path"]) == (422, "keep_secrets")
    absent = await guarded.post(f"{API}/jobs/{uuid4()}/edit-and-run", json={"args": {}})
    assert absent.status_code == 404


async def test_a_running_job_is_asked_where_it_is(guarded: httpx.AsyncClient, database: Database) -> None:
    job_id = await enqueue(guarded)
    waits = await guarded.post(f"{API}/jobs/{job_id}/stack")
    assert (waits.status_code, waits.json()["type"]) == (409, "/problems/not-allowed-in-state")
    await claim(database, job_id, "web.resize")
    async with database.connection() as connection:
        for statement in ANSWERS_AT_ONCE:
            await connection.execute(statement)
    answer = await guarded.post(f"{API}/jobs/{job_id}/stack")
    assert answer.status_code == 200, answer.text
    assert answer.json()["answered_at"] is not None
    assert answer.json()["lines"] == [LINE]
    assert (await guarded.post(f"{API}/jobs/{job_id}/stack", headers=bearer(VIEW))).status_code == 403
    assert (await guarded.post(f"{API}/jobs/{uuid4()}/stack")).status_code == 404


async def test_a_worker_is_drained(guarded: httpx.AsyncClient, database: Database) -> None:
    worker = uuid4()
    values: dict[str, Any] = {
        "name": "w",
        "host": "h",
        "pid": 1,
        "incarnation": "x",
        "pod": "",
        "version": "0",
        "kinds": [],
        "versions": [],
        "concurrency": 1,
    }
    async with database.connection() as connection:
        await WORKER_START.execute(connection, id=worker, **values)
    drained = await guarded.post(f"{API}/workers/{worker}/drain", params={"reason": "a bad node"})
    assert drained.status_code == 202
    assert drained.json()["drain_requested_at"] is not None
    assert await audited(database, str(worker)) == [("ops", "api", "drain worker", "a bad node")]
    [listed] = [one for one in (await guarded.get(f"{API}/workers")).json()["live"] if one["id"] == str(worker)]
    assert (listed["name"], listed["drain_requested"]) == ("w", True)
    missing = await guarded.post(f"{API}/workers/{uuid4()}/drain")
    assert (missing.status_code, missing.json()["type"]) == (404, "/problems/worker-not-found")


async def test_a_bulk_action_is_started_followed_and_steered(guarded: httpx.AsyncClient, database: Database) -> None:
    job = await dead(guarded, database)
    asked = {
        "action": "retry",
        "filter": {"kind": "web.resize", "text": "failed", "ids": [job]},
        "rate": 5,
        "reason": "it is back",
    }
    started = await guarded.post(f"{API}/bulk-actions", json=asked)
    assert started.status_code == 201, started.text
    bulk = started.json()
    assert (bulk["state"], bulk["matched"], bulk["matched_estimated"], bulk["rate"]) == ("running", 1, False, 5)
    assert (bulk["actor"], bulk["via"], bulk["filter"]["kind"]) == ("ops", "api", "web.resize")
    place = started.headers["Location"]
    assert (await guarded.get(place, headers=bearer(VIEW))).json() == bulk
    listed = (await guarded.get(f"{API}/bulk-actions", headers=bearer(VIEW))).json()["bulk_actions"]
    assert listed[0] == bulk
    assert (await guarded.post(f"{place}/pause")).json()["state"] == "paused"
    assert (await guarded.post(f"{place}/resume")).json()["state"] == "running"
    assert (await guarded.post(f"{place}/cancel")).json()["state"] == "cancelled"
    ended = await guarded.post(f"{place}/pause")
    assert (ended.status_code, ended.json()["type"]) == (409, "/problems/bulk-action-ended")
    assert [row[2] for row in await audited(database, bulk["id"])] == [
        "bulk start",
        "bulk pause",
        "bulk resume",
        "bulk cancel",
    ]
    rows = (await guarded.get(f"{API}/audit", params={"target": bulk["id"]}, headers=bearer(VIEW))).json()["rows"]
    assert [row["action"] for row in rows] == ["bulk cancel", "bulk resume", "bulk pause", "bulk start"]


@pytest.mark.parametrize(
    ("asked", "path"),
    [
        ({"action": "explode", "filter": {}}, "action"),
        ({"action": "retry"}, "filter"),
        ({"action": "retry", "filter": {"colour": "red"}}, "filter.colour"),
        ({"action": "retry", "filter": {"since": "2030-01-02T00:00:00Z", "until": "2030-01-01T00:00:00Z"}}, "filter.until"),
        ({"action": "retry", "filter": {"argument": ["width"]}}, "filter.argument"),
        ({"action": "retry", "filter": {"argument": [1, 2]}}, "filter.argument"),
        ({"action": "retry", "filter": {"ids": []}}, "filter.ids"),
        ({"action": "retry", "filter": {"kind": ""}}, "filter.kind"),
        ({"action": "retry", "filter": []}, "filter"),
        ({"action": "retry", "filter": {"states": ["queued"]}}, "state"),
        ({"action": "retry", "filter": {}, "rate": 0}, "rate"),
        ({"action": "discard", "filter": {}}, "reason"),
        ({"action": "discard", "filter": {}, "reason": "x" * 501}, "reason"),
    ],
)
async def test_what_is_wrong_with_a_bulk_action_is_named(guarded: httpx.AsyncClient, asked: Any, path: str) -> None:
    answer = await guarded.post(f"{API}/bulk-actions", json=asked)
    assert (answer.status_code, answer.json()["faults"][0]["path"]) == (422, path), answer.text


async def test_all_that_is_wrong_with_a_bulk_action_is_told_at_once(guarded: httpx.AsyncClient) -> None:
    asked = {"action": "explode", "filter": {"states": ["asleep"], "worker": 1, "since": "2030-01-02"}, "rate": 0}
    answer = await guarded.post(f"{API}/bulk-actions", json=asked)
    paths = {fault["path"] for fault in answer.json()["faults"]}
    assert paths == {"action", "filter.states", "filter.worker", "filter.since", "rate"}


@pytest.mark.parametrize(
    "path",
    [
        "jobs/{id}/discard?reason=x",
        "jobs/{id}/run_now",
        "jobs/{id}/edit-and-run",
        "workers/{id}/drain",
        "bulk-actions",
        "bulk-actions/{id}/pause",
        "bulk-actions/{id}/resume",
        "bulk-actions/{id}/cancel",
    ],
)
async def test_acting_needs_the_role_operate(guarded: httpx.AsyncClient, path: str) -> None:
    url = f"{API}/{path.format(id=uuid4())}"
    assert (await guarded.post(url, headers=bearer("nobody"))).status_code == 401
    assert (await guarded.post(url, headers=bearer(VIEW))).status_code == 403


@pytest.mark.parametrize("path", ["bulk-actions", "bulk-actions/{id}", "workers", "audit"])
async def test_reading_needs_a_token(guarded: httpx.AsyncClient, path: str) -> None:
    url = f"{API}/{path.format(id=uuid4())}"
    assert (await guarded.get(url, headers=bearer("nobody"))).status_code == 401
    assert (await guarded.get(url, headers=bearer(VIEW))).status_code in (200, 404)


async def test_a_bulk_action_that_is_not_there(guarded: httpx.AsyncClient) -> None:
    for answer in (
        await guarded.get(f"{API}/bulk-actions/{uuid4()}"),
        await guarded.post(f"{API}/bulk-actions/{uuid4()}/pause"),
    ):
        assert (answer.status_code, answer.json()["type"]) == (404, "/problems/bulk-action-not-found")
