"""What the handlers of a worker share is entered once before its first job and left at the end of its drain, in child
processes too."""

from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from carafe import Client, State
from tests.engine.lifespan_jobs import USES, Use, UseAsync, UseInProcess
from tests.engine.worker_process import SERVE, WorkerProcess, bare_environment
from tests.forked import run
from tests.waiting import eventually

pytestmark = pytest.mark.process

CLIENTS, MODEL = (f"tests.engine.lifespan_handlers.{name}" for name in ("clients", "model"))

Lines = Callable[[], list[str]]
Begin = Callable[..., WorkerProcess]


@pytest.fixture(scope="module")
def worker_settings() -> dict[str, str]:
    return {"JOB_MODULES": "tests.engine.lifespan_jobs", "HANDLER_MODULES": "tests.engine.lifespan_handlers"}


@pytest.fixture
def noted(tmp_path: Path) -> Path:
    """The file in which lifespans write down what happens."""
    path = tmp_path / "lifespans"
    path.touch()
    return path


@pytest.fixture
def lines(noted: Path) -> Lines:
    return lambda: noted.read_text().splitlines()


@pytest.fixture
def begin(environment: dict[str, str], noted: Path, tmp_path: Path) -> Begin:
    """Starts a worker, and does not wait until it is ready."""

    def start(misbehaviour: str, **settings: str) -> WorkerProcess:
        given = {"LIFESPANS": str(noted), "MISBEHAVIOUR": misbehaviour}
        return WorkerProcess(environment | given | settings, tmp_path)

    return start


async def test_every_handler_shares_it_and_it_is_entered_once_and_left_at_the_end_of_the_drain(
    client: Client, begin: Begin, lines: Lines
) -> None:
    worker = await begin("").ready()
    assert [line for line in lines() if line.startswith("worker")] == ["worker: clients entered", "worker: model entered"]
    for uses in (1, 2, 3):
        record = await client.wait(await client.enqueue(UseAsync()), timeout=20)
        assert (record.state, record.result) == (State.SUCCEEDED, [True, uses, 3])
    await worker.stop()
    assert [line for line in lines() if line.startswith("worker")] == [
        "worker: clients entered",
        "worker: model entered",
        "worker: model left",
        "worker: clients left",
    ]


@pytest.mark.parametrize("kind", USES)
async def test_its_value_reaches_handlers_however_they_run(
    client: Client, begin: Begin, lines: Lines, kind: type[Use]
) -> None:
    worker = await begin("").ready()
    record = await client.wait(await client.enqueue(kind()), timeout=20)
    assert (record.state, record.result) == (State.SUCCEEDED, [True, 1, 3])
    if kind in USES[2:]:  # the process for the next job has entered them already
        await eventually(lambda: lines().count("child: model entered") == 2)
    await worker.stop()
    children = [line for line in lines() if line.startswith("child")]
    if kind is UseInProcess:
        before = children[: children.index("child: job runs")]
        assert {"child: clients entered", "child: model entered"} <= set(before)
    # Each child has left what it has entered, one that never got a job, too.
    assert children.count("child: clients left") == children.count("child: clients entered")
    assert children.count("child: model left") == children.count("child: model entered")


async def test_a_worker_whose_lifespan_fails_does_not_start_and_says_why(
    client: Client, begin: Begin, environment: dict[str, str], noted: Path, tmp_path: Path
) -> None:
    job = await client.enqueue(UseAsync())
    worker = begin("fails at its start")
    assert await worker.ended() == 1
    (line,) = worker.events("the worker cannot start")
    said = "the worker lifespan tests.engine.lifespan_handlers.clients failed at its start"
    assert line["reason"] == f"{said}: ConnectionRefusedError: nobody listens"
    assert "in clients" in line["exception"]
    assert not worker.events("worker ready")
    assert (await client.get(job.id)).state is State.QUEUED
    await client.cancel(job.id)

    given = {"LIFESPANS": str(noted), "MISBEHAVIOUR": "fails at its start"}
    code, out, err = run(
        [*SERVE, "--check"], folder=tmp_path, environment=bare_environment() | environment | given, within=60
    )
    assert code == 1
    assert line["reason"] in out + err


async def test_a_lifespan_that_fails_at_its_end_is_logged(begin: Begin, lines: Lines) -> None:
    worker = await begin("fails at its end").ready()
    await worker.stop()
    (line,) = worker.events("a worker lifespan has failed at its end")
    assert line["lifespan"] == "tests.engine.lifespan_handlers.clients"
    assert "LookupError: cannot be closed" in line["exception"]
    assert "worker: model left" in lines()


async def test_a_lifespan_that_never_ends_holds_up_no_drain(begin: Begin, lines: Lines) -> None:
    worker = await begin("ends for ever", DRAIN_TIMEOUT="1").ready()
    await worker.stop()
    assert "worker: model does not end" in lines()
    (line,) = worker.events("a worker lifespan does not end, the worker ends without it")
    assert line["lifespan"] == "tests.engine.lifespan_handlers.model"


