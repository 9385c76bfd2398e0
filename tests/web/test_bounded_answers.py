"""No answer is larger than a few megabytes, whatever the jobs hold, and each answer says what it leaves out."""

import httpx
import orjson
import pytest

from carafe.store.database import Database
from tests.web.kinds_for_tests import Anything

NUMBER = 500
PAGE = 1_000_000


@pytest.fixture(scope="module")
async def many(database: Database, http: httpx.AsyncClient) -> None:
    """500 jobs with arguments, results and errors of any size."""
    async with database.connection() as connection:
        await connection.execute(
            "insert into carafe.jobs_ended (id, kind, queue, state, args, version, attempt, max_attempts, fence, snoozes,"
            " releases, timeout, created_at, due_at, ended_at, result, error)"
            " select gen_random_uuid(), 'web.anything', 'default', 'dead',"
            " jsonb_build_object('value', repeat('x', 1900 + (i % 2) * 100000)), 1, 1, 1, 1, 0, 0, 60, now(), now(),"
            " now() - i * interval '1 second', jsonb_build_array(repeat('y', 1900 + (i % 3) * 50000)), repeat('z', 20 * i)"
            " from generate_series(1, $1::integer) i",
            NUMBER,
        )


async def test_a_list_is_a_megabyte_at_most_and_its_cursor_leads_through_all(http: httpx.AsyncClient, many: None) -> None:
    seen: list[str] = []
    cursor = ""
    pages = 0
    while True:
        answer = await http.get(f"/api/v1/jobs?state=dead&limit=500{cursor}")
        assert len(answer.content) <= PAGE + 1_000
        page = orjson.loads(answer.content)
        for job in page["jobs"]:
            assert ("args" in job["cut"]) == (job["args"] is None)
            assert ("result" in job["cut"]) == (job["result"] is None)
            assert ("error" in job["cut"]) == job["error"].endswith("…")
        seen += [job["id"] for job in page["jobs"]]
        pages += 1
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert len(seen) == len(set(seen)) == NUMBER
    assert pages > 1


async def test_one_job_has_all_of_it(http: httpx.AsyncClient, many: None) -> None:
    page = (await http.get("/api/v1/jobs?state=dead&limit=10")).json()
    job = next(job for job in page["jobs"] if "args" in job["cut"])
    whole = (await http.get(f"/api/v1/jobs/{job['id']}")).json()
    assert len(whole["args"]["value"]) == 101_900
    assert whole["cut"] == []
    assert set(page["jobs"][0]) == set(whole) - {"note", "attempts"}


async def test_a_jobs_attempts_are_bounded_and_the_newest_are_there(http: httpx.AsyncClient, database: Database) -> None:
    accepted = await http.post("/api/v1/jobs", json={"kind": Anything.job_options.kind, "args": {"value": 1}})
    async with database.connection() as connection:
        await connection.execute(
            "insert into carafe.attempts (job_id, kind, attempt, fence, cause, error, traceback)"
            " select $1::text::uuid, 'web.anything', i, i, 'error', repeat('e', 9000), repeat('t', 19000)"
            " from generate_series(1, 1000) i",
            accepted.json()["id"],
        )
    answer = await http.get(f"/api/v1/jobs/{accepted.json()['id']}")
    assert len(answer.content) < PAGE
    job = answer.json()
    assert job["cut"] == ["attempts"]
    assert [attempt["attempt"] for attempt in job["attempts"]] == list(range(801, 1001))
    assert len(job["attempts"][-1]["traceback"]) == 19_000
    assert job["attempts"][0]["traceback"] is None


