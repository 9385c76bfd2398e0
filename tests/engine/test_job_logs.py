"""What a handler logs is kept with its job: the last lines of every claim, stored about once a second and at its end."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

import pytest

from carafe import Client, State
from carafe.store.job_logs import MAX_BYTES, MAX_LINES, LogLine, read, were_cut
from tests.engine.conftest import ClientWith, Gates
from tests.engine.logging_jobs import SAY, AsyncSay, ProcessSay, ThreadSay
from tests.engine.worker_process import WorkerProcess
from tests.waiting import eventually

pytestmark = pytest.mark.process

modes = pytest.mark.parametrize("mode", SAY)

MARKUP = "<script>alert('&amp;')</script><img src=x onerror=alert(1)> \x1b[31mred\x1b[0m {{ 7 * 7 }}"

Logged = Callable[..., Awaitable[list[LogLine]]]


@pytest.fixture(scope="module")
def worker_settings() -> dict[str, str]:
    return {
        "JOB_MODULES": "tests.engine.jobs,tests.engine.logging_jobs",
        "HANDLER_MODULES": "tests.engine.handlers,tests.engine.logging_handlers",
    }


@pytest.fixture
def logged(client: Client) -> Logged:
    """Waits until a job has logged this many lines; all of them."""

    async def wait(job_id: UUID, lines: int, within: float = 60.0) -> list[LogLine]:
        found: list[LogLine] = []

        async def check() -> bool:
            async with client.database.connection() as connection:
                found[:] = await read(connection, job_id)
            assert len(found) >= lines, found
            return True

        await eventually(check, within)
        return found

    return wait


async def rows(database: Any, job_id: UUID) -> list[Any]:
    return list(await database.fetch("select * from carafe.job_logs where job_id = $1 order by fence, first", job_id))


@modes
async def test_the_lines_of_both_kinds_of_logger_are_kept_in_order(
    client: Client, logged: Logged, worker: WorkerProcess, mode: str
) -> None:
    job = await client.enqueue(SAY[mode](what="all kinds"))
    assert (await client.wait(job.id, timeout=60)).state is State.SUCCEEDED
    lines = await logged(job.id, 5)
    assert [line.level for line in lines] == ["warning", "info", "error", "error", "info"]
    assert [line.number for line in lines] == [1, 2, 3, 4, 5]
    assert {(line.fence, line.attempt) for line in lines} == {(1, 1)}
    assert lines == sorted(lines, key=lambda line: line.at)
    plain, structured, failed, wrong, unstorable = (line.text for line in lines)
    assert plain == "plain 1 of 2 customer=ana"
    assert structured == "structured briefing=7 note=a b"
    assert failed.startswith("it failed step=lookup\nTraceback (most recent call last):")
    assert failed.endswith("LookupError: nothing there")
    assert wrong == "'wrong %d' (its values cannot be shown: TypeError)"
    assert unstorable == "nul \\0 and half a surrogate \\ud800"
    assert not were_cut(lines)
    # The worker's own log has them too, the child's like the others.
    assert worker.events("structured", briefing=7)


@modes
async def test_markup_is_kept_as_it_was_said(client: Client, logged: Logged, worker: WorkerProcess, mode: str) -> None:
    job = await client.enqueue(SAY[mode](text=MARKUP))
    (line,) = await logged(job.id, 1)
    assert line.text == f"{MARKUP}0"


@modes
async def test_lines_are_seen_while_the_job_runs(
    client: Client, logged: Logged, gate: Gates, worker: WorkerProcess, mode: str
) -> None:
    async with gate() as number:
        job = await client.enqueue(SAY[mode](text="before ", gate=number))
        (line,) = await logged(job.id, 1)
        assert line.text == "before 0"
        assert (await client.get(job.id)).state is State.RUNNING
    assert (await client.wait(job.id, timeout=60)).state is State.SUCCEEDED
    assert [line.text for line in await logged(job.id, 2)] == ["before 0", "through the gate"]


@modes
async def test_the_last_lines_are_kept(
    client: Client, database: Any, logged: Logged, worker: WorkerProcess, mode: str
) -> None:
    job = await client.enqueue(SAY[mode](text="line ", count=1_000))
    lines = await logged(job.id, MAX_LINES)
    assert [line.text for line in lines] == [f"line {number}" for number in range(800, 1_000)]
    assert lines[0].number == 801
    assert were_cut(lines)
    assert sum(len(row["texts"]) for row in await rows(database, job.id)) == MAX_LINES


@modes
async def test_the_last_bytes_are_kept_and_a_long_line_is_cut(
    client: Client, logged: Logged, worker: WorkerProcess, mode: str
) -> None:
    long = "ü" * 5_000  # 10,000 bytes each
    job = await client.enqueue(SAY[mode](text=long, count=20))
    lines = await logged(job.id, 6)
    assert [line.text for line in lines] == [f"{long}{number}" for number in range(14, 20)]
    assert sum(len(line.text.encode()) for line in lines) <= MAX_BYTES

    longer = await client.enqueue(SAY[mode](text="x" * 100_000))
    (line,) = await logged(longer.id, 1)
    assert line.text == "x" * 8_191 + "…"


async def test_stored_lines_that_later_ones_push_out_are_forgotten(
    client: Client, database: Any, logged: Logged, gate: Gates, worker: WorkerProcess
) -> None:
    async with gate() as number:
        job = await client.enqueue(AsyncSay(what="say again", text="line ", count=MAX_LINES - 1, gate=number))
        await logged(job.id, MAX_LINES - 1)
    await client.wait(job.id, timeout=60)

    async def first_stored() -> bool:
        firsts: list[int] = [row["first"] for row in await rows(database, job.id)]
        return min(firsts) == MAX_LINES

    await eventually(first_stored, 60)
    lines = await logged(job.id, MAX_LINES)
    assert [line.text for line in lines[:2]] == ["through the gate", "line 0"]
    assert len(lines) == MAX_LINES


@modes
async def test_attempts_are_told_apart(client_with: ClientWith, logged: Logged, worker: WorkerProcess, mode: str) -> None:
    job = await client_with(max_retries=1).enqueue(SAY[mode](what="fail"))
    lines = await logged(job.id, 2)
    assert [line.text for line in lines] == ["attempt 1 of the job", "attempt 2 of the job"]
    assert [(line.attempt, line.number) for line in lines] == [(1, 1), (2, 1)]
    assert lines[0].fence < lines[1].fence


async def test_lines_of_a_failed_attempt_are_kept_as_long_as_dead_jobs(
    client_with: ClientWith, client: Client, database: Any, logged: Logged, gate: Gates, worker: WorkerProcess
) -> None:
    async with gate() as number:
        job = await client_with(max_retries=0, timeout=2).enqueue(AsyncSay(text="before ", gate=number))
        await logged(job.id, 1)
        assert [row["failed"] for row in await rows(database, job.id)] == [False]
        assert (await client.wait(job.id, timeout=60)).state is State.DEAD  # its timeout

        async def moved() -> bool:
            return [(row["failed"], row["texts"]) for row in await rows(database, job.id)] == [(True, ["before 0"])]

        await eventually(moved)


async def test_the_last_words_of_a_child_that_is_killed_are_kept(
    client_with: ClientWith, logged: Logged, worker: WorkerProcess
) -> None:
    job = await client_with(max_retries=0).enqueue(ProcessSay(what="die"))
    (line,) = await logged(job.id, 1)
    assert line.text == "the last words"


async def test_threads_of_the_loop_know_their_job_and_own_threads_do_not(
    client: Client, logged: Logged, worker: WorkerProcess
) -> None:
    job = await client.enqueue(AsyncSay(what="in thread"))
    assert [line.text for line in await logged(job.id, 1)] == ["from a thread of the loop"]
    job = await client.enqueue(ThreadSay(what="own thread"))
    assert [line.text for line in await logged(job.id, 1)] == ["mine"]


async def test_what_outlives_its_job_logs_for_nobody(
    client: Client, logged: Logged, gate: Gates, worker: WorkerProcess
) -> None:
    async with gate() as number:
        job = await client.enqueue(AsyncSay(what="leave behind", gate=number))
        await client.wait(job.id, timeout=60)
        await logged(job.id, 1)
    await eventually(lambda: worker.events("too late"))
    others = [await client.enqueue(AsyncSay(text="after ")) for _ in range(10)]
    for other in others:
        assert [line.text for line in await logged(other.id, 1)] == ["after 0"]
    assert [line.text for line in await logged(job.id, 1)] == ["in time"]


async def test_a_job_that_logs_nothing_leaves_no_row(
    client: Client, database: Any, logged: Logged, worker: WorkerProcess
) -> None:
    silent = await client.enqueue(AsyncSay(what="nothing"))
    await client.wait(silent.id, timeout=60)
    # One that ends after it is stored after it.
    after = await client.enqueue(AsyncSay())
    await logged(after.id, 1)
    assert await rows(database, silent.id) == []


async def test_lines_wait_for_postgres(client: Client, database: Any, logged: Logged, worker: WorkerProcess) -> None:
    """As long as the table is locked; an outage of Postgres as a whole is the same to the writer."""
    async with database.acquire() as connection, connection.transaction():
        await connection.execute("lock table carafe.job_logs in access exclusive mode")
        job = await client.enqueue(AsyncSay(text="kept "))
        assert (await client.wait(job.id, timeout=60)).state is State.SUCCEEDED
        await eventually(lambda: worker.events("job logs not stored"), within=60)
    assert [line.text for line in await logged(job.id, 1)] == ["kept 0"]


async def test_many_jobs_at_once_keep_their_lines_apart(client: Client, logged: Logged, worker: WorkerProcess) -> None:
    jobs = await client.enqueue_many(
        [SAY[mode](text=f"{mode} {i} ", count=3) for i in range(20) for mode in ("async", "thread")]
    )
    await asyncio.gather(*(client.wait(job.id, timeout=60) for job in jobs))
    for index, job in enumerate(jobs):
        said = f"{('async', 'thread')[index % 2]} {index // 2} "
        assert [line.text for line in await logged(job.id, 3)] == [f"{said}{number}" for number in range(3)]
