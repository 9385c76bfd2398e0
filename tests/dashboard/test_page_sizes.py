"""A job's page has at most twice the size of its arguments, and at most a megabyte; it links to everything that it leaves
out."""

from typing import Any
from uuid import UUID

import orjson
import pytest

from carafe import Client
from carafe.store.database import Database
from tests.dashboard.ended import dead, every
from tests.dashboard.kinds_of_pages import Secretive
from tests.dashboard.visiting import Visitor

PAGE = 1_000_000

SHAPES: dict[str, Any] = {
    "a text": lambda size: "x" * size,
    "texts": lambda size: ["text" * 5] * (size // 23),
    "numbers": lambda size: list(range(size // 6)),
    "objects": lambda size: [{"name": "ana", "amount": 3, "more": {"tags": ["a", "b"]}}] * (size // 60),
    "nothing, many times": lambda size: [[[]] * 40] * (size // 120),
    "many names": lambda size: {f"name-{number}": None for number in range(size // 17)},
}


@pytest.mark.parametrize("size", [3_000, 20_000, 250_000])
async def test_a_page_is_at_most_twice_its_arguments(ana: Visitor, client: Client, size: int) -> None:
    plain = len((await ana.open(f"/jobs/{(await client.enqueue(every())).id}")).content)
    for name, make in SHAPES.items():
        job = await client.enqueue(every(anything=make(size)))
        args = (await client.get(job.id)).args
        page = await ana.open(f"/jobs/{job.id}")
        assert page.status_code == 200
        assert len(page.content) - plain <= 2 * len(orjson.dumps(args)), name
        assert f'href="/jobs/{job.id}/raw/args"' in page.text
        raw = await ana.open(f"/jobs/{job.id}/raw/args")
        assert orjson.loads(raw.content) == args
        commands = await ana.open(f"/jobs/{job.id}/raw/commands")
        assert "carafe enqueue" in commands.text


@pytest.fixture
async def heavy(client: Client, database: Database) -> UUID:
    """A dead job with as much of everything as there can be, all of which has to be escaped."""
    job = await dead(client, database, every(anything=['<"&' * 500] * 90), error="<" * 9_000)
    async with database.connection() as connection:
        await connection.execute("update carafe.jobs_ended set error = repeat('<', 1000000) where id = $1", job)
        await connection.execute(
            "insert into carafe.attempts (job_id, kind, attempt, fence, cause, error, traceback)"
            " select $1, 'pages.every', i, i, 'error', repeat('<', 9000), repeat('&<', 9000) from generate_series(1, 300) i",
            job,
        )
        await connection.execute(
            "insert into carafe.job_logs (failed, job_id, fence, attempt, first, last, times, levels, texts)"
            " select true, $1, i, i, 1, 100, array_fill(now(), array[100]), array_fill('info'::text, array[100]),"
            " array_fill(repeat('<', 600), array[100]) from generate_series(1, 20) i",
            job,
        )
        await connection.execute(
            "insert into carafe.audit (id, actor, via, action, target, reason)"
            " select gen_random_uuid(), 'ana', 'cli', 'retry', $1, repeat('<', 500) from generate_series(1, 300)",
            str(job),
        )
    return job


async def test_the_heaviest_page_is_a_megabyte_at_most_and_leads_to_the_rest(ana: Visitor, heavy: UUID) -> None:
    page = await ana.open(f"/jobs/{heavy}")
    assert page.status_code == 200
    assert len(page.content) <= PAGE
    assert "attempt 300" in page.text.lower()
    for part in ("args", "attempts", "logs", "commands"):
        assert f'href="/jobs/{heavy}/raw/{part}"' in page.text
        assert (await ana.open(f"/jobs/{heavy}/raw/{part}")).status_code == 200
    assert len(orjson.loads((await ana.open(f"/jobs/{heavy}/raw/attempts")).content)) == 200
    logs = (await ana.open(f"/jobs/{heavy}/raw/logs")).text
    assert logs.count("<" * 600) == 20 * 100
    assert len((await ana.open(f"/audit?target={heavy}")).content) <= PAGE


async def test_raw_parts_show_no_more_than_the_page(ana: Visitor, vic: Visitor, client: Client, opened: Any) -> None:
    job = (await client.enqueue(Secretive(user="u" * 5_000, password="unseen-secret"))).id
    for part in ("args", "commands"):
        assert "unseen-secret" not in (await ana.open(f"/jobs/{job}/raw/{part}")).text
    assert (await ana.open(f"/jobs/{job}/raw/elsewhere")).status_code == 422
    async with opened(dashboard_args="operate") as served:
        visitor = served.visitor()
        await visitor.sign_in("vic", "battery staple")
        for part, status in (("args", 403), ("result", 403), ("commands", 403), ("logs", 200), ("attempts", 200)):
            assert (await visitor.open(f"/jobs/{job}/raw/{part}")).status_code == status


async def test_the_audit_of_a_selection_of_thousands_is_no_larger(ana: Visitor, database: Database) -> None:
    async with database.connection() as connection:
        await connection.execute(
            "insert into carafe.audit (id, actor, via, action, target, details)"
            " select gen_random_uuid(), 'ana', 'cli', 'bulk start', 'x', jsonb_build_object('filter',"
            " jsonb_build_object('ids', (select jsonb_agg(gen_random_uuid()) from generate_series(1, 10000))))"
            " from generate_series(1, 50)"
        )
    page = await ana.open("/audit")
    assert page.status_code == 200
    assert len(page.content) <= PAGE
    assert "10000 jobs" in page.text
