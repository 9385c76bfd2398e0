"""A handler can do nothing to its worker but end its own job (docs/design rule 10).

One worker runs everything below. Each hostile job ends once, with words that name its cause, and an ordinary job after it
runs as ever; at the end the worker has as many slots, threads, descriptors, children and connections as before.
"""

import signal
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import psutil
import pytest

from carafe import Client, State
from carafe.engine.arrivals import CLAIMS
from carafe.engine.writer import WRITES
from carafe.jobs.records import JobRecord
from tests.engine.conftest import ClientWith, StartWorker, States
from tests.engine.hostile_handlers import ACTS, BUILTINS, IN_A_THREAD_OF_OURS, ON_THE_LOOP, Act
from tests.engine.hostile_jobs import HostileAsync, HostileProcess, HostileThread, Joins, Ordinary, OrdinaryThread, Waits
from tests.engine.worker_process import WorkerProcess
from tests.waiting import eventually

pytestmark = [pytest.mark.process, pytest.mark.usefixtures("worker")]

DONE = ["done", "", 28]
"""What an ordinary job returns: its context is clean, and the precision of decimal numbers Python's own."""

IN_PROCESSES = (
    *(what for what in ACTS if what.removeprefix("raises ") not in BUILTINS),
    *(f"raises {name}" for name in ("KeyboardInterrupt", "SystemExit", "StopIteration", "GeneratorExit", "MemoryError")),
    *(f"raises {name}" for name in ("ExceptionGroup", "SystemError", "UnicodeDecodeError", "TimeoutError")),
)
"""What child processes do: everything but most of Python's own exceptions, which are of one sort, since each costs the start
of a Python."""

DEATHS = {
    "ends its process": "ChildDied the job's process exited with code 13",
    "kills itself": "ChildDied the job's process was killed by SIGKILL",
    "terminates itself": "ChildDied the job's process was killed by SIGTERM",
}
"""What kills its process. In a thread or on the loop the worker dies with it; the job is then a suspect, and runs so."""


@pytest.fixture(scope="module")
def worker_settings() -> dict[str, str]:
    return {
        "JOB_MODULES": "tests.engine.hostile_jobs",
        "HANDLER_MODULES": "tests.engine.hostile_handlers",
        "WORKER_CONCURRENCY": "4",
    }


@pytest.fixture(scope="module")
def once(client_with: ClientWith) -> Client:
    """Its jobs have one attempt."""
    return client_with(max_retries=0)


Belongings = dict[str, Any]


async def belongings(worker: WorkerProcess, database: Any) -> Belongings:
    """What a worker has while it is idle. Connections by name; the pools' own number varies with what was asked of them."""
    process = psutil.Process(worker.pid)
    rows = await database.fetch("select application_name from pg_stat_activity where application_name like 'carafe %'")
    return {
        "threads": process.num_threads(),
        "children": len(process.children(recursive=True)),
        "descriptors": process.num_fds(),
        "connections": Counter(row["application_name"].split("@")[0] for row in rows),
    }


@pytest.fixture(scope="module")
async def before(worker: WorkerProcess, once: Client, database: Any) -> Belongings:
    """What the worker has after every sort of job has run as many at a time as there are slots."""
    for kind in (Ordinary, OrdinaryThread):
        jobs = await once.enqueue_many([kind() for _ in range(200)])
        for job in jobs:
            assert (await once.wait(job.id, timeout=30)).state is State.SUCCEEDED
    job = await once.enqueue(HostileProcess(what="sets a context variable"))
    assert (await once.wait(job.id, timeout=30)).state is State.SUCCEEDED
    await eventually(lambda: len(psutil.Process(worker.pid).children()) == 1)
    return await belongings(worker, database)


def said(record: JobRecord) -> str:
    return f"{record.error_class or ''} {record.error or ''}".strip()


def ended_once(record: JobRecord, words: str | None) -> None:
    assert record.attempt == 1
    if words is None:
        assert (record.state, record.error) == (State.SUCCEEDED, None), said(record)
        return
    assert words in said(record)
    if record.state is not State.CANCELLED:
        assert record.state is State.DEAD
        (failed,) = record.attempts
        assert failed.attempt == 1


