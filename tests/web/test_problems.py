"""Every error is a problem: its code, its status, what is wrong by path, never a value, and nothing is stored."""

import ast
import re
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import httpx
import pytest
from fastapi import APIRouter, FastAPI, Query
from pydantic import BaseModel

from app.main import create_app
from briefings.settings import BriefingSettings
from carafe.jobs.errors import CarafeError
from carafe.store.database import Database
from carafe.web import DocumentedRoute, Viewer
from tests.web.conftest import TOKENS, Serve, served
from tests.web.rows import count

JOBS = "/api/v1/jobs"
JSON = {"Content-Type": "application/json"}


@pytest.fixture(autouse=True)
async def _stores_nothing(database: Database) -> AsyncIterator[None]:
    before = await count(database, "carafe.jobs")
    yield
    assert await count(database, "carafe.jobs") == before


def says(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    assert answer.headers["Content-Type"] == "application/problem+json"
    problem: dict[str, Any] = answer.json()
    assert (answer.status_code, problem["status"], problem["type"]) == (status, status, f"/problems/{code}")
    assert problem["title"]
    assert problem["detail"]
    return problem


ROOT = Path(__file__).parents[2]

IN_PROCESS = {
    "error": "every error has a code of its own",
    "invalid-result": "a worker finds it, or a client that reads a result as its type",
    "stale-claim": "a worker's",
    "another-event-loop": "a program's that uses one client in two event loops",
    "transaction-ended": "a handler's or a hook's",
    "statement-failed": "a handler's or a hook's",
    "migration-failed": "`carafe migrate`",
    "migration-blocked": "`carafe migrate`",
}
"""The codes of errors that no request is answered with, and why."""


def _classes(kind: type[CarafeError]) -> Iterator[type[CarafeError]]:
    yield kind
    for below in kind.__subclasses__():
        yield from _classes(below)


def _raised() -> set[tuple[int, str]]:
    """The statuses and codes that the web process's own code gives to its problems."""
    found = {(404, "not-found"), (405, "method-not-allowed")}  # Starlette's own
    for path in [*(ROOT / "carafe/web").glob("*.py"), ROOT / "app/briefings.py"]:
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Call(
                    func=ast.Name(id="ProblemError" | "Refused"),
                    args=[ast.Constant(value=int(status)), ast.Constant(value=str(code)), *_],
                ):
                    found.add((status, code))
    return found


async def test_the_table_of_errors_names_every_code_that_an_answer_can_have() -> None:
    rows = re.findall(r"^\| ([\d, ]+) \| (`[a-z`, -]+) \|", (ROOT / "docs/http-api.md").read_text(), re.MULTILINE)
    listed = {(code, status) for statuses, codes in rows for code in codes.split(", ") for status in statuses.split(", ")}
    ours = [
        kind for kind in _classes(CarafeError) if kind.__module__.startswith("carafe.") and ".testing" not in kind.__module__
    ]
    answers = {(kind.status, kind.code) for kind in ours if kind.code not in IN_PROCESS} | _raised()
    assert len(answers) > 25
    assert sorted(answers - {(int(status), code.strip("`")) for code, status in listed}) == []
    # And no code is listed that there is not: 408 and 431 share a row.
    assert {code.strip("`") for code, _ in listed} == {code for _, code in answers}
    assert set(IN_PROCESS) <= {kind.code for kind in ours}


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "empty"),
        (b"{", "not JSON"),
        (b'{"kind": "web.resize",}', "not JSON"),
        (b'{"kind": "\xff\xfe"}', "not UTF-8 (byte 10)"),
        (b'{"kind": "web.anything", "args": {"value": "\\ud800"}}', "not JSON"),
        (b'{"kind": "web.anything", "args": {"value": NaN}}', "not finite"),
        (b'{"kind": "web.anything", "args": {"value": [{"deep": 1e999}]}}', "not finite"),
        (b'{"kind": "web.anything", "args": {"value": ' + b"[" * 500 + b"]" * 500 + b"}}", "not JSON"),
        (b'{"kind": "web.anything", "args": {"value": ' + b"9" * 5_000 + b"}}", "not JSON"),
    ],
)
async def test_a_body_that_is_not_json_in_utf8(http: httpx.AsyncClient, body: bytes, words: str) -> None:
    problem = says(await http.post(JOBS, content=body, headers=JSON), 400, "malformed-body")
    assert words in problem["detail"]