async def test_a_worker_that_is_asked_to_end_while_it_enters_ends_and_leaves_what_it_has_entered(
    begin: Begin, lines: Lines
) -> None:
    worker = begin("starts for ever")
    await eventually(lambda: "worker: model begins" in lines(), 30)
    await eventually(lambda: worker.probe("/startupz") == (503, f"entering the worker lifespan {MODEL}"))
    assert worker.probe("/readyz") == (503, f"entering the worker lifespan {MODEL}")
    assert worker.probe("/livez") == (200, "ok")
    worker.signal()
    assert await worker.ended() == 0, worker.log
    assert "worker: clients left" in lines()


async def test_a_job_whose_process_cannot_enter_it_goes_back_some_times_and_spends_nothing(
    client: Client, begin: Begin
) -> None:
    job, last = [(await client.enqueue(UseInProcess())).id for _ in range(2)]
    async with client.database.connection() as connection:
        await connection.execute("update carafe.jobs set releases = 10 where id = $1", last)
    worker = await begin("fails in children").ready()
    said = f"the worker lifespan {CLIENTS} failed at its start: ConnectionRefusedError: nobody listens"
    await eventually(lambda: worker.events("a job's process could not begin it", reason=said, job_id=str(job)), 30)
    record = await client.get(job)
    assert (record.attempt, record.attempts) == (0, ())
    record = await client.wait(last, timeout=30)
    assert (record.state, str(record.error)) == (State.DEAD, said)
    assert (await client.wait((await client.enqueue(UseAsync())).id, timeout=20)).state is State.SUCCEEDED
    await worker.stop()
    async with client.database.connection() as connection:
        await connection.execute("delete from carafe.jobs where id = $1", job)


async def test_one_that_ends_before_its_worker_ends_the_worker_and_no_other_lifespan(
    client: Client, begin: Begin, lines: Lines
) -> None:
    worker = await begin("ends early").ready()
    await client.wait(await client.enqueue(UseAsync()), timeout=20)
    assert await worker.ended() == 1, worker.log
    (line,) = worker.events("a worker lifespan has ended before its worker")
    assert (line["level"], line["lifespan"]) == ("critical", CLIENTS)
    assert "ConnectionResetError: the pool is lost" in line["exception"]
    assert worker.events(f"the worker lifespan {CLIENTS} has ended: this worker drains and ends")
    assert "worker: model left" in lines()
    events = [event["event"] for event in worker.events_like("")]
    assert events.index("drained") > events.index("a worker lifespan has ended before its worker")


async def test_one_that_is_cancelled_at_its_start_has_failed(begin: Begin) -> None:
    worker = begin("is cancelled at its start")
    assert await worker.ended() == 1
    (line,) = worker.events("the worker cannot start")
    assert line["reason"] == f"the worker lifespan {CLIENTS} failed at its start: asyncio.exceptions.CancelledError"


async def test_one_that_blocks_the_event_loop_at_its_start_is_named_and_ends_with_its_worker(
    begin: Begin, lines: Lines
) -> None:
    worker = begin("blocks at its start", DRAIN_TIMEOUT="1")
    await eventually(lambda: "worker: clients block" in lines(), 30)
    await eventually(lambda: worker.events("still entering a worker lifespan", lifespan=CLIENTS), 20)
    worker.signal()
    assert await worker.ended() == 0, worker.log
    assert worker.events("a worker lifespan blocks the event loop; the worker ends without it", lifespan=CLIENTS)


async def test_a_process_whose_lifespan_blocks_at_its_end_ends_soon_after_its_worker(
    client: Client, begin: Begin, lines: Lines
) -> None:
    worker = await begin("blocks at its end in children").ready()
    await client.wait(await client.enqueue(UseInProcess()), timeout=20)
    await eventually(lambda: lines().count("child: model entered") == 2)  # the second waits for a job
    worker.kill()

    def blocked() -> list[int]:
        return [int(line.split()[1]) for line in lines() if line.endswith(" blocks")]

    await eventually(lambda: len(blocked()) == 2)
    await eventually(lambda: not any(psutil.pid_exists(pid) for pid in blocked()), 20)


async def test_a_process_that_enters_for_ever_ends_with_its_worker(client: Client, begin: Begin, lines: Lines) -> None:
    worker = await begin("starts for ever in children").ready()
    job = await client.enqueue(UseInProcess())

    def begun() -> list[int]:
        return [int(line.split()[1]) for line in lines() if line.endswith(" begins")]

    await eventually(begun)
    worker.kill()
    await eventually(lambda: not any(psutil.pid_exists(pid) for pid in begun()))
    async with client.database.connection() as connection:
        await connection.execute("delete from carafe.jobs where id = $1", job.id)