@pytest.mark.parametrize(("number", "cut"), [(200, []), (201, ["attempts"])])
async def test_no_attempt_is_called_cut_where_all_are_shown(
    http: httpx.AsyncClient, database: Database, number: int, cut: list[str]
) -> None:
    accepted = await http.post("/api/v1/jobs", json={"kind": Anything.job_options.kind, "args": {"value": 1}})
    async with database.connection() as connection:
        await connection.execute(
            "insert into carafe.attempts (job_id, kind, attempt, fence, cause, error)"
            " select $1::text::uuid, 'web.anything', i, i, 'error', 'e' from generate_series(1, $2::integer) i",
            accepted.json()["id"],
            number,
        )
    job = (await http.get(f"/api/v1/jobs/{accepted.json()['id']}")).json()
    assert job["cut"] == cut
    assert [attempt["attempt"] for attempt in job["attempts"]] == list(range(number - 199, number + 1))


async def test_times_are_written_as_ever(http: httpx.AsyncClient, many: None) -> None:
    job = (await http.get("/api/v1/jobs?state=dead&limit=1")).json()["jobs"][0]
    assert job["ended_at"] == (await http.get(f"/api/v1/jobs/{job['id']}")).json()["ended_at"]
    assert job["created_at"].endswith("Z")


async def test_lists_of_actions_on_thousands_of_selected_jobs_are_bounded(
    http: httpx.AsyncClient, database: Database
) -> None:
    ids = "(select jsonb_agg(gen_random_uuid()) from generate_series(1, 10000))"
    async with database.connection() as connection:
        await connection.execute(
            "insert into carafe.bulk_actions (id, action, filter, cutoff, actor, via, matched)"
            f" select gen_random_uuid(), 'retry', jsonb_build_object('ids', {ids}), now(), 'ana', 'cli', 10000"
            " from generate_series(1, 30)"
        )
        await connection.execute(
            "insert into carafe.audit (id, actor, via, action, target, details) select gen_random_uuid(), 'ana', 'cli',"
            f" 'bulk start', 'x', jsonb_build_object('filter', jsonb_build_object('ids', {ids})) from generate_series(1, 30)"
        )
    actions = await http.get("/api/v1/bulk-actions?limit=500")
    assert len(actions.content) < 50_000
    assert actions.json()["bulk_actions"][0]["filter"] == {"ids": "10000 jobs"}
    whole = await http.get(f"/api/v1/bulk-actions/{actions.json()['bulk_actions'][0]['id']}")
    assert len(whole.json()["filter"]["ids"]) == 10_000
    audit = await http.get("/api/v1/audit?limit=500")
    assert len(audit.content) < 50_000
    assert audit.json()["rows"][0]["details"]["filter"] == {"ids": "10000 jobs"}


async def test_the_list_of_workers_is_bounded_and_says_so(http: httpx.AsyncClient, database: Database) -> None:
    insert = (
        "insert into carafe.workers (id, name, host, pid, incarnation, version, kinds, concurrency, state, started_at,"
        " beat_at, stopped_at)"
        " select gen_random_uuid(), 'w' || i, 'h', i, 'x', '1', array_fill(repeat('k', 100), array[$1::integer]),"
        " 5, case when i <= $3 then 'running' else 'stopped' end, now() - (i || ' minutes')::interval, now(), now()"
        " from generate_series(1, $2::integer) i"
    )
    try:
        for kinds, number, live, listed in ((1, 700, 400, (400, 100)), (50, 700, 400, None), (1, 450, 400, (400, 50))):
            async with database.connection() as connection:
                await connection.execute("delete from carafe.workers")
                await connection.execute(insert, kinds, number, live)
            answer = await http.get("/api/v1/workers")
            assert len(answer.content) <= PAGE + 100_000
            found = answer.json()
            assert found["cut"] == (number > 500)
            if listed is None:
                assert (0 < len(found["live"]) < 400, found["gone"]) == (True, [])
            else:
                assert (len(found["live"]), len(found["gone"])) == listed
            assert [worker["name"] for worker in found["live"][:3]] == ["w1", "w2", "w3"]
    finally:
        async with database.connection() as connection:
            await connection.execute("delete from carafe.workers")