@pytest.mark.parametrize(
    ("body", "code", "path"),
    [
        ({"args": {}}, "invalid-request", "kind"),
        ({"kind": "web.resize", "priority": 1}, "invalid-request", "priority"),
        ({"kind": "web.resize", "args": []}, "invalid-request", "args"),
        ({"kind": "web.resize", "args": {"width": 1}, "run_at": "tomorrow"}, "invalid-request", "run_at"),
        ({"kind": "web.resize", "args": {"width": 1}, "run_at": "2030-01-01T00:00:00"}, "invalid-request", "run_at"),
        (
            {"kind": "web.resize", "args": {"width": 1}, "run_at": "9999-12-31T23:59:59-14:00"},
            "invalid-request",
            "run_at",
        ),
        ({"kind": "web.resize", "args": {"width": 1}, "run_at": "9999-01-01T00:00:00Z"}, "invalid-option", "run_at"),
        ({"kind": "web.resize", "args": {"width": 1}, "run_at": 1893456000}, "invalid-request", "run_at"),
        ({"kind": "web.resize", "args": {"width": 1}, "run_at": "1893456000.5"}, "invalid-request", "run_at"),
        ({"kind": "web.resize", "args": {"width": 1}, "delay": -1}, "invalid-request", "delay"),
        ({"kind": "web.resize", "args": {"width": 1}, "delay": True}, "invalid-request", "delay"),
        (
            {"kind": "web.resize", "args": {"width": 1}, "delay": 1, "run_at": "2030-01-01T00:00:00Z"},
            "invalid-option",
            "delay",
        ),
        ({"kind": "web.resize", "args": {"width": 1}, "unique_key": ""}, "invalid-request", "unique_key"),
        ({"kind": "web.resize", "args": {"width": 1}, "unique_key": "a\0"}, "invalid-option", "unique_key"),
        ({"kind": "web.resize", "args": {"width": "wide"}}, "invalid-arguments", "args.width"),
        ({"kind": "web.resize", "args": {"width": 1, "hight": 2}}, "invalid-arguments", "args.hight"),
        ({"kind": "web.anything", "args": {"value": "a\0b"}}, "invalid-arguments", "args"),
        ({"kind": "web.anything", "args": {"value": 2**64}}, "invalid-arguments", "args.value"),
    ],
)
async def test_a_request_that_is_not_valid(http: httpx.AsyncClient, body: dict[str, Any], code: str, path: str) -> None:
    problem = says(await http.post(JOBS, json=body), 422, code)
    assert [fault["path"] for fault in problem["faults"]] == [path]
    assert problem["fault_count"] == 1


async def test_an_unknown_kind_lists_the_known_ones(http: httpx.AsyncClient) -> None:
    problem = says(await http.post(JOBS, json={"kind": "web.resise"}), 422, "unknown-kind")
    assert "web.resize" in problem["detail"]


async def test_values_are_never_repeated(http: httpx.AsyncClient) -> None:
    secret = {"user": ["hunter2"], "password": {"it": "hunter2"}, "pin": "hunter2"}
    answer = await http.post(JOBS, json={"kind": "web.login", "args": secret})
    assert len(says(answer, 422, "invalid-arguments")["faults"]) == 3
    assert "hunter2" not in answer.text
    assert "hunter2" not in (await http.post(JOBS, json={"kind": ["hunter2"], "args": "hunter2"})).text


@pytest.mark.parametrize("content_type", [None, "text/plain", "application/x-www-form-urlencoded", "nonsense"])
async def test_another_content_type(http: httpx.AsyncClient, content_type: str | None) -> None:
    headers = {} if content_type is None else {"Content-Type": content_type}
    answer = await http.post(JOBS, content=b'{"kind": "web.resize", "args": {"width": 1}}', headers=headers)
    assert "application/json" in says(answer, 415, "unsupported-media-type")["detail"]


async def test_arguments_over_their_limit(http: httpx.AsyncClient) -> None:
    answer = await http.post(JOBS, json={"kind": "web.resize", "args": {"width": 1, "name": "x" * 3_000}})
    assert "JOB_ARGS_LIMIT" in says(answer, 413, "payload-too-large")["detail"]


async def test_a_body_over_its_limit(http: httpx.AsyncClient) -> None:
    answer = await http.post(JOBS, content=b" " * 50_000, headers=JSON)
    assert "JOB_ARGS_LIMIT" in says(answer, 413, "payload-too-large")["detail"]


async def test_a_body_over_its_limit_that_does_not_say_so(http: httpx.AsyncClient) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(50):
            yield b" " * 1_000

    says(await http.post(JOBS, content=endless(), headers=JSON), 413, "payload-too-large")


@pytest.mark.parametrize("key", ["a" * 501, "tab\there"])
async def test_an_idempotency_key_that_cannot_be_one(http: httpx.AsyncClient, key: str) -> None:
    body = {"kind": "web.resize", "args": {"width": 1}}
    assert (await http.post(JOBS, json=body, headers={"Idempotency-Key": key})).status_code == 422


async def operations(http: httpx.AsyncClient) -> list[tuple[str, str, bool]]:
    """The method, the path and whether there is a body, of every operation of the API that the OpenAPI document has."""
    paths: dict[str, Any] = (await http.get("/openapi.json")).json()["paths"]
    return [
        (method.upper(), re.sub(r"{\w*id}", str(UUID(int=7)), path).replace("{name}", "jobs"), "requestBody" in operation)
        for path, methods in paths.items()
        if path.startswith("/api/v1/")
        for method, operation in methods.items()
    ]


