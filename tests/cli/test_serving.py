"""`carafe serve` and `carafe serve --worker` as processes, and the commands that need a worker."""

import re
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from carafe.dev.embedded import start_embedded
from tests.cli.conftest import Command, application
from tests.cli.running import Running, running

pytestmark = pytest.mark.process


@pytest.fixture(scope="module")
def worker(database_url: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    settings = application(database_url, redis_url) | {"PYTHONPROFILEIMPORTTIME": "1"}
    with running("serve", "--worker", folder=tmp_path_factory.mktemp("worker"), **settings) as process:
        process.says("worker ready")
        yield process
        assert process.end() == 0


def test_a_worker_loads_no_web_framework_and_no_command_line_library(worker: Running) -> None:
    lines = worker.output.splitlines()
    loaded = {line.rpartition("|")[2].strip() for line in lines if line.startswith("import time:")}
    assert {"celery.app", "carafe.engine.worker"} <= loaded
    assert not loaded & {"fastapi", "starlette", "uvicorn", "typer", "rich.pretty", "alembic", "carafe.web"}


def test_wait_follows_a_job_to_its_success(worker: Running, carafe: Command) -> None:
    job_id = carafe("enqueue", "cli.greet", "name=Ada").out.strip()
    answer = carafe("jobs", "wait", job_id, "--timeout", "20")
    assert answer.code == 0, answer.out + answer.err
    assert '{"said":"hello Ada"}' in answer.out


def test_a_dead_job_is_shown_with_its_attempt_and_retried(worker: Running, carafe: Command) -> None:
    job_id = carafe("enqueue", "cli.fail", "message=out of beans").out.strip()
    assert carafe("jobs", "wait", job_id, "--timeout", "20").code == 6
    shown = carafe("jobs", "show", job_id).out
    assert "ValueError: out of beans" in shown
    assert re.search(r": attempt 1 failed after \S+ s: ", shown)
    assert "raise ValueError(job.message)" in carafe("jobs", "show", job_id, "--full").out
    assert job_id in carafe("jobs", "list", "--state", "dead").out
    assert carafe("jobs", "retry", job_id).code == 0
    assert carafe("jobs", "wait", job_id, "--timeout", "20").code == 6
    assert [attempt["attempt"] for attempt in carafe("jobs", "show", job_id, "--json").json["attempts"]] == [1, 2]


def test_a_running_job_is_asked_to_stop(worker: Running, carafe: Command) -> None:
    job_id = carafe("enqueue", "cli.hold").out.strip()
    worker.says(f"job started .*{job_id}")
    assert carafe("jobs", "cancel", job_id).code == 0
    assert carafe("jobs", "wait", job_id, "--timeout", "20").code == 7
    assert "asked to stop" not in carafe("jobs", "show", job_id).out


@pytest.mark.parametrize("command", [["serve", "--worker"], ["serve"], ["steward"]], ids=" ".join)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_a_signal_during_the_start_ends_the_process_with_code_0(
    database_url: str, redis_url: str, tmp_path: Path, command: list[str], number: signal.Signals
) -> None:
    # What is imported while the process starts stands for a signal that comes at that moment.
    (tmp_path / "signalled.py").write_text(f"import os\nos.kill(os.getpid(), {number.value})\nprint('goes on')\n")
    settings = application(database_url, redis_url) | {"JOB_MODULES": "signalled", "WEB_APPLICATION": "signalled:app"}
    with running(*command, folder=tmp_path, **settings) as process:
        assert process.wait() == 0
        assert "goes on" not in process.output


def test_a_canary_sees_what_would_keep_a_worker_from_running(
    carafe: Command, database_url: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    assert carafe("serve", "--check").code == 2
    # In a process of its own: this one has handlers by now.
    settings = application(database_url, redis_url) | {"HANDLER_MODULES": "json"}
    with running("serve", "--worker", "--check", folder=tmp_path_factory.mktemp("check"), **settings) as process:
        process.says("HANDLER_MODULES register no handler")
        assert process.wait() == 1
    with start_embedded(tmp_path_factory.mktemp("durable")) as servers:
        urls = {"DATABASE_URL": servers.database_url, "REDIS_URL": servers.redis_url}
        before = carafe("serve", "--worker", "--check", **urls)
        assert before.code == 1
        assert "run `carafe migrate`" in before.out
        assert carafe("migrate", **urls).code == 0
        after = carafe("serve", "--worker", "--check", **urls)
        assert (after.code, after.err.strip()) == (0, "a worker would run"), after.out
        assert "fit the schema" in after.out
        assert "web" not in {line.split()[1] for line in after.out.splitlines()}
        not_one = carafe("serve", "--worker", "--check", WORKER_APPLICATION="json:dumps", **urls)
        assert not_one.code != 0
        assert "WORKER_APPLICATION" in not_one.err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_web_process_serves_until_it_is_asked_to_stop(
    here: Path, database_url: str, redis_url: str, number: signal.Signals
) -> None:
    settings = application(database_url, redis_url) | {"WEB_APPLICATION": "tests.cli.web:application"}
    with running("serve", folder=here, **settings) as web:
        url = web.says(r"url=(http://\S+)")[1]
        assert httpx.get(f"{url}/health").json()["status"] == "ok"
        assert httpx.get(f"{url}/api/v1/kinds").status_code == 200
        assert web.end(number) == 0


def test_a_port_that_is_taken_is_told_by_its_setting(here: Path, database_url: str, redis_url: str) -> None:
    settings = application(database_url, redis_url) | {"WEB_APPLICATION": "tests.cli.web:application"}
    with running("serve", folder=here, **settings) as web:
        port = web.says(r"url=http://\S+:(\d+)")[1]
        with running("serve", folder=here, **(settings | {"PORT": port})) as second:
            assert second.wait() == 2
            assert f"error: PORT: cannot listen on 127.0.0.1:{port}" in second.output
            assert "Traceback" not in second.output
        with running("serve", "--worker", folder=here, **(settings | {"PROBE_PORT": port})) as worker:
            assert worker.wait() == 2
            assert f"error: PROBE_PORT: the health server cannot listen on 127.0.0.1:{port}" in worker.output
            assert "Traceback" not in worker.output
