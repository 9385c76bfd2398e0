"""Who may do what: roles, tokens, and an open API that answers to this machine alone."""

from collections.abc import AsyncIterator

import httpx
import pytest

from tests.web.conftest import OPERATE, OTHER, TOKENS, VIEW, Serve, bearer

JOB = {"kind": "web.resize", "args": {"width": 1}}
ID = "01980a2e-7c11-7000-8000-000000000001"
READS = ["/api/v1/jobs", f"/api/v1/jobs/{ID}", "/api/v1/kinds", "/api/v1/queues", "/api/v1/briefings"]
CHANGES = ["/api/v1/jobs", "/api/v1/jobs/bulk", f"/api/v1/jobs/{ID}/cancel", f"/api/v1/jobs/{ID}/retry"]
CHANGES += ["/api/v1/briefings"]


@pytest.fixture(scope="module")
async def guarded(serve: Serve) -> AsyncIterator[httpx.AsyncClient]:
    """The application with tokens."""
    async with serve(api_tokens=TOKENS) as http:
        yield http


@pytest.mark.parametrize("path", READS)
async def test_reading_needs_a_token_of_any_role(guarded: httpx.AsyncClient, path: str) -> None:
    refused = await guarded.get(path)
    assert (refused.status_code, refused.json()["type"]) == (401, "/problems/unauthorized")
    assert refused.headers["WWW-Authenticate"].startswith("Bearer")
    for token in (VIEW, OPERATE):
        assert (await guarded.get(path, headers=bearer(token))).status_code in (200, 404)


@pytest.mark.parametrize("path", CHANGES)
async def test_changing_needs_the_role_operate(guarded: httpx.AsyncClient, path: str) -> None:
    assert (await guarded.post(path)).status_code == 401
    refused = await guarded.post(path, headers=bearer(VIEW))
    assert (refused.status_code, refused.json()["type"]) == (403, "/problems/forbidden")
    assert "operate" in refused.json()["detail"]
    assert (await guarded.post(path, headers=bearer(OPERATE))).status_code in (404, 415)


@pytest.mark.parametrize("value", ["Bearer wrong", "Bearer", "Basic b3BlcmF0ZS10b2tlbg==", OPERATE, "Bearer \xff"])
async def test_another_token_is_not_known(guarded: httpx.AsyncClient, value: str) -> None:
    headers = {b"Authorization": value.encode("latin-1")}
    assert (await guarded.get("/api/v1/jobs", headers=headers)).status_code == 401


async def test_a_stranger_s_body_is_not_read(guarded: httpx.AsyncClient) -> None:
    body = b"x" * 3_000_000  # what goes on for longer loses the answer with the connection
    assert (await guarded.post("/api/v1/jobs/bulk", content=body)).status_code == 401


async def test_the_token_s_name_signs_the_job(guarded: httpx.AsyncClient) -> None:
    accepted = await guarded.post("/api/v1/jobs", json=JOB, headers=bearer(OPERATE))
    job = (await guarded.get(accepted.headers["Location"], headers=bearer(VIEW))).json()
    assert job["created_by"] == "ops"
    cancelled = await guarded.post(f"{accepted.headers['Location']}/cancel", headers=bearer(OTHER))
    assert cancelled.json()["error"] == "cancelled by other"


@pytest.mark.parametrize("path", ["/api/v1/jobs", "/api/v1/briefings"])
async def test_idempotency_keys_are_each_caller_s_own(guarded: httpx.AsyncClient, path: str) -> None:
    body = JOB if path.endswith("jobs") else {"topic": "Coffee"}
    answers = [
        await guarded.post(path, json=body, headers={**bearer(token), "Idempotency-Key": "one"})
        for token in (OPERATE, OTHER, OPERATE)
    ]
    assert [answer.status_code for answer in answers] == [202, 202, 202]
    ids = [answer.json()["id"] for answer in answers]
    assert ids[0] == ids[2] != ids[1]


async def test_health_and_the_document_need_no_token(guarded: httpx.AsyncClient) -> None:
    assert (await guarded.get("/health")).status_code == 200
    document = (await guarded.get("/openapi.json")).json()
    assert document["paths"]["/api/v1/jobs"]["post"]["security"] == [{"bearerToken": []}]
    assert document["components"]["securitySchemes"]["bearerToken"]["scheme"] == "bearer"


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:8080", "[::1]:8080", "carafe.localhost"])
async def test_an_open_api_answers_to_this_machine(http: httpx.AsyncClient, host: str) -> None:
    assert (await http.get("/api/v1/jobs", headers={"Host": host})).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:8080", "[", ""])
async def test_an_open_api_does_not_answer_to_a_rebound_name(http: httpx.AsyncClient, host: str) -> None:
    refused = await http.get("/api/v1/jobs", headers={"Host": host})
    assert refused.status_code in (400, 403)
    if refused.status_code == 403:
        assert refused.json()["type"] == "/problems/host-not-local"


async def test_an_open_api_does_not_serve_pages_of_other_sites(http: httpx.AsyncClient) -> None:
    for elsewhere in (
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost.evil.example"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"},
    ):
        for refused in (
            await http.post(f"/api/v1/jobs/{ID}/cancel", headers=elsewhere),
            await http.get("/api/v1/jobs", headers=elsewhere),
        ):
            assert (refused.status_code, refused.json()["type"]) == (403, "/problems/origin-not-local"), elsewhere
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    assert (await http.get("/api/v1/jobs", headers=link)).status_code == 200
    assert (await http.post(f"/api/v1/jobs/{ID}/cancel", headers=link)).status_code == 403
    assert (await http.get("/api/v1/jobs", headers={"Origin": "http://localhost:3000"})).status_code == 200


async def test_an_open_api_answers_to_everybody_when_told_so(serve: Serve) -> None:
    async with serve(allow_open_api="everybody") as http:
        assert (await http.get("/api/v1/jobs", headers={"Host": "web.cluster.local"})).status_code == 200


async def test_an_open_api_beyond_this_machine_may_still_answer_to_localhost_alone(serve: Serve) -> None:
    async with serve(allow_open_api="localhost") as http:
        assert (await http.get("/api/v1/jobs", headers={"Host": "localhost:8080"})).status_code == 200
        for headers in ({"Host": "evil.example"}, {"Host": "localhost:8080", "Origin": "https://evil.example"}):
            assert (await http.post("/api/v1/queues/default/pause", headers=headers)).status_code == 403


async def test_nobody_is_believed_where_they_come_from(serve: Serve) -> None:
    forwarded = {"X-Forwarded-For": "127.0.0.1", "X-Forwarded-Host": "localhost", "Host": "evil.example"}
    async with serve(allow_open_api="localhost") as http:
        assert (await http.get("/api/v1/jobs", headers=forwarded)).status_code == 403


async def test_the_document_of_an_open_api_says_that_a_token_is_optional(http: httpx.AsyncClient) -> None:
    document = (await http.get("/openapi.json")).json()
    assert document["paths"]["/api/v1/jobs"]["get"]["security"] == [{"bearerToken": []}, {}]
