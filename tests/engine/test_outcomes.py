"""The value or exception of a handler decides how its job ends, in the same way in every isolation mode."""

import hashlib
from typing import Any

import pytest
from pydantic import SecretStr

from carafe import Client, State
from tests.engine.conftest import Gates, States, Words
from tests.engine.jobs import DO
from tests.engine.worker_process import WorkerProcess
from tests.waiting import eventually

pytestmark = [pytest.mark.process, pytest.mark.usefixtures("worker")]

modes = pytest.mark.parametrize("mode", DO)


@modes
@pytest.mark.parametrize(
    ("what", "result"),
    [
        ("dict", {"a": [1, None, "ü"]}),
        ("model", {"name": "m", "size": 2}),
        ("dataclass", {"name": "d", "size": 3}),
        ("none", None),
    ],
)
async def test_a_value_is_stored_as_the_jobs_result(client: Client, mode: str, what: str, result: Any) -> None:
    job = await client.enqueue(DO[mode](what=what))
    record = await client.wait(job.id, timeout=20)
    assert (record.state, record.result, record.attempt, record.error) == (State.SUCCEEDED, result, 1, None)
    assert record.started_at is not None


@modes
async def test_progress_is_seen_while_the_job_runs(client: Client, gate: Gates, mode: str) -> None:
    async with gate() as number:
        job = await client.enqueue(DO[mode](what="progress", gate=number))

        async def seen() -> bool:
            record = await client.get(job.id)
            return record.progress == pytest.approx(0.4) and record.progress_note == "halfway"

        await eventually(seen)
        assert (await client.get(job.id)).state is State.RUNNING
    assert (await client.wait(job.id, timeout=20)).state is State.SUCCEEDED


@modes
@pytest.mark.parametrize("how", ["retry", "return retry"])
async def test_retry_spends_the_attempt_and_names_when(
    client: Client, becomes: States, worker: WorkerProcess, mode: str, how: str
) -> None:
    job = await client.enqueue(DO[mode](what=how, number=0.5))
    record = await client.wait(job.id, timeout=20)
    assert (record.state, record.result, record.attempt) == (State.SUCCEEDED, 2, 2)
    (failed,) = record.attempts
    assert (failed.attempt, failed.cause, failed.error_class, failed.error) == (1, "error", "Retry", "not yet")
    assert record.started_at is not None
    assert (record.started_at - failed.ended_at).total_seconds() >= 0.5
    (line,) = await eventually(lambda: worker.events("job retried", job_id=str(job.id)))
    assert line["delay"] == 0.5


@modes
@pytest.mark.parametrize("how", ["snooze", "return snooze"])
async def test_snooze_spends_no_attempt(client: Client, effects: Words, mode: str, how: str) -> None:
    job = await client.enqueue(DO[mode](what=how, number=0.01))
    record = await client.wait(job.id, timeout=20)
    assert (record.state, record.result, record.attempt, record.snoozes) == (State.SUCCEEDED, 1, 1, 1)
    assert await effects(job.id) == ["run", "run"]
    assert record.attempts == ()


@modes
@pytest.mark.parametrize("how", ["discard", "return discard"])
async def test_discard_ends_dead_at_once(client: Client, mode: str, how: str) -> None:
    job = await client.enqueue(DO[mode](what=how))
    record = await client.wait(job.id, timeout=20)
    assert (record.state, record.attempt, record.error_class, record.error) == (State.DEAD, 1, "Discard", "never")
    (failed,) = record.attempts
    assert (failed.cause, failed.error) == ("discarded", "never")


@modes
@pytest.mark.parametrize("how", ["cancel", "return cancel"])
async def test_cancel_ends_cancelled(client: Client, mode: str, how: str) -> None:
    job = await client.enqueue(DO[mode](what=how))
    record = await client.wait(job.id, timeout=20)
    assert (record.state, record.error, record.attempts) == (State.CANCELLED, "no longer wanted", ())


