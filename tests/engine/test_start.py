"""A worker that cannot do its work ends at start, with one message that says what to change."""

import socket
from pathlib import Path

import pytest

from tests.engine.worker_process import SERVE, bare_environment
from tests.forked import run

pytestmark = pytest.mark.process


def start(environment: dict[str, str], folder: Path, **settings: str) -> tuple[int, str]:
    """Exit code and everything that was written."""
    code, output, errors = run(SERVE, folder=folder, environment=bare_environment() | environment | settings, within=60)
    return code, output + errors


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"WORKER_CONCURRENCY": "many"}, ["WORKER_CONCURRENCY"]),
        ({"DRAIN_TIMEOUT": "-1", "LOG_LEVEL": "LOUD"}, ["2 faulty settings", "DRAIN_TIMEOUT", "LOG_LEVEL"]),
        ({"DATABASE_URL": "mysql://nobody:hunter2@127.0.0.1/x"}, ["DATABASE_URL"]),
        ({"JOB_MODULES": "no.such.jobs"}, ["JOB_MODULES: 'no.such.jobs' cannot be imported", "No module named"]),
        ({"HANDLER_MODULES": "no.such.handlers"}, ["HANDLER_MODULES: 'no.such.handlers' cannot be imported"]),
        ({"HANDLER_MODULES": ""}, ["HANDLER_MODULES is empty: name the modules with your handlers"]),
        ({"HANDLER_MODULES": "tests.engine.jobs"}, ["HANDLER_MODULES (tests.engine.jobs) register no handler"]),
        ({"WORKER_APPLICATION": "no.such:app"}, ["WORKER_APPLICATION: 'no.such:app' not found"]),
        ({"WORKER_APPLICATION": "tests.waiting:eventually"}, ["WORKER_APPLICATION: 'tests.waiting:eventually' is no"]),
        (
            {"HANDLER_MODULES": "tests.engine.hook_in_handlers"},
            [
                "the hook tests.engine.hook_in_handlers.misplaced is registered by a module of HANDLER_MODULES",
                "move it beside the job's definition (JOB_MODULES)",
            ],
        ),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_what_is_wrong_is_said_in_one_message_without_a_traceback(
    environment: dict[str, str], tmp_path: Path, settings: dict[str, str], words: list[str]
) -> None:
    code, output = start(environment, tmp_path, **settings)
    assert code == 2, output
    for word in words:
        assert word in output
    assert output.count("error: ") == 1
    assert "Traceback" not in output
    assert "hunter2" not in output


def test_a_probe_port_that_is_taken_is_said_in_one_message(environment: dict[str, str], tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        code, output = start(environment, tmp_path, PROBE_PORT=str(taken.getsockname()[1]))
    assert code == 2, output
    assert "set PROBE_PORT to another port" in output
    assert "Traceback" not in output
