"""`ctx.transaction()`: a handler's own writes and the end of its job are one commit."""

from typing import Any

import pytest

from carafe import Client, State
from carafe.engine.completions import STALE
from carafe.queue.hints import Hint, stamp_of
from carafe.store.job_logs import read
from tests.engine.conftest import ClientWith, Counts, Gates, Words
from tests.engine.jobs import COMMITS, Commit, CommitInProcess, CommitInThread, CommitWithin
from tests.engine.worker_process import WorkerProcess
from tests.waiting import eventually

pytestmark = [pytest.mark.process, pytest.mark.usefixtures("worker")]


@pytest.mark.parametrize("kind", COMMITS)
async def test_the_effect_and_the_end_are_one_commit(client: Client, database: Any, kind: type[Commit]) -> None:
    job = await client.enqueue(kind(word="done"))
    record = await client.wait(job.id, timeout=20)
    assert (record.state, record.result, record.attempt) == (State.SUCCEEDED, {"committed": "done"}, 1)
    (effect,) = await database.fetch("select xmin::text, word from effects where job_id = $1", job.id)
    end = await database.fetchval("select xmin::text from carafe.jobs_ended where id = $1", job.id)
    assert (effect["word"], effect["xmin"]) == ("done", end)


@pytest.mark.parametrize("kind", COMMITS)
async def test_an_error_inside_leaves_neither(client_with: ClientWith, effects: Words, kind: type[Commit]) -> None:
    client = client_with(max_retries=1)
    job = await client.enqueue(kind(word="undone", fail=True))
    record = await client.wait(job.id, timeout=20)
    assert (record.state, record.attempt, record.error) == (State.DEAD, 2, "after the effect")
    assert [failed.error_class for failed in record.attempts] == ["LookupError", "LookupError"]
    assert [failed.error for failed in record.attempts] == ["after the effect"] * 2
    for failed in record.attempts if kind in (CommitInThread, CommitInProcess) else ():
        assert failed.traceback is not None
        assert "/carafe/" not in failed.traceback
    assert await effects(job.id) == []


@pytest.mark.parametrize("kind", COMMITS)
async def test_a_transaction_inside_another_is_refused(client_with: ClientWith, effects: Words, kind: type[Commit]) -> None:
    client = client_with(max_retries=0)
    job = await client.enqueue(kind(word="nests"))
    record = await client.wait(job.id, timeout=20)
    assert (record.state, record.error_class) == (State.DEAD, "carafe.jobs.errors.InvalidOption")
    assert "transaction: is already open in this attempt" in str(record.error)
    assert await effects(job.id) == []


@pytest.mark.parametrize("kind", COMMITS)
async def test_of_two_runs_of_one_job_the_stale_one_is_rolled_back(
    client: Client,
    database: Any,
    effects: Words,
    gate: Gates,
    worker: WorkerProcess,
    counts: Counts,
    kind: type[Commit],
) -> None:
    before = counts().get("stale", 0)
    async with gate() as number:
        job = await client.enqueue(kind(word="once", gate=number))

        async def begun(times: int) -> bool:
            return await effects(job.id) == ["begun"] * times

        await eventually(lambda: begun(1))
        # As if its worker had been declared lost: the job is free, and somebody else claims it.
        hinted_at = await database.fetchval(
            """update carafe.jobs set state = 'queued', worker = null, started_at = null, deadline_at = null,
               hinted_at = clock_timestamp() where id = $1 returning hinted_at""",
            job.id,
        )
        await client.queue.push([Hint(job.id, job.kind, stamp_of(hinted_at))])
        await eventually(lambda: begun(2))
    record = await client.wait(job.id, timeout=20)
    assert (record.state, record.attempt, record.result) == (State.SUCCEEDED, 1, {"committed": "once by run 2"})
    await eventually(lambda: counts().get("stale", 0) == before + 1)
    assert sorted(await effects(job.id)) == ["begun", "begun", "once by run 2"]
    assert record.attempts == ()
    (line,) = await eventually(lambda: worker.events(STALE.words, job_id=str(job.id)))
    assert "StaleClaim" in line["error"]


@pytest.mark.parametrize("kind", COMMITS)
async def test_what_follows_the_transaction_runs_though_beats_find_the_row_gone(
    client: Client, database: Any, effects: Words, gate: Gates, worker: WorkerProcess, kind: type[Commit]
) -> None:
    async def next_beat() -> None:
        last = await database.fetchval("select max(beat_at) from carafe.workers")

        async def beaten() -> bool:
            return bool(await database.fetchval("select max(beat_at) > $1 from carafe.workers", last))

        await eventually(beaten)

    async with gate() as number:
        job = await client.enqueue(kind(word="done", then=number))
        assert (await client.wait(job.id, timeout=30)).state is State.SUCCEEDED
        for _ in range(3):
            await next_beat()
        assert await effects(job.id) == ["done"]

    async def afterwards() -> bool:
        return await effects(job.id) == ["done", "afterwards"]

    await eventually(afterwards)
    await eventually(lambda: worker.events("job completed", job_id=str(job.id)))
    (told,) = worker.events("too late: ctx.transaction() has already ended the job", job_id=str(job.id))
    assert told["what"].startswith("it returned a value that is not the job's result")

    async def in_the_jobs_log() -> bool:
        async with client.database.connection() as connection:
            return [line.level for line in await read(connection, job.id) if told["event"] in line.text] == ["warning"]

    await eventually(in_the_jobs_log)
    assert worker.events("a running job is no longer ours, stopping it", job_id=str(job.id)) == []


