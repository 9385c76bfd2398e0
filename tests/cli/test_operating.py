"""`carafe bulk`, `jobs discard`, `run_now` and `edit`, `workers`, `audit`: what operators do, from the command line."""

import asyncio
import getpass
import re
from typing import Any

import asyncpg
import pytest

from carafe.queue.queue import Queue
from carafe.steward.bulk import BulkWorker
from carafe.store.database import Database, plain_dsn
from tests.answering import ANSWERS_AT_ONCE, LINE
from tests.cli.conftest import Command


def query(url: str, statement: str, *values: Any) -> list[tuple[Any, ...]]:
    async def go() -> list[tuple[Any, ...]]:
        connection = await asyncpg.connect(plain_dsn(url))
        try:
            return [tuple(row) for row in await connection.fetch(statement, *values)]
        finally:
            await connection.close()

    return asyncio.run(go())


def work_off(url: str, redis_url: str) -> None:
    """What the steward does."""

    async def go() -> None:
        database, queue = Database(url), Queue(redis_url)
        try:
            await BulkWorker(database, queue).round()
        finally:
            await queue.close()
            await database.close()

    asyncio.run(go())


def dead(carafe: Command, url: str, *arguments: str) -> str:
    """A job, dead."""
    job_id = carafe("enqueue", "cli.greet", *(arguments or ("name=Ada",))).out.strip()
    query(
        url,
        """with ended as (delete from carafe.jobs where id = $1 returning *)
        insert into carafe.jobs_ended (id, kind, queue, state, args, secrets, version, attempt, max_attempts, fence, snoozes,
            releases, timeout, created_at, due_at, ended_at, error_class, error, error_fingerprint)
        select id, kind, queue, 'dead', args, secrets, version, 1, 1, 1, 0, 0, timeout, created_at, due_at, now(),
            'ValueError', 'boom', 'abc' from ended""",
        job_id,
    )
    return job_id


def audited(url: str, target: str) -> list[tuple[Any, ...]]:
    return query(url, "select actor, via, action, reason from carafe.audit where target = $1 order by at, id", target)


ME = getpass.getuser()


def test_a_job_is_discarded_retried_and_run_now(carafe: Command, database_url: str) -> None:
    job = dead(carafe, database_url)
    assert carafe("jobs", "discard", job).code == 2
    assert carafe("jobs", "discard", job, "--reason", "the feed is gone").code == 0
    assert f"by {ME}: the feed is gone" in carafe("jobs", "show", job).out
    twice = carafe("jobs", "discard", job, "--reason", "again")
    assert (twice.code, "discarded again" in twice.err) == (4, True)
    assert carafe("jobs", "retry", job, "--reason", "it is back").out == f"{job}  queued\n"
    later = carafe("enqueue", "cli.greet", "name=Bob", "--delay", "1h").out.strip()
    assert carafe("jobs", "run_now", later).out == f"{later}  queued\n"
    assert carafe("jobs", "cancel", later, "--reason", "no need").code == 0
    assert [row[:3] for row in audited(database_url, later)] == [
        (ME, "cli", "enqueue"),
        (ME, "cli", "run_now"),
        (ME, "cli", "cancel"),
    ]
    assert [row[2:] for row in audited(database_url, job)][1:] == [
        ("discard", "the feed is gone"),
        ("retry", "it is back"),
    ]


def test_a_job_is_edited_and_its_secret_kept(carafe: Command, database_url: str) -> None:
    job = dead(carafe, database_url, "name=Ada", "count=2", "password=hunter2")
    new = carafe("jobs", "edit", job, "name=Eve", "--json").json
    assert new["origin"] == job
    [[arguments]] = query(database_url, "select args::text from carafe.jobs where id = $1", new["id"])
    assert '"name": "Eve"' in arguments
    assert '"count": 2' in arguments
    assert '"password": "hunter2"' in arguments
    other = carafe("jobs", "edit", job, "password=other").out.strip()
    [[arguments]] = query(database_url, "select args::text from carafe.jobs where id = $1", other)
    assert '"password": "other"' in arguments
    wrong = carafe("jobs", "edit", job, "count=many")
    assert (wrong.code, "count" in wrong.err) == (2, True)
    assert [row[2] for row in audited(database_url, other)] == ["edit and run"]