@pytest.fixture
async def as_ever(worker: WorkerProcess, before: Belongings, once: Client) -> AsyncIterator[None]:
    """After the test an ordinary job of each sort runs, and the worker is well."""
    yield
    for job in await once.enqueue_many([Ordinary(), OrdinaryThread()]):
        record = await once.wait(job.id, timeout=20)
        assert (record.state, record.result, record.attempt) == (State.SUCCEEDED, DONE, 1), said(record)
    assert worker.probe("/livez") == (200, "ok")


def acts(*groups: dict[str, Act]) -> pytest.MarkDecorator:
    every = {name: act for group in groups for name, act in group.items()}
    return pytest.mark.parametrize(("what", "words"), [(name, act.words) for name, act in every.items()], ids=list(every))


@acts(ACTS, ON_THE_LOOP)
@pytest.mark.usefixtures("as_ever")
async def test_on_the_loop(once: Client, what: str, words: str | None) -> None:
    job = await once.enqueue(HostileAsync(what=what))
    ended_once(await once.wait(job.id, timeout=20), words)


@acts(ACTS, IN_A_THREAD_OF_OURS)
@pytest.mark.usefixtures("as_ever")
async def test_in_a_thread(once: Client, what: str, words: str | None) -> None:
    job = await once.enqueue(HostileThread(what=what))
    ended_once(await once.wait(job.id, timeout=20), words)


@pytest.mark.usefixtures("as_ever")
async def test_in_processes(once: Client) -> None:
    wanted: dict[str, str | None] = {**{what: ACTS[what].words for what in dict.fromkeys(IN_PROCESSES)}, **DEATHS}
    jobs = {what: await once.enqueue(HostileProcess(what=what)) for what in wanted}
    for what, job in jobs.items():
        ended_once(await once.wait(job.id, timeout=240), wanted[what])


def test_there_are_enough_of_them() -> None:
    assert len(ACTS) + len(ON_THE_LOOP) - len(BUILTINS) >= 60
    assert len(IN_PROCESSES) + len(DEATHS) >= 60


@pytest.mark.usefixtures("as_ever")
async def test_who_cancels_everybody_costs_the_neighbours_nothing(
    once: Client, worker: WorkerProcess, redis_connection: Any, becomes: States
) -> None:
    neighbour = await once.enqueue(Waits(gate="neighbour"))
    await becomes(neighbour.id, State.RUNNING)
    culprit = await once.enqueue(HostileAsync(what="cancels everybody"))
    ended_once(await once.wait(culprit.id, timeout=20), "CancelledError")
    redis_connection.rpush("neighbour", "go")
    record = await once.wait(neighbour.id, timeout=20)
    assert (record.state, record.result, record.attempt, record.attempts) == (State.SUCCEEDED, "waited", 1, ())
    assert record.releases == 0
    event = "a handler has tried to cancel tasks that are not its own: the tasks go on"
    await eventually(lambda: worker.events(event, job_id=str(culprit.id)))


@pytest.mark.usefixtures("as_ever")
async def test_who_waits_for_everybody_is_stopped_alone(
    once: Client, worker: WorkerProcess, redis_connection: Any, becomes: States
) -> None:
    neighbour = await once.enqueue(Waits(gate="joined"))
    await becomes(neighbour.id, State.RUNNING)
    job = await once.enqueue(Joins())
    record = await once.wait(job.id, timeout=20)
    assert (record.state, record.error) == (State.DEAD, "the attempt took longer than its timeout of 1 s")
    assert worker.events_like("a handler cannot be stopped because it waits for tasks that are not its own")
    redis_connection.rpush("joined", "go")
    record = await once.wait(neighbour.id, timeout=20)
    assert (record.state, record.result, record.releases) == (State.SUCCEEDED, "waited", 0)
    assert not worker.events_like("a service of the engine was cancelled")


