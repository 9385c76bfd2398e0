"""Celery's own command line shows the jobs that run, and refuses options and commands that a Carafe worker does not support,
with a message."""

import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from celery.exceptions import ImproperlyConfigured

from carafe import Client, State
from carafe.engine.application import Application
from carafe.settings.settings import SecretUrl, Settings
from tests import forked
from tests.engine.conftest import Gates, States
from tests.engine.jobs import DO, AsyncDo, NoOp
from tests.engine.worker_process import WorkerProcess, bare_environment
from tests.waiting import eventually

pytestmark = pytest.mark.process


@pytest.fixture
def celery(environment: dict[str, str], tmp_path: Path) -> Any:
    """Runs `celery -A worker …`; exit code and output."""

    def run(*arguments: str) -> tuple[int, str]:
        command = [sys.executable, "-m", "celery", "-A", "worker", *arguments]
        code, output, errors = forked.run(command, folder=tmp_path, environment=bare_environment() | environment, within=60)
        return code, errors + output

    return run


@pytest.fixture(scope="module")
async def celery_worker(
    client: Client, environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory, steward: Any
) -> AsyncIterator[WorkerProcess]:
    """The worker as Celery's users start it."""
    command = [sys.executable, "-m", "celery", "-A", "worker", "worker", "-c", "4"]
    worker = WorkerProcess(environment, tmp_path_factory.mktemp("worker"), command)
    try:
        yield await worker.ready()
        await worker.stop()
    finally:
        worker.kill()


def answer(output: str) -> Any:
    """What the only worker answered to `inspect … --json`."""
    (value,) = json.loads(output[output.index("{") : output.rindex("}") + 1]).values()
    return value


async def test_inspect_answers_with_what_runs(
    client: Client, celery: Any, celery_worker: WorkerProcess, gate: Gates, becomes: States
) -> None:
    code, output = celery("inspect", "ping", "--json")
    assert (code, answer(output)) == (0, {"ok": "pong"})
    async with gate() as number:
        jobs = [await client.enqueue(DO[mode](what="hold", gate=number)) for mode in DO]
        for job in jobs:
            await becomes(job.id, State.RUNNING)
        name = celery_worker.events("worker starting")[0]["name"]

        def inspect(what: str) -> Any:
            # Named, it need not wait for others to answer.
            return answer(celery("inspect", what, "--json", "-d", name)[1])

        active = inspect("active")
        assert {(entry["id"], entry["type"], entry["name"], entry["attempt"]) for entry in active} == {
            (str(job.id), job.kind, "carafe.run", 1) for job in jobs
        }
        assert all(entry["running_for"] > 0 and entry["time_start"] > 0 for entry in active)
        stats = inspect("stats")
        assert stats["pid"] == celery_worker.pid
        assert stats["pool"]["max-concurrency"] == 4
        assert stats["pool"]["running"] == stats["pool"]["in-hand"] == len(jobs)
        assert "does not take 'registered'" in inspect("registered")["error"]
        assert inspect("reserved") == []
    for job in jobs:
        assert (await client.wait(job.id, timeout=20)).state is State.SUCCEEDED
    assert inspect("active") == []
    counts = inspect("stats")["pool"]["counts"]
    assert counts["succeeded"] == len(jobs)


async def test_revoke_cancels_the_job(
    client: Client, database: Any, celery: Any, celery_worker: WorkerProcess, becomes: States
) -> None:
    running = await client.enqueue(AsyncDo(what="for ever"))
    await becomes(running.id, State.RUNNING)
    scheduled = await client.enqueue(NoOp(), delay=3600)
    code, output = celery("control", "revoke", str(running.id), str(scheduled.id), "some-celery-id")
    assert code == 0
    assert "cancel requested for 2 jobs" in output
    assert (await client.wait(running.id, timeout=20)).state is State.CANCELLED
    assert (await client.wait(scheduled.id, timeout=20)).state is State.CANCELLED
    # Either was done by somebody, and that is written down.
    for job in (running, scheduled):
        (row,) = await database.fetch("select actor, action, reason from carafe.audit where target = $1", str(job.id))
        assert tuple(row) == ("celery", "cancel", "revoked by Celery's remote control")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["-P", "threads"], "other pools (-P) would run jobs without a claim"),
        (["-P", "solo"], "other pools (-P) would run jobs without a claim"),
        (["-B"], "-B (schedules live in Postgres) is not supported"),
        (["--autoscale=4,1"], "--autoscale (scale replicas) is not supported"),
        (["-Q", "other"], "there is one queue, 'default': leave -Q out (got other)"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_a_worker_cannot_honour_is_refused_in_words(celery: Any, options: list[str], words: str) -> None:
    code, output = celery("worker", *options)
    assert code != 0
    assert words in output


async def test_prefork_is_only_celerys_name_for_the_default(
    client: Client, environment: dict[str, str], tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "celery", "-A", "worker", "worker", "-P", "prefork", "-Q", "default"]
    worker = await WorkerProcess(environment, tmp_path, command).ready()
    try:
        await worker.stop()
    finally:
        worker.kill()


async def test_calling_it_as_a_celery_task_is_refused(
    database_url: str, redis_url: str, redis_connection: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "environ", dict(os.environ))
    settings = Settings(database_url=SecretUrl(database_url), redis_url=SecretUrl(redis_url))
    with Application(settings) as application:
        task = application.tasks["carafe.run"]
        for call in (task, task.delay, task.apply_async):
            with pytest.raises(ImproperlyConfigured, match=r"use carafe\.jobs\.Client\.enqueue"):
                call()
    await eventually(lambda: redis_connection.llen("default") == 0)