async def test_every_operation_refuses_a_parameter_that_is_not_documented(http: httpx.AsyncClient) -> None:
    found = await operations(http)
    assert len(found) > 20
    for method, path, _ in found:
        answer = await http.request(method, path, params={"reasn": "x", "delay": "3600"})
        paths = [fault["path"].removeprefix("query.") for fault in says(answer, 422, "invalid-request")["faults"]]
        assert sorted(paths) == ["delay", "reasn"], (method, path)


async def test_every_operation_without_a_body_refuses_one_that_says_something(http: httpx.AsyncClient) -> None:
    found = [(method, path) for method, path, body in await operations(http) if not body]
    assert len(found) > 15
    for method, path in found:
        answer = await http.request(method, path, json={"reason": "x"})
        assert "takes no body" in says(answer, 422, "invalid-request")["detail"], (method, path)
    streamed = await http.post(f"{JOBS}/{UUID(int=7)}/retry", content=stream(b"x" * 10, b"x" * 10))
    assert "reason" in says(streamed, 422, "invalid-request")["detail"]


@pytest.mark.parametrize("nothing", [b"", b"{}", b" {}\n", b"null"])
async def test_an_operation_without_a_body_takes_an_empty_one(http: httpx.AsyncClient, nothing: bytes) -> None:
    """As many HTTP libraries send it with every POST."""
    retry = f"{JOBS}/{UUID(int=7)}/retry?reason=x"
    says(await http.post(retry, content=nothing, headers=JSON), 404, "job-not-found")
    says(await http.post(retry, content=stream(nothing), headers=JSON), 404, "job-not-found")


async def test_a_parameter_with_one_value_is_given_once(http: httpx.AsyncClient) -> None:
    answer = await http.post(f"{JOBS}/{UUID(int=7)}/retry?reason=one&reason=two")
    assert [fault["path"] for fault in says(answer, 422, "invalid-request")["faults"]] == ["query.reason"]


async def test_a_caller_without_a_token_learns_nothing_of_parameters(serve: Serve) -> None:
    async with serve(api_tokens=TOKENS) as http:
        for method, path, _ in await operations(http):
            says(await http.request(method, path, params={"reasn": "x"}, json={"reason": "x"}), 401, "unauthorized")


async def stream(*chunks: bytes) -> AsyncIterator[bytes]:
    """A body that does not say how long it is."""
    for chunk in chunks:
        yield chunk


async def test_a_path_that_leads_nowhere(http: httpx.AsyncClient) -> None:
    says(await http.get("/api/v1/nothing"), 404, "not-found")
    says(await http.get(f"{JOBS}/not-an-id"), 422, "invalid-request")


async def test_a_method_that_is_not_there(http: httpx.AsyncClient) -> None:
    answer = await http.delete("/health")
    says(answer, 405, "method-not-allowed")
    assert answer.headers["Allow"] == "GET"


async def test_postgres_down(serve: Serve) -> None:
    async with serve(database_url=f"postgresql://127.0.0.1:{closed_port()}/x") as http:
        for answer in (
            await http.post(JOBS, json={"kind": "web.resize", "args": {"width": 1}}),
            await http.post(f"{JOBS}/bulk", json={"jobs": [{"kind": "web.resize", "args": {"width": 1}}]}),
            await http.get(JOBS),
            await http.post(f"{JOBS}/01980a2e-7c11-7000-8000-000000000001/cancel"),
            await http.post("/api/v1/briefings", json={"topic": "Coffee"}),
            await http.get("/api/v1/briefings"),
        ):
            says(answer, 503, "unavailable")
            assert answer.headers["Retry-After"] == "1"


async def test_what_nobody_expected_shows_nothing_of_itself(settings: BriefingSettings) -> None:
    app: FastAPI = create_app(settings)

    @app.get("/broken")
    async def broken() -> None:
        raise RuntimeError("the password is hunter2")

    async with served(app, settings) as http:
        answer = await http.get("/broken")
        says(answer, 500, "internal-error")
        assert "hunter2" not in answer.text


def closed_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
    return port


async def test_an_application_s_own_route_can_be_as_strict(settings: BriefingSettings) -> None:
    router = APIRouter(route_class=DocumentedRoute)

    class Wanted(BaseModel):
        colour: str = ""
        sizes: list[int] | None = None

    @router.get("/cups")
    async def cups(
        caller: Viewer, wanted: Annotated[Wanted, Query()], tag: Annotated[list[str] | None, Query(alias="t")] = None
    ) -> str:
        return f"{wanted.colour} {wanted.sizes} {tag}"

    app: FastAPI = create_app(settings)
    app.include_router(router)
    async with served(app, settings) as http:
        assert (await http.get("/cups?colour=red&sizes=1&sizes=2&t=a&t=b")).json() == "red [1, 2] ['a', 'b']"
        faults = says(await http.get("/cups?colour=red&colour=blue&tag=a"), 422, "invalid-request")["faults"]
        assert [fault["path"] for fault in faults] == ["query.colour", "query.tag"]
