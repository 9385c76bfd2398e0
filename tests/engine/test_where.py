"""Where does a running job hang: its worker says at which lines of code it is, in whatever it runs."""

import re

import pytest

from carafe import Client, JobNotFound, NotAllowedInState, State
from carafe.engine import to_threads
from carafe.engine.where import BLOCKS
from carafe.jobs.identifiers import uuid7
from tests.engine.conftest import Gates, States
from tests.engine.jobs import DO, AsyncDo, Commit, CommitApart, CommitInProcess, CommitInThread, Do
from tests.engine.worker_process import WorkerProcess
from tests.waiting import eventually

pytestmark = [pytest.mark.anyio, pytest.mark.process]

SECRET = "s3cr3t-of-the-tests"
LINE = re.compile(r"\S.*:\d+ in \S+")


async def where(client: Client, job: Do | Commit, becomes: States, *, at: str = "pass_gate") -> list[str]:
    """Where a job is that waits for its gate."""
    job_id = (await client.enqueue(job)).id
    await becomes(job_id, State.RUNNING)
    record = await client.stack(job_id, timeout=30)
    while record.lines == ("It waits for a slot.",) or not any(at in line for line in record.lines or ()):
        record = await client.stack(job_id, timeout=30)  # it has only begun
    assert record.lines is not None
    assert SECRET not in str(record)
    return list(record.lines)


@pytest.mark.parametrize("mode", DO)
async def test_a_job_is_shown_in_every_mode(
    worker: WorkerProcess, client: Client, becomes: States, gate: Gates, mode: str
) -> None:
    async with gate() as number:
        lines = await where(client, DO[mode](what="hold", gate=number, secret=SECRET), becomes)

    assert all(LINE.fullmatch(line) for line in lines), lines
    assert re.search(r"tests/engine/handlers\.py:\d+ in do_", lines[0]), "the handler comes first"
    assert any("in pass_gate" in line for line in lines)


async def test_an_async_handler_in_a_process_is_shown(
    worker: WorkerProcess, client: Client, becomes: States, gate: Gates
) -> None:
    async with gate() as number:
        lines = await where(client, CommitApart(word="w", gate=number), becomes)
    assert "in pass_gate_async" in "\n".join(lines)


async def test_what_blocks_the_loop_is_shown(worker: WorkerProcess, client: Client, becomes: States, gate: Gates) -> None:
    async with gate() as number:
        job_id = (await client.enqueue(AsyncDo(what="block", gate=number))).id
        await becomes(job_id, State.RUNNING)

        async def told() -> list[str]:
            lines = list((await client.stack(job_id, timeout=30)).lines or ())
            return lines if BLOCKS in lines else []

        lines = await eventually(told, 30)
    text = "\n".join(lines)
    assert lines[0] == BLOCKS
    assert text.index("in do_async") < text.index("in pass_gate")


async def test_a_handler_that_waits_for_a_thread_is_shown_with_the_thread(
    worker: WorkerProcess, client: Client, becomes: States, gate: Gates
) -> None:
    async with gate() as number:
        lines = await where(client, AsyncDo(what="hold in thread", gate=number), becomes)
    assert lines[0] == to_threads.WAITS
    assert "in do_async" in lines[1]
    thread = lines[lines.index(to_threads.THREAD) + 1 :]
    assert "in pass_gate" in thread[0], "the function of the thread comes first"


@pytest.mark.parametrize("kind", [CommitInThread, CommitInProcess])
async def test_a_plain_handler_that_waits_in_its_transaction_is_shown(
    worker: WorkerProcess, client: Client, becomes: States, gate: Gates, kind: type[Commit]
) -> None:
    async with gate() as number:
        lines = await where(client, kind(word="waits in its transaction", gate=number), becomes, at="do_execute")
    assert "in commit_plainly" in lines[0]
    assert "sqlalchemy" in "".join(lines[1:])


async def test_another_question_gets_another_answer(
    worker: WorkerProcess, client: Client, becomes: States, gate: Gates
) -> None:
    async with gate() as number:
        job_id = (await client.enqueue(DO["process"](what="hold", gate=number))).id
        await becomes(job_id, State.RUNNING)
        first = await client.stack(job_id, timeout=30)
        second = await client.stack(job_id, timeout=30)
    assert first.answered_at is not None
    assert second.answered_at is not None
    assert second.answered_at > first.answered_at
    assert (await becomes(job_id, State.SUCCEEDED)).state is State.SUCCEEDED


async def test_only_a_running_job_can_be_asked(client: Client) -> None:
    waiting = (await client.enqueue(AsyncDo(what="none"), delay=3600)).id
    with pytest.raises(NotAllowedInState, match="is scheduled: it cannot be asked where it is"):
        await client.stack(waiting)
    with pytest.raises(JobNotFound):
        await client.stack(uuid7())


async def test_without_an_answer_the_record_says_so(client: Client, becomes: States) -> None:
    job_id = (await client.enqueue(AsyncDo(what="none"), delay=3600)).id
    async with client.database.connection() as connection:
        # As of a worker that has just died.
        await connection.execute(
            "update carafe.jobs set state = 'running', worker = gen_random_uuid(), started_at = now() where id = $1", job_id
        )
    record = await client.stack(job_id, timeout=0)
    assert (record.answered_at, record.lines) == (None, None)