async def test_a_connection_that_has_died_unused_is_nobodys_loss(client_with: ClientWith, database: Any) -> None:
    once = client_with(max_retries=0)
    assert (await once.wait((await once.enqueue(Commit(word="first"))).id, timeout=20)).state is State.SUCCEEDED
    ended = await database.fetch(
        "select pg_terminate_backend(pid, 5000) as ended from pg_stat_activity"
        " where application_name like 'carafe handlers%' and datname = current_database()"
    )
    assert ended
    assert all(row["ended"] for row in ended)
    record = await once.wait((await once.enqueue(Commit(word="second"))).id, timeout=20)
    assert (record.state, record.error) == (State.SUCCEEDED, None)


@pytest.mark.parametrize(
    ("what", "error_class"),
    [
        ("TimeoutError", "TimeoutError"),
        ("OSError", "ConnectionRefusedError"),
        ("InterfaceError", "asyncpg.exceptions._base.InterfaceError"),
        ("a pool of its own", "sqlalchemy.exc.TimeoutError"),
    ],
)
async def test_what_the_handler_raises_inside_is_its_own_and_not_postgress(
    client: Client, worker: WorkerProcess, what: str, error_class: str
) -> None:
    job = await client.enqueue(CommitWithin(what=what))
    record = await client.wait(job.id, timeout=20)
    (failed,) = record.attempts
    assert (failed.error_class, failed.error) == (error_class, "of the handler's own")
    assert (record.state, record.attempt) == (State.SUCCEEDED, 2)


async def test_the_handlers_own_timeout_reaches_the_hook_that_it_waits_for(
    client: Client, worker: WorkerProcess, effects: Words
) -> None:
    job = await client.enqueue(CommitWithin(what="hook for ever"))
    record = await client.wait(job.id, timeout=20)
    (failed,) = record.attempts
    assert failed.error_class == "TimeoutError"
    assert record.state is State.SUCCEEDED
    assert not worker.events_like("a handler has tried to cancel tasks")
    # The hook sees the attempt that the job's record has.
    assert record.attempt == 2
    assert await effects(job.id) == ["attempt 2"]


PLAIN = pytest.mark.parametrize("kind", [CommitInThread, CommitInProcess])


@PLAIN
async def test_hooks_run_in_the_transaction_of_a_plain_function(
    client: Client, client_with: ClientWith, database: Any, effects: Words, kind: type[Commit]
) -> None:
    job = await client.enqueue(kind(word="hooked"))
    assert (await client.wait(job.id, timeout=20)).state is State.SUCCEEDED
    assert await effects(job.id) == ["hooked", "hook of hooked"]
    assert await database.fetchval("select count(distinct xmin::text) from effects where job_id = $1", job.id) == 1

    refused = await client_with(max_retries=0).enqueue(kind(word="hook fails"))
    record = await client.wait(refused.id, timeout=20)
    assert (record.state, record.result) == (State.DEAD, None)
    assert "LookupError: not this one" in str(record.error)
    assert await effects(refused.id) == []


@PLAIN
@pytest.mark.parametrize(
    ("word", "error_class", "words"),
    [
        ("swallows", "StatementFailed", "division by zero"),
        ("loses its connection", "", ""),
        ("exits", "SystemExit", "for no reason"),
        ("commits", "TransactionEnded", ""),
        ("another thread", "InvalidOption", "transaction: can only be opened in the handler's own thread"),
    ],
)
async def test_what_spoils_the_transaction_of_a_plain_function_fails_its_attempt(
    client_with: ClientWith,
    worker: WorkerProcess,
    effects: Words,
    kind: type[Commit],
    word: str,
    error_class: str,
    words: str,
) -> None:
    client = client_with(max_retries=0)
    job = await client.enqueue(kind(word=word))
    record = await client.wait(job.id, timeout=20)
    assert record.state is State.DEAD
    assert str(record.error_class).endswith(error_class)
    assert words in str(record.error)
    assert await effects(job.id) == []
    # The worker and its connections are none the worse for it.
    well = [await client.enqueue(kind(word="savepoint")) for _ in range(8)]
    for other in well:
        assert (await client.wait(other.id, timeout=20)).state is State.SUCCEEDED
    assert worker.probe("/livez") == (200, "ok")


async def test_a_plain_function_that_outlasts_its_timeout_in_the_transaction_still_ends_its_job_once(
    client_with: ClientWith, worker: WorkerProcess, effects: Words, gate: Gates
) -> None:
    client = client_with(timeout=0.3)
    async with gate() as number:
        job = await client.enqueue(CommitInThread(word="late", gate=number))

        async def begun() -> bool:
            return await effects(job.id) == ["begun"]

        await eventually(begun)
        record = await client.get(job.id)
        assert record.deadline_at is not None

        async def is_over() -> bool:
            async with client.database.connection() as connection:
                return bool(await connection.fetchval("select now() > $1", record.deadline_at))

        await eventually(is_over)
    record = await client.wait(job.id, timeout=20)
    assert (record.state, record.attempt, record.result) == (State.SUCCEEDED, 1, {"committed": "late by run 1"})
    assert await effects(job.id) == ["begun", "late by run 1"]
