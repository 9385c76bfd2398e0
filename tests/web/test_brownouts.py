"""While Postgres or Redis answers slowly or not at all, callers of a web process never wait for long, and nothing is lost.

The seconds are printed (``pytest -s``), never asserted.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any
from uuid import UUID

import httpx
import pytest
from sqlalchemy import text

from carafe import Client, Unavailable
from carafe.queue.queue import Queue
from carafe.store.database import Database
from carafe.web.transactions import transaction
from tests.links import Way, way_to
from tests.waiting import eventually
from tests.web.conftest import Serve
from tests.web.kinds_for_tests import Resize

JOB = {"kind": "web.resize", "args": {"width": 1}}

pytestmark = pytest.mark.process


@pytest.fixture
def postgres(database_url: str) -> Iterator[Way]:
    with way_to(database_url) as way:
        yield way


@pytest.fixture
def redis(redis_url: str) -> Iterator[Way]:
    with way_to(redis_url) as way:
        yield way


@pytest.fixture
async def http(serve: Serve, postgres: Way, redis: Way) -> AsyncIterator[httpx.AsyncClient]:
    """The application behind both ways, with connections that have worked."""
    async with serve(database_url=postgres.url, redis_url=redis.url) as http:
        for path, body in (("/api/v1/jobs", JOB), ("/api/v1/briefings", {"topic": "Coffee"})):
            assert (await http.post(path, json=body)).status_code == 202
        assert (await http.get("/health")).json()["status"] == "ok"
        yield http


class Timed:
    """Asks, and notes how long each answer took."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http
        self.seconds: list[float] = []

    async def __call__(self, method: str, path: str, **request: Any) -> httpx.Response:
        began = time.monotonic()
        answer = await self._http.request(method, path, **request)
        self.seconds.append(time.monotonic() - began)
        return answer


def tell(what: str, *seconds: float) -> None:
    print(f"{what}: {min(seconds):.2f} to {max(seconds):.2f} s ({len(seconds)})")  # noqa: T201  what was measured


REQUESTS: tuple[tuple[str, str, Any], ...] = (
    ("POST", "/api/v1/jobs", JOB),
    ("POST", "/api/v1/jobs/bulk", {"jobs": [JOB, JOB]}),
    ("POST", "/api/v1/briefings", {"topic": "Tea"}),
    ("GET", "/api/v1/jobs", None),
    ("GET", "/api/v1/queues", None),
    ("GET", "/api/v1/briefings", None),
)


def is_unavailable(answer: httpx.Response) -> bool:
    """Whether it says in the documented way that Postgres cannot be reached."""
    assert answer.status_code == 503, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert int(answer.headers["retry-after"]) > 0
    assert answer.json()["type"] in ("/problems/unavailable", "/problems/outcome-unknown")
    return True


async def ask_all(timed: Timed) -> list[httpx.Response]:
    """Every request of REQUESTS, at once."""
    return await asyncio.gather(
        *(timed(method, path, **({} if body is None else {"json": body})) for method, path, body in REQUESTS)
    )


async def test_a_postgres_that_swallows_everything_is_said_to_be_away_and_found_again(
    http: httpx.AsyncClient, postgres: Way
) -> None:
    postgres.swallow()
    first, later, after = Timed(http), Timed(http), Timed(http)
    for answer in await ask_all(first):
        assert is_unavailable(answer)
    tell("first answers", *first.seconds)

    # By now it is known: everybody is told at once, without trying.
    for _ in range(5):
        for answer in await ask_all(later):
            assert is_unavailable(answer)
            assert answer.json()["type"] == "/problems/unavailable"
    tell("later answers", *later.seconds)
    health = await http.get("/health")
    assert (health.status_code, health.json()["checks"]["postgres"]["status"]) == (503, "down")
    assert health.json()["checks"]["redis"]["status"] == "ok"

    healed = time.monotonic()
    postgres.heal()

    async def all_well() -> bool:
        return all(answer.is_success for answer in await ask_all(after))

    await eventually(all_well, 30)
    tell("recovery", time.monotonic() - healed)
    tell("answers from then on", *after.seconds[-len(REQUESTS) :])

    async def is_well() -> bool:
        return bool((await http.get("/health")).json()["status"] == "ok")

    await eventually(is_well, 30)


async def _enqueues(client: Client) -> None:
    await client.enqueue(Resize(width=1))


async def _enqueues_with_a_key(client: Client) -> None:
    await client.enqueue(Resize(width=1), idempotency_key=str(time.monotonic_ns()))