@pytest.mark.usefixtures("as_ever")
async def test_who_blocks_the_loop_is_named_and_postgres_is_not(
    once: Client, worker: WorkerProcess, database: Any, becomes: States
) -> None:
    job = await once.enqueue(HostileAsync(what="blocks its loop"))
    event = "a handler blocks the event loop: this worker does nothing else until it awaits something"
    (line,) = await eventually(lambda: worker.events(event, job_id=str(job.id)))
    assert (line["kind"], line["attempt"]) == ("hostile.async", 1)
    assert "blocks_its_loop" in line["stack"]
    ended_once(await once.wait(job.id, timeout=20), None)
    await eventually(lambda: worker.events("the event loop turns again"))
    assert not [line for line in worker.log.splitlines() if "Postgres is away" in line]


@pytest.mark.usefixtures("as_ever")
async def test_what_handlers_leave_behind_is_named(once: Client, worker: WorkerProcess) -> None:
    for what in ("leaves a task", "leaves a task that exits", "leaves a callback that exits"):
        job = await once.enqueue(HostileAsync(what=what))
        ended_once(await once.wait(job.id, timeout=20), None)
    event = "a handler has left tasks running after its attempt: await them, or they may be cut off at any time"
    await eventually(lambda: any("sleep" in line["tasks"] for line in worker.events(event, kind="hostile.async")))
    survived = "was raised in a task or callback that a handler has left: the worker's event loop goes on"

    def both() -> bool:
        return all(worker.events(f"{name} {survived}") for name in ("SystemExit", "KeyboardInterrupt"))

    await eventually(both)


@pytest.mark.usefixtures("as_ever")
async def test_what_belongs_to_the_process_is_put_back(once: Client, worker: WorkerProcess) -> None:
    for what in ("closes the standard descriptors", "reconfigures logging", "disables garbage collection"):
        job = await once.enqueue(HostileThread(what=what))
        ended_once(await once.wait(job.id, timeout=20), None)
    event = "a handler has changed state of the whole process: restored"

    def put_back() -> bool:
        found = {what for line in worker.events(event) for what in line["what"]}
        return found >= {"descriptor 0", "the log's configuration", "garbage collection"}

    await eventually(put_back)


async def test_afterwards_the_worker_has_what_it_had(
    worker: WorkerProcess, before: Belongings, once: Client, database: Any
) -> None:
    async def same() -> bool:
        now = await belongings(worker, database)
        assert now["children"] == before["children"], (before, now)
        # The engine's own pool opens connections as it needs them, up to its size.
        engines = "carafe worker celery"
        assert now["connections"][engines] <= CLAIMS + WRITES + 2, (before, now)
        assert now["connections"] - Counter({engines: 99}) == before["connections"] - Counter({engines: 99}), (before, now)
        # A loop's threads for `to_thread` come as they are needed, and stay.
        assert now["threads"] <= before["threads"] + 4, (before, now)
        assert now["descriptors"] <= before["descriptors"] + 4, (before, now)
        return True

    await eventually(same, within=20)
    assert worker.probe("/readyz") == (200, "ok")
    assert not worker.events("an attempt has ended without an outcome: it failed")
    assert not worker.events("the outcome of an attempt could not be read; it counts as failed")


async def test_a_hangup_drains_and_sigusr1_shows_the_stacks(
    start_worker: StartWorker, once: Client, becomes: States, redis_connection: Any, worker: WorkerProcess
) -> None:
    # The module's worker ends here, so that the job comes to the new one.
    worker.signal(signal.SIGHUP)
    assert await worker.ended() == 0, worker.log
    second = await start_worker()
    job = await once.enqueue(Waits(gate="second"))
    await becomes(job.id, State.RUNNING)
    await eventually(lambda: any(found["cmd"] == "blpop" for found in redis_connection.client_list()))
    second.signal(signal.SIGUSR1)
    tasks = await eventually(lambda: second.events("stacks: a task", task="hostile.waits"))
    assert "in waits" in tasks[0]["stack"]
    assert "most recent call first" in second.log
    second.signal(signal.SIGHUP)
    await second.drains()
    redis_connection.rpush("second", "go")
    assert await second.ended() == 0, second.log
    record = await once.get(job.id)
    assert (record.state, record.result) == (State.SUCCEEDED, "waited")
