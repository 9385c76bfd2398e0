"""`jobs edit` changes only the arguments that are named, whatever numbers the job holds, and refuses a job whose other
arguments it could not keep unchanged."""

import asyncio
import json
from uuid import uuid4

import asyncpg

from carafe.store.database import plain_dsn
from tests.cli.conftest import Command

KINDS = {"JOB_MODULES": "tests.web.kinds_for_tests"}


def store(url: str, args: str) -> str:
    """A dead job with these arguments, as JSON text."""

    async def insert() -> str:
        connection = await asyncpg.connect(plain_dsn(url))
        try:
            job = uuid4()
            await connection.execute(
                "insert into carafe.jobs_ended (id, kind, queue, state, args, version, attempt, max_attempts, fence,"
                " snoozes, releases, timeout, created_at, due_at, ended_at)"
                " values ($1, 'web.anything', 'default', 'dead', $2, 1, 1, 1, 1, 0, 0, 60, now(), now(), now())",
                job,
                args,
            )
            return str(job)
        finally:
            await connection.close()

    return asyncio.run(insert())


def same(url: str, one: str, other: str) -> bool:
    """Whether Postgres takes the arguments of two jobs for the same."""

    async def compare() -> bool:
        connection = await asyncpg.connect(plain_dsn(url))
        try:
            query = (
                "select (select args from carafe.jobs where id = $1) = (select args from carafe.jobs_ended where id = $2)"
            )
            return bool(await connection.fetchval(query, other, one))
        finally:
            await connection.close()

    return asyncio.run(compare())


def test_what_nobody_touched_stays_as_it_is(carafe: Command, database_url: str) -> None:
    values = [2**53 + 1, 2**64 - 1, -(2**63), 1e22, 1.2345678901234568e20, 0.1, 1e-7, [9007199254740993, {"a": 1e300}], None]
    job = store(database_url, json.dumps({"value": values}))
    new = carafe("jobs", "edit", job, "--json", **KINDS)
    assert new.code == 0, new.err
    assert same(database_url, job, new.json["id"])


def test_an_integer_that_not_every_side_could_carry_is_refused(carafe: Command, database_url: str) -> None:
    job = store(database_url, f'{{"value": {2**70}}}')
    refused = carafe("jobs", "edit", job, **KINDS)
    assert refused.code == 2
    assert "value: holds an integer beyond 64 bits" in refused.err
    for words in ([f"value={2**70}"], ["--json-args", f'{{"value": {2**70}}}']):
        assert "beyond 64 bits" in carafe("enqueue", "web.anything", *words, **KINDS).err
    assert "NaN or Infinity" in carafe("enqueue", "web.anything", "--json-args", '{"value": NaN}', **KINDS).err
    assert "NaN or Infinity" in carafe("enqueue", "web.anything", "--json-args", '{"value": 1e400}', **KINDS).err
    assert f"{2**70}" in carafe("jobs", "show", job).out