@modes
async def test_an_error_retries_three_times_with_growing_delays_and_ends_dead(
    client: Client, worker: WorkerProcess, mode: str
) -> None:
    job = await client.enqueue(DO[mode](what="error"))
    record = await client.wait(job.id, timeout=30)
    assert (record.state, record.attempt, record.max_attempts) == (State.DEAD, 4, 4)
    assert (record.error_class, record.error) == ("LookupError", "nothing there \\0 at all")
    assert [failed.attempt for failed in record.attempts] == [1, 2, 3, 4]
    for failed in record.attempts:
        assert (failed.cause, failed.error_class, failed.error) == ("error", "LookupError", "nothing there \\0 at all")
        assert failed.traceback is not None
        assert "handlers.py" in failed.traceback
        assert "/carafe/engine/" not in failed.traceback
        assert failed.worker
    (line,) = await eventually(lambda: worker.events("job failed", job_id=str(job.id)))
    delays = [line["delay"] for line in worker.events("job retried", job_id=str(job.id))]
    assert delays == sorted(delays)
    for delay, step in zip(delays, (0.05, 0.1, 0.2), strict=True):
        assert step <= delay <= 2 * step
    for delay, (failed, following) in zip(delays, zip(record.attempts, record.attempts[1:], strict=False), strict=True):
        assert following.started_at is not None
        assert (following.started_at - failed.ended_at).total_seconds() >= delay - 0.001
    assert line["attempt"] == 4
    assert line["error"].startswith("LookupError: nothing there")


@modes
@pytest.mark.parametrize(
    ("what", "error_class", "words"),
    [
        ("large", "PayloadTooLarge", "300,002 bytes of JSON; the limit is 262,144 (JOB_RESULT_LIMIT)"),
        ("not json", "ResultNotUsable", "the result (object) cannot be written as JSON"),
        ("nul", "ResultNotUsable", "NUL character"),
    ],
)
async def test_a_result_that_cannot_be_kept_ends_dead_with_the_reason(
    client: Client, mode: str, what: str, error_class: str, words: str
) -> None:
    job = await client.enqueue(DO[mode](what=what))
    record = await client.wait(job.id, timeout=20)
    assert (record.state, record.attempt) == (State.DEAD, 1)
    assert record.error_class is not None
    assert record.error is not None
    assert record.error_class.rpartition(".")[2] == error_class
    assert words in record.error
    assert record.attempts[0].cause == "result"


@modes
async def test_arguments_that_no_longer_validate_end_dead_at_once_without_their_values(
    client: Client, database: Any, becomes: States, mode: str
) -> None:
    # Stored by another release: this one cannot read it.
    job = await client.enqueue(DO[mode](what="none"), delay=3600)
    await database.execute(
        """update carafe.jobs set args = '{"what": "none", "gate": "hunter2", "number": ["sesame"]}' where id = $1""",
        job.id,
    )
    await client.run_now(job.id)
    record = await becomes(job.id, State.DEAD)
    (failed,) = record.attempts
    assert failed.cause == "validation"
    assert record.error is not None
    assert "gate: Input should be a valid integer" in record.error
    assert "number: Input should be a valid number" in record.error
    for text in (record.error, failed.error, failed.traceback or ""):
        assert "hunter2" not in text
        assert "sesame" not in text


@modes
async def test_a_secret_reaches_the_handler_whole_and_shows_nowhere_else(
    client: Client, worker: WorkerProcess, mode: str
) -> None:
    secret = f"open sesame in {mode}"
    job = await client.enqueue(DO[mode](what="secret", secret=SecretStr(secret)))
    record = await client.wait(job.id, timeout=20)
    assert record.result == hashlib.sha256(secret.encode()).hexdigest()
    assert record.args["secret"] == "**********"
    await eventually(lambda: worker.events("job completed", job_id=str(job.id)))
    assert secret not in worker.log