def test_many_are_retried(carafe: Command, database_url: str, redis_url: str) -> None:
    jobs = {dead(carafe, database_url, f"name=bulk {index}") for index in range(3)}
    answer = carafe("bulk", "start", "retry", "--kind", "cli.greet", "--text", "BOOM", "--since", "1h", "--rate", "100")
    assert answer.code == 0, answer.err
    bulk = answer.out.strip()
    assert "jobs, at most 100 a second" in answer.err
    assert carafe("bulk", "pause", bulk).out.splitlines()[2].split() == ["state", "paused"]
    assert carafe("bulk", "resume", bulk, "--json").json["state"] == "running"
    work_off(database_url, redis_url)
    shown = carafe("bulk", "show", bulk, "--json").json
    assert shown["state"] == "done"
    assert shown["done"] == shown["matched"] >= 3
    assert bulk in carafe("bulk").out
    ended = carafe("bulk", "cancel", bulk)
    assert (ended.code, "is done" in ended.err) == (4, True)
    assert {job for (job,) in query(database_url, "select id::text from carafe.jobs")} >= jobs


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["retry"], "say which jobs"),
        (["discard", "--all"], "reason: must be given"),
        (["retry", "--all", "--state", "queued"], "state: retry is for jobs that are dead"),
        (["retry", "--all", "--rate", "0"], "rate: must be from"),
        (["retry", "--arg", "name"], "--arg takes NAME=VALUE"),
        (["retry", "--since", "soon"], "--since takes"),
        # A variable of a script that is not set must not widen the action to every job.
        (["run_now", "--kind", "", "--since", "2h"], "kind: must not be empty"),
        (["run_now", "--all", "--text", " "], "text: must not be empty"),
        (["run_now", "--all", "--since", ""], "--since takes"),
        (["run_now", "--all", "--arg", ""], "--arg takes NAME=VALUE"),
    ],
)
def test_what_is_wrong_is_said(carafe: Command, arguments: list[str], said: str) -> None:
    answer = carafe("bulk", "start", *arguments)
    assert (answer.code, answer.out) == (2, "")
    assert said in answer.err


def test_what_is_not_there_is_code_3(carafe: Command) -> None:
    unknown = "01980a2e-7c11-7000-8000-000000000001"
    for arguments in (("bulk", "show", unknown), ("bulk", "pause", unknown), ("workers", "drain", unknown)):
        assert carafe(*arguments).code == 3, arguments


def test_a_worker_is_listed_and_drained(carafe: Command, database_url: str) -> None:
    [[worker]] = query(
        database_url,
        """insert into carafe.workers (id, name, host, pid, incarnation, version, kinds, concurrency, state)
        values (gen_random_uuid(), 'worker one', 'here', 1, 'x', '0', '{}', 5, 'running') returning id::text""",
    )
    drained = carafe("workers", "drain", worker, "--reason", "a bad node")
    assert (drained.code, drained.out.startswith(f"{worker}  asked to drain")) == (0, True)
    assert audited(database_url, worker) == [(ME, "cli", "drain worker", "a bad node")]
    assert "asked to drain" in carafe("workers").out
    assert carafe("workers", "--json").json["live"][0]["id"] == worker


def test_the_audit_reads_the_spelling_of_the_release_before(carafe: Command, database_url: str) -> None:
    # In a rollout, processes of that release write it after migration 0006.
    query(
        database_url,
        """insert into carafe.audit (id, actor, via, action, target)
        values (gen_random_uuid(), 'ana', 'api', 'run now', 'old')""",
    )
    assert [row["action"] for row in carafe("audit", "--target", "old", "--json").json["rows"]] == ["run_now"]


