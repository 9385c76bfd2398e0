"""Handlers that start processes: they work, and at the attempt's end, whatever it is, the child's whole group is gone.
What is forked inside the worker itself inherits none of its signals and ports."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from carafe import Client, State
from tests.engine.conftest import ClientWith, StartWorker, States
from tests.engine.forking_jobs import Forking, InLoop, InProcess, InThread
from tests.engine.worker_process import WorkerProcess
from tests.waiting import eventually

pytestmark = pytest.mark.process

MODE: dict[str, type[Forking]] = {"process": InProcess, "thread": InThread, "async": InLoop}
DOUBLED = [2, 4, 6]


@pytest.fixture(scope="module")
def worker_settings() -> dict[str, str]:
    return {
        "JOB_MODULES": "tests.engine.forking_jobs",
        "HANDLER_MODULES": "tests.engine.forking_handlers",
        "JOB_MAX_RETRIES": "0",
        "API_TOKENS": f"ops:operate:{'0' * 64}",
        "OWN_SETTING": "the handler's",
    }


def pids(file: Path) -> list[int]:
    return [int(line) for line in file.read_text().splitlines()] if file.exists() else []


def alive(pid: int) -> bool:
    """Whether the process runs; one that has ended and was not reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except OSError:
        return False


def all_gone(file: Path) -> bool:
    return not any(alive(pid) for pid in pids(file))


@pytest.mark.parametrize(
    ("what", "result"),
    [
        ("fork pool", DOUBLED),
        ("spawn pool", DOUBLED),
        ("forkserver pool", DOUBLED),
        ("fork executor", DOUBLED),
        ("spawn executor", DOUBLED),
        ("fork process", 0),
        ("spawn process", 0),
        ("terminate", -signal.SIGTERM),
        ("subprocess", "6\n"),
        ("stdin", ""),
        ("close", "closed"),
    ],
)
async def test_a_process_job_starts_processes_as_any_program_does(
    client: Client, worker: WorkerProcess, becomes: States, what: str, result: Any
) -> None:
    job = await client.enqueue(InProcess(what=what))
    assert (await becomes(job.id, State.SUCCEEDED, 40)).result == result


@pytest.mark.parametrize("mode", ["thread", "async"])
@pytest.mark.parametrize(("what", "result"), [("fork process", 0), ("terminate", -signal.SIGTERM), ("subprocess", "6\n")])
async def test_so_does_a_handler_inside_the_worker(
    client: Client, worker: WorkerProcess, becomes: States, mode: str, what: str, result: Any
) -> None:
    job = await client.enqueue(MODE[mode](what=what))
    assert (await becomes(job.id, State.SUCCEEDED, 40)).result == result


@pytest.mark.parametrize("mode", ["thread", "async", "process"])
async def test_a_fork_has_no_signal_handler_of_ours(
    client: Client, worker: WorkerProcess, becomes: States, mode: str
) -> None:
    job = await client.enqueue(MODE[mode](what="signals"))
    term, interrupt, hang_up = (await becomes(job.id, State.SUCCEEDED, 40)).result
    assert term == str(signal.SIG_DFL)
    assert hang_up in (str(signal.SIG_DFL), str(signal.SIG_IGN)), "as the tests were started with (nohup)"
    assert interrupt == str(signal.default_int_handler)


async def test_what_a_process_job_leaves_running_ends_with_it(
    client: Client, worker: WorkerProcess, becomes: States, tmp_path: Path
) -> None:
    file = tmp_path / "pids"
    job = await client.enqueue(InProcess(what="stay and end", file=str(file)))
    assert (await becomes(job.id, State.SUCCEEDED, 40)).result == "ended"
    assert len(pids(file)) == 3
    assert all_gone(file)


async def test_at_a_timeout_the_whole_group_is_gone(
    client_with: ClientWith, worker: WorkerProcess, becomes: States, tmp_path: Path
) -> None:
    file = tmp_path / "pids"
    job = await client_with(timeout=5, max_retries=0).enqueue(InProcess(what="stay", file=str(file)))
    record = await becomes(job.id, State.DEAD, 60)
    assert record.error_class == "TimeoutError"
    assert pids(file)
    assert all_gone(file)


async def test_at_a_cancel_too(client: Client, worker: WorkerProcess, becomes: States, tmp_path: Path) -> None:
    file = tmp_path / "pids"
    job = await client.enqueue(InProcess(what="stay", file=str(file)))
    await eventually(lambda: len(pids(file)) == 3, 40)
    await client.cancel(job.id)
    await becomes(job.id, State.CANCELLED, 40)
    assert all_gone(file)


async def test_and_at_a_crash(client: Client, worker: WorkerProcess, becomes: States, tmp_path: Path) -> None:
    file = tmp_path / "pids"
    job = await client.enqueue(InProcess(what="stay and die", file=str(file)))
    record = await becomes(job.id, State.DEAD, 40)
    assert "SIGSEGV" in str(record.error)
    assert all_gone(file)


async def test_and_when_the_worker_is_killed(
    client: Client, start_worker: StartWorker, worker: WorkerProcess, becomes: States, tmp_path: Path
) -> None:
    await worker.stop()
    other = await start_worker()
    file = tmp_path / "pids"
    job = await client.enqueue(InProcess(what="stay", file=str(file)))
    await eventually(lambda: len(pids(file)) == 3, 40)
    other.kill()
    await eventually(lambda: all_gone(file), 20)
    await client.cancel(job.id)


async def test_a_process_jobs_time_starts_with_its_handler(
    client_with: ClientWith, start_worker: StartWorker, becomes: States
) -> None:
    other = await start_worker()
    # Python alone takes longer to start; this worker has no child that waits.
    job = await client_with(timeout=0.25).enqueue(InProcess(what="nothing"))
    await becomes(job.id, State.SUCCEEDED, 40)
    await other.stop()


async def test_a_process_job_gets_no_secret_of_the_web_process(
    client: Client, start_worker: StartWorker, becomes: States
) -> None:
    other = await start_worker()
    job = await client.enqueue(InProcess(what="environment"))
    assert (await becomes(job.id, State.SUCCEEDED, 40)).result == ["DATABASE_URL", "OWN_SETTING"]
    await other.stop()


async def test_a_fork_does_not_keep_the_probes_port(
    client: Client, start_worker: StartWorker, becomes: States, tmp_path: Path
) -> None:
    file = tmp_path / "pids"
    other = await start_worker()
    job = await client.enqueue(InThread(what="fork", file=str(file)))
    await becomes(job.id, State.SUCCEEDED, 40)
    await eventually(lambda: len(pids(file)) == 1)
    assert other.probe("/livez")[0] == 200
    other.kill()
    (orphan,) = pids(file)
    try:
        assert alive(orphan)
        assert other.probe("/livez")[0] == 0, "nobody listens"
    finally:
        os.kill(orphan, signal.SIGKILL)
