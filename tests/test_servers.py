"""`make servers`: servers for tests that outlive a run, and one run at a time on them."""

import json
import os
import signal
import sys
from pathlib import Path

import psycopg
import pytest

from tests import servers
from tests.cli.conftest import bare_environment
from tests.cli.running import started
from tests.forked import ROOT, run
from tests.servers import running

pytestmark = pytest.mark.process

ONE = ["tests/jobs/test_idempotency.py", "-k", "test_a_repeated_request_gets_the_first_answer"]


def test_a_run_at_a_time_is_on_running_servers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    announced = tmp_path / "servers.json"
    environment = {name: value for name, value in bare_environment().items() if name != "PYTEST_XDIST_WORKER"}
    environment |= {"PYTHONPATH": str(ROOT), "TEST_SERVERS": str(announced)}
    monkeypatch.setattr(servers, "ANNOUNCED", announced)
    with running() as none:
        assert none is None

    with started([sys.executable, "-m", "tests.servers"], folder=ROOT, environment=environment) as process:
        process.says("Ctrl-C ends them")
        assert announced.stat().st_mode & 0o077 == 0
        pytest_ = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *ONE]
        url = json.loads(announced.read_text())["postgres"]
        with psycopg.connect(url, autocommit=True) as connection:
            written = "select pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')"
            before = connection.execute(written).fetchone()
            code, output, errors = run(pytest_, folder=ROOT, environment=environment, within=60)
            assert code == 0, output + errors
            assert "1 passed" in output
            after = connection.execute(written).fetchone()
            assert before is not None
            assert after is not None
            assert after[0] - before[0] > 1_000_000, "that run was on other servers"

        with running() as urls:
            assert urls is not None
            assert urls[0] == url
            with running() as taken:
                assert taken is None
        assert process.end(signal.SIGINT) == 0, process.output
    assert not os.path.exists(announced)


def test_servers_that_were_killed_are_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    announced = tmp_path / "servers.json"
    announced.write_text(json.dumps({"postgres": "postgresql://127.0.0.1:1/postgres", "redis": "redis://127.0.0.1:1/0"}))
    monkeypatch.setattr(servers, "ANNOUNCED", announced)
    with running() as none:
        assert none is None
