"""Handlers that change process-wide state: other jobs run as usual, the log says what was restored, and the worker still
drains and ends on request."""

import asyncio

import pytest

from carafe import Client, State
from carafe.engine.children import Children, NotStarted
from tests.engine.conftest import ClientWith, StartWorker
from tests.engine.spoiling_jobs import Apart, Plain, Spoil
from tests.engine.worker_process import WorkerProcess
from tests.waiting import eventually

pytestmark = pytest.mark.process

PUT_BACK = {
    "log filter": "the log's configuration",
    "log records": "how log records are made",
    "structlog": "structlog's configuration",
    "loggers": "the log's configuration",
    "open files": "the limit of open files",
    "turns": "how often threads take turns",
    "garbage": "how often garbage is collected",
    "stacks": "the size of a thread's stack",
}


@pytest.fixture(scope="module")
def worker_settings() -> dict[str, str]:
    return {
        "JOB_MODULES": "tests.engine.spoiling_jobs",
        "HANDLER_MODULES": "tests.engine.spoiling_handlers",
        # One, so that whatever is left to a thread is the next job's.
        "WORKER_CONCURRENCY": "1",
    }


@pytest.fixture(scope="module")
def once(client_with: ClientWith) -> Client:
    return client_with(max_retries=0)


async def spoils(once: Client, what: str) -> None:
    job = await once.enqueue(Spoil(what=what))
    record = await once.wait(job.id, timeout=30)
    assert (record.state, record.error) == (State.SUCCEEDED, None)


async def neighbours_run(once: Client) -> None:
    for kind, result in ((Apart, True), (Apart, True), (Plain, "There is no current event loop in thread")):
        job = await once.enqueue(kind())
        record = await once.wait(job.id, timeout=60)
        assert (record.state, record.error, record.attempt) == (State.SUCCEEDED, None, 1)
        assert record.result == result or str(record.result).startswith(str(result))


@pytest.fixture(scope="module")
async def ran(once: Client, worker: WorkerProcess) -> None:
    """They have run, before anything is spoilt; before the next thing is, they have run after the last."""
    await neighbours_run(once)


@pytest.mark.usefixtures("ran")
@pytest.mark.parametrize("what", ["environment", "folder", "children", "loop of the thread", *PUT_BACK])
async def test_neighbours_run_as_ever(once: Client, worker: WorkerProcess, what: str) -> None:
    await spoils(once, what)
    if what in PUT_BACK:
        event = "a handler has changed state of the whole process: restored"
        await eventually(lambda: any(PUT_BACK[what] in line["what"] for line in worker.events(event)))
    await neighbours_run(once)
    assert worker.probe("/readyz") == (200, "ok")


@pytest.mark.parametrize("what", ["log handler", "exit"])
async def test_a_spoilt_worker_ends_when_it_is_told_to(
    once: Client, start_worker: StartWorker, worker: WorkerProcess, what: str
) -> None:
    await worker.stop()  # the module's, so that the job comes to the new one
    second = await start_worker()
    await spoils(once, what)
    await neighbours_run(once)
    second.signal()
    assert await second.ended() == 0, second.log
    said = "draining (the log is broken: LookupError)" if what == "log handler" else "functions registered with atexit"
    assert said in second.log


async def test_a_process_that_cannot_be_started_is_not_its_jobs_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    children = Children(["tests.engine.spoiling_jobs"], ["tests.engine.spoiling_handlers"])

    def no_more(*_: object, **__: object) -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr("subprocess.Popen", no_more)
    with pytest.raises(NotStarted):
        await asyncio.to_thread(children._take)