def test_the_audit_is_listed(carafe: Command, database_url: str) -> None:
    job = dead(carafe, database_url)
    carafe("jobs", "discard", job, "--reason", "gone")
    heading, newest, *_ = carafe("audit", "--target", job).out.splitlines()
    assert heading.split()[:4] == ["AT", "WHO", "VIA", "WHAT"]
    assert (ME in newest, "discard" in newest, "gone" in newest) == (True, True, True)
    assert carafe("audit", "--limit", "1", "--json").json["rows"][0]["action"] == "discard"


def test_a_running_job_is_asked_where_it_is(carafe: Command, database_url: str) -> None:
    job_id = carafe("enqueue", "cli.greet", "name=Ada").out.strip()
    waits = carafe("jobs", "stack", job_id)
    assert (waits.code, "it cannot be asked where it is" in waits.err) == (4, True)
    query(
        database_url,
        "update carafe.jobs set state = 'running', worker = gen_random_uuid(), started_at = now() where id = $1",
        job_id,
    )
    silent = carafe("jobs", "stack", job_id)
    assert (silent.code, "has not answered" in silent.err) == (9, True)
    assert "it is not known any more" in silent.err
    query(
        database_url,
        """insert into carafe.workers (id, name, host, pid, incarnation, version, kinds, concurrency, state, beat_at)
        select worker, 'frozen-1', 'h', 1, 'i', '1', '{cli.greet}', 1, 'running', now() - interval '11 seconds'
        from carafe.jobs where id = $1""",
        job_id,
    )
    frozen = carafe("jobs", "stack", job_id)
    assert frozen.code == 9
    assert re.search(r"worker frozen-1 has not answered .*: its last heartbeat is 1\d(\.\d+)? s old", frozen.err)
    for statement in ANSWERS_AT_ONCE:
        query(database_url, statement)
    answered = carafe("jobs", "stack", job_id)
    assert (answered.code, answered.out) == (0, f"{LINE}\n")
    assert re.search(r"worker frozen-1 answered at \S+", answered.err)
    assert carafe("jobs", "stack", job_id, "--json").json["lines"] == [LINE]
    query(database_url, "delete from carafe.stacks where job_id = $1", job_id)
    query(database_url, "update carafe.jobs set state = 'queued', worker = null where id = $1", job_id)
    query(
        database_url,
        """insert into carafe.attempts
            (job_id, kind, fence, attempt, cause, error_class, error, worker_name, started_at, ended_at)
        values ($1, 'cli.greet', 1, 1, 'worker lost', 'WorkerLost', 'gone', 'frozen-1', now(), now())""",
        job_id,
    )
    lost = carafe("jobs", "stack", job_id)
    assert lost.code == 4
    assert "its worker frozen-1 was lost at" in lost.err
    query(database_url, "delete from carafe.workers where name = 'frozen-1'")


def test_a_pause_that_older_workers_do_not_know_is_warned_of(carafe: Command, database_url: str) -> None:
    query(
        database_url,
        "insert into carafe.workers (id, name, host, pid, incarnation, version, kinds, concurrency, state)"
        " values (gen_random_uuid(), 'old', 'h', 1, 'old', '0.2.0', '{cli.greet}', 5, 'running')",
    )
    said = "1 live worker of version 0.2.0 (old) does not know pauses of kinds"
    paused = carafe("kinds", "pause", "cli.greet")
    assert (paused.code, f"warning: {said} and still starts jobs of 'cli.greet': replace it" in paused.err) == (0, True)
    assert said in carafe("kinds", "paused").err
    assert said in carafe("kinds", "paused", "--json").json[0]["note"]
    found = carafe("doctor", "--json").json
    assert [finding["level"] for finding in found if finding["text"] == said] == ["warning"]
    query(database_url, "delete from carafe.workers where name = 'old'")
    assert carafe("kinds", "pause", "cli.greet").err == ""
    assert carafe("kinds", "resume", "cli.greet").code == 0
