"""Servers of a test run that was killed: the next run ends them, and those of nobody else."""

import os
import signal
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest

from carafe.dev.embedded import EmbeddedPostgres, EmbeddedValkey, _let_through, start_embedded
from carafe.testing.abandoned import end_abandoned
from carafe.testing.servers import Servers
from carafe.testing.temporary_folder import FOLDER
from tests.test_embedded import serving
from tests.test_embedded_access import STRANGER

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


def killed_test_run(folder: Path) -> None:
    killed_run(f"""
        from pathlib import Path
        from carafe.testing.servers import Servers
        servers = Servers(Path({str(folder)!r}))
        servers.postgres_url, servers.redis_url
        print("started", flush=True)
        input()
    """)


@pytest.fixture
def forgotten() -> Iterator[Path]:
    """A folder whose name no test run's begins with, so that runs beside this one leave its servers to this test."""
    with tempfile.TemporaryDirectory(prefix="not-carafe-tests-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def test_servers_of_a_killed_run_are_ended_and_their_data_deleted() -> None:
    folder = Path(tempfile.mkdtemp(prefix=FOLDER))
    killed_test_run(folder)
    # A run beside this one may have ended them already; that is what it is for.
    end_abandoned()
    assert serving(folder) == []
    assert not folder.exists()


def test_servers_in_a_folder_that_is_not_a_test_runs_go_on(forgotten: Path) -> None:
    killed_test_run(forgotten)
    left = serving(forgotten)
    assert len(left) == 2
    end_abandoned()
    assert serving(forgotten) == left
    ended = [server.end_abandoned() for server in servers_in(forgotten)]
    assert ended == [True, True]
    assert serving(forgotten) == []


def servers_in(folder: Path) -> list[EmbeddedPostgres | EmbeddedValkey]:
    """As a `Servers` in this folder has them."""
    return [EmbeddedPostgres(folder / "postgres", durable=False), EmbeddedValkey(folder / "valkey", persist=False)]


def test_a_lock_that_is_a_link_is_not_followed(forgotten: Path, tmp_path: Path) -> None:
    killed_test_run(forgotten)
    left = serving(forgotten)
    locks = [server.data_dir / "owner.lock" for server in servers_in(forgotten)]
    victim = tmp_path / "victim"
    victim.write_text("123\n")
    for link in (Path.symlink_to, Path.hardlink_to):
        for lock in locks:
            lock.unlink()
            link(lock, victim)
        assert [server.end_abandoned() for server in servers_in(forgotten)] == [False, False]
        assert victim.read_text() == "123\n"
    victim.unlink()
    for lock in locks:
        lock.unlink()
        lock.symlink_to(victim)
    assert [server.end_abandoned() for server in servers_in(forgotten)] == [False, False]
    assert not victim.exists()
    assert serving(forgotten) == left
    for lock in locks:
        lock.unlink()
        lock.write_text("123\n")
    assert [server.end_abandoned() for server in servers_in(forgotten)] == [True, True]


@pytest.mark.parametrize("place", ["", "postgres"])
def test_a_folder_that_a_link_or_another_account_has_put_there_is_left_alone(forgotten: Path, place: str) -> None:
    postgres, _ = servers_in(forgotten)
    lock = postgres.data_dir / "owner.lock"
    lock.parent.mkdir()
    lock.write_text("123\n")
    folder = forgotten / place
    folder.chmod(0o777)
    assert not postgres.end_abandoned()
    assert lock.read_text() == "123\n"
    folder.chmod(0o700)
    if os.geteuid() == 0:
        os.chown(folder, STRANGER, -1)
        assert not postgres.end_abandoned()
        assert lock.read_text() == "123\n"
        os.chown(folder, 0, -1)
    elsewhere = folder.rename(folder.with_name(folder.name + "-elsewhere"))
    folder.symlink_to(elsewhere)
    assert not postgres.end_abandoned()
    assert lock.read_text() == "123\n"
    folder.unlink()
    elsewhere.rename(folder)


def test_the_command_line_of_another_program_or_account_is_not_believed() -> None:
    with tempfile.TemporaryDirectory(prefix=FOLDER) as name:
        folder = Path(name)
        valkey = EmbeddedValkey(folder / "valkey", persist=False)
        valkey.data_dir.mkdir()
        _let_through(valkey.data_dir)
        command = [*valkey._command(20_000)]
        # What the shell runs: its first argument, which the server takes for its settings.
        Path(command[1]).write_text("echo started; read answer\n")
        Path(command[1]).chmod(0o644)
        other: Any = {"user": STRANGER, "group": STRANGER, "extra_groups": []} if os.geteuid() == 0 else {}
        lock = valkey.data_dir / "owner.lock"
        with subprocess.Popen(
            command,
            executable="/bin/sh",
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            **other,
        ) as forged:
            assert forged.stdout is not None
            assert forged.stdout.readline() == "started\n"
            assert valkey.runs_as(psutil.Process(forged.pid).cmdline())
            end_abandoned()
            assert not lock.exists()
            lock.write_text("123\n")
            end_abandoned()
            assert lock.read_text() == "123\n"
            assert forged.poll() is None
            forged.communicate("\n")
        assert folder.exists()


def test_servers_whose_owner_lives_go_on(tmp_path: Path) -> None:
    folder = tmp_path / f"{FOLDER}lives"
    servers = Servers(folder)
    try:
        url = servers.postgres_url
        assert servers.redis_url
        running = serving(folder)
        end_abandoned()
        with psycopg.connect(url) as connection:
            assert connection.execute("select 1").fetchone() == (1,)
        assert serving(folder) == running
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