async def _uses_a_session(client: Client) -> None:
    async with transaction(client) as session:
        await session.execute(text("select 1"))


@pytest.mark.parametrize("ask", [_enqueues, _enqueues_with_a_key, _uses_a_session])
async def test_the_first_that_gets_no_answer_makes_it_known_to_all(
    ask: Callable[[Client], Awaitable[None]], postgres: Way, redis_url: str
) -> None:
    # A connection that has worked, and nobody who opens another: that would find out by itself.
    database = Database(postgres.url, pool_size=1, command_timeout=1.0)
    async with Client(database, Queue(redis_url)) as client:
        await ask(client)
        postgres.swallow()

        with pytest.raises(Unavailable):
            await ask(client)

        def is_known_to_be_away() -> bool:
            try:
                database.require()
            except Unavailable:
                return True
            return False

        await eventually(is_known_to_be_away)
        postgres.heal()
        await eventually(lambda: not is_known_to_be_away())
        await ask(client)


async def test_a_value_that_cannot_be_encoded_is_no_lost_connection(database: Database, redis_url: str) -> None:
    client = Client(database, Queue(redis_url))
    with pytest.raises(Exception, match="invalid input") as raised:
        async with transaction(client) as session:
            await session.execute(text("select cast(:number as int)"), {"number": "no number"})
    assert not isinstance(raised.value, Unavailable)
    await client.queue.close()


async def test_a_slow_postgres_loses_nothing_and_stores_nothing_twice(
    http: httpx.AsyncClient, postgres: Way, database: Database
) -> None:
    postgres.slow(round_trip=2.0)
    timed = Timed(http)
    # A key each, so that what was not answered can be repeated.
    requests = [({"kind": "web.anything", "args": {"value": f"slow {number}"}}, f"slow {number}") for number in range(12)]

    async def send(body: Any, key: str) -> httpx.Response:
        return await timed("POST", "/api/v1/jobs", json=body, headers={"Idempotency-Key": key})

    accepted: dict[str, str] = {}
    for wave in range(0, len(requests), 4):
        for (_, key), answer in zip(
            requests[wave : wave + 4],
            await asyncio.gather(*(send(*request) for request in requests[wave : wave + 4])),
            strict=True,
        ):
            if answer.status_code == 202:
                accepted[key] = answer.json()["id"]
            else:
                assert is_unavailable(answer)
    tell(f"answers of a slow Postgres, {len(accepted)} of {len(requests)} accepted", *timed.seconds)
    postgres.heal()

    for body, key in requests:

        async def repeated(body: Any = body, key: str = key) -> str | None:
            answer = await send(body, key)
            assert answer.status_code == 202 or is_unavailable(answer)
            return str(answer.json()["id"]) if answer.status_code == 202 else None

        check: Callable[[], Awaitable[str | None]] = repeated
        job_id = await eventually(check, 30)
        assert job_id is not None
        assert accepted.setdefault(key, job_id) == job_id
    async with database.connection() as connection:
        rows = await connection.fetch("select id from carafe.jobs where kind = 'web.anything'")
    assert {row["id"] for row in rows} == {UUID(job_id) for job_id in accepted.values()}
    assert len(rows) == len(requests)


@pytest.mark.parametrize("fault", ["swallows", "is slow"])
async def test_without_an_answer_of_redis_jobs_are_accepted(
    http: httpx.AsyncClient, redis: Way, database: Database, fault: str
) -> None:
    if fault == "swallows":
        redis.swallow()
    else:
        redis.slow(round_trip=1.0)
    first, later, after = Timed(http), Timed(http), Timed(http)
    ids = [(await first("POST", "/api/v1/jobs", json=JOB)).json()["id"]]
    for _ in range(20):
        answer = await later("POST", "/api/v1/jobs", json=JOB)
        assert answer.status_code == 202
        ids.append(answer.json()["id"])
    tell(f"the first job while Redis {fault}", *first.seconds)
    tell("the next ones", *later.seconds)
    health = await http.get("/health")
    assert (health.status_code, health.json()["status"]) == (200, "degraded")
    redis.heal()

    async def is_well() -> bool:
        return bool((await http.get("/health")).json()["status"] == "ok")

    await eventually(is_well, 30)
    ids.append((await after("POST", "/api/v1/jobs", json=JOB)).json()["id"])
    async with database.connection() as connection:
        assert await connection.fetchval("select count(*) from carafe.jobs where id = any($1)", ids) == len(ids)
