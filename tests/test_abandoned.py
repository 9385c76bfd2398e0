"""Servers of a test run that was killed: the next run ends them, and those of nobody else."""

import os
import signal
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import psycopg
import pytest

from carafe.dev.embedded import start_embedded
from carafe.testing.abandoned import end_abandoned
from carafe.testing.servers import Servers
from carafe.testing.temporary_folder import FOLDER
from tests.test_embedded import serving

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.process


def killed_run(program: str) -> None:
    """Runs a program that starts servers, and kills it when it has said that it has."""
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "started\n"
        owner.send_signal(signal.SIGKILL)


def test_servers_of_a_killed_run_are_ended_and_their_data_deleted() -> None:
    folder = Path(tempfile.mkdtemp(prefix=FOLDER))
    killed_run(f"""
        from pathlib import Path
        from carafe.testing.servers import Servers
        servers = Servers(Path({str(folder)!r}))
        servers.postgres_url, servers.redis_url
        print("started", flush=True)
        input()
    """)
    # A run beside this one may have ended them already; that is what it is for.
    end_abandoned()
    assert serving(folder) == []
    assert not folder.exists()


def test_servers_whose_owner_lives_go_on(tmp_path: Path) -> None:
    servers = Servers(tmp_path)
    try:
        url = servers.postgres_url
        assert servers.redis_url
        running = serving(tmp_path)
        end_abandoned()
        with psycopg.connect(url) as connection:
            assert connection.execute("select 1").fetchone() == (1,)
        assert serving(tmp_path) == running
    finally:
        servers.stop()


def test_servers_of_a_killed_carafe_dev_wait_for_the_next_one(tmp_path: Path) -> None:
    killed_run(f"""
        from pathlib import Path
        from carafe.dev.embedded import start_embedded
        servers = start_embedded(Path({str(tmp_path)!r}))
        print("started", flush=True)
        input()
    """)
    left = serving(tmp_path)
    try:
        end_abandoned()
        assert serving(tmp_path) == left
        assert len(left) == 2
    finally:
        start_embedded(tmp_path).stop()
    assert serving(tmp_path) == []
