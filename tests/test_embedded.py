"""The embedded servers: their data outlives them, a killed owner leaves no obstacles behind, and two owners never use the
same data."""

import contextlib
import os
import pwd
import signal
import socket
import stat
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest
import redis
from structlog.testing import capture_logs

from carafe.dev.embedded import EmbeddedPostgres, EmbeddedServerError, EmbeddedServers, EmbeddedValkey, start_embedded

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.process


def owner_of(folder: Path) -> "subprocess.Popen[str]":
    """A process that starts the servers of a folder, and prints their URLs."""
    program = f"""
        from pathlib import Path
        from carafe.dev.embedded import start_embedded
        servers = start_embedded(Path({str(folder)!r}))
        print(servers.database_url, servers.redis_url, flush=True)
        input()
    """
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


@pytest.fixture
def killed_owner(tmp_path: Path) -> Iterator[tuple[Path, str, str]]:
    """A data folder whose owner was killed while its servers ran, and what their URLs were."""
    with owner_of(tmp_path) as owner:
        assert owner.stdout is not None
        database_url, redis_url = owner.stdout.readline().split()
        owner.send_signal(signal.SIGKILL)
    yield tmp_path, database_url, redis_url
    start_embedded(tmp_path).stop()


def runs(pid: int) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    return False


def serving(folder: Path) -> list[int]:
    # Postgres's own children have its command line too, for a moment, until they say what they are.
    found = {
        p.pid: p.info["ppid"]
        for p in psutil.process_iter(["cmdline", "ppid"])
        if any(str(folder) in argument for argument in p.info["cmdline"] or ())
    }
    return [pid for pid, parent in found.items() if parent not in found]


def write(servers: EmbeddedServers) -> None:
    with psycopg.connect(servers.database_url) as database:
        database.execute("CREATE TABLE IF NOT EXISTS kept AS SELECT 'kept' AS word")
    redis.Redis.from_url(servers.redis_url).set("word", "kept")


def kept(servers: EmbeddedServers) -> tuple[object, object]:
    with psycopg.connect(servers.database_url) as database:
        row = database.execute("SELECT word FROM kept").fetchone()
    assert row is not None
    return row[0], redis.Redis.from_url(servers.redis_url, decode_responses=True).get("word")


def test_they_are_real_and_as_wanted(tmp_path: Path) -> None:
    with start_embedded(tmp_path) as servers:
        with psycopg.connect(servers.database_url) as database:

            def show(name: str) -> object:
                row = database.execute(f"SELECT current_setting('{name}')").fetchone()
                return row and row[0]

            assert str(show("server_version")).startswith("18.")
            assert (show("server_encoding"), show("lc_messages"), show("listen_addresses")) == (
                "UTF8",
                "C",
                "127.0.0.1",
            )
            assert (show("fsync"), show("synchronous_commit")) == ("on", "on")
        valkey = redis.Redis.from_url(servers.redis_url, decode_responses=True)
        assert valkey.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        assert valkey.config_get("appendonly") == {"appendonly": "yes"}
        for pid in serving(tmp_path):
            assert os.getsid(pid) != os.getsid(0), "Ctrl-C in this terminal would reach it"
            assert {c.laddr.ip for c in psutil.Process(pid).net_connections("inet")} == {"127.0.0.1"}
    assert serving(tmp_path) == []


def test_data_outlives_a_stop(tmp_path: Path) -> None:
    with start_embedded(tmp_path) as servers:
        write(servers)
    with start_embedded(tmp_path) as servers:
        assert kept(servers) == ("kept", "kept")


def test_without_durability_they_start_as_well(tmp_path: Path) -> None:
    with start_embedded(tmp_path, durable=False) as servers:
        with psycopg.connect(servers.database_url) as database:
            assert database.execute("SHOW fsync").fetchone() == ("off",)
        write(servers)
        assert kept(servers) == ("kept", "kept")


def test_without_durability_a_killed_postgres_has_lost_nothing_either(tmp_path: Path) -> None:
    with EmbeddedPostgres(tmp_path, durable=False) as server:
        with psycopg.connect(server.url, autocommit=True) as database:
            database.execute("create table words (word int)")
            for word in range(100):
                database.execute("insert into words values (%s)", (word,))
        pid, *_ = (tmp_path / "data" / "postmaster.pid").read_text().splitlines()
        os.kill(int(pid), signal.SIGQUIT)
        server.stop()
        with psycopg.connect(server.start().url) as database:
            assert database.execute("select count(*) from words").fetchone() == (100,)


def test_servers_of_a_killed_owner_are_adopted(killed_owner: tuple[Path, str, str]) -> None:
    folder, database_url, redis_url = killed_owner
    left = serving(folder)
    assert len(left) == 2
    with start_embedded(folder) as servers:
        assert (servers.database_url, servers.redis_url) == (database_url, redis_url)
        assert serving(folder) == left
        write(servers)
        assert kept(servers) == ("kept", "kept")
    assert serving(folder) == []


def test_or_ended_when_other_options_are_wanted(killed_owner: tuple[Path, str, str]) -> None:
    folder, _, _ = killed_owner
    left = serving(folder)
    with start_embedded(folder, durable=False) as servers:
        write(servers)
        assert not set(serving(folder)) & set(left)


def test_servers_whose_folder_was_moved_are_ended_before_others_start(tmp_path: Path) -> None:
    before, after = tmp_path / "before", tmp_path / "after"
    with owner_of(before) as owner:
        assert owner.stdout is not None
        owner.stdout.readline()
        owner.send_signal(signal.SIGKILL)
    left = serving(before)
    assert len(left) == 2
    before.rename(after)
    with start_embedded(after) as servers:
        assert not [pid for pid in left if runs(pid)]
        assert redis.Redis.from_url(servers.redis_url).ping()
        with psycopg.connect(servers.database_url) as connection:
            connection.execute("select 1")


def test_a_pid_file_that_names_somebody_else_is_in_nobodys_way(tmp_path: Path) -> None:
    with start_embedded(tmp_path) as servers:
        write(servers)
    (tmp_path / "postgres" / "data" / "postmaster.pid").write_text(f"{os.getppid()}\n")
    (tmp_path / "valkey" / "valkey.pid").write_text(f"{os.getppid()}\n")
    with start_embedded(tmp_path) as servers:
        assert kept(servers) == ("kept", "kept")


def test_a_second_owner_is_refused_by_the_name_of_the_first(tmp_path: Path) -> None:
    with start_embedded(tmp_path) as servers:
        with pytest.raises(EmbeddedServerError, match=rf"belongs to another process \(pid {os.getpid()}\)"):
            EmbeddedPostgres(tmp_path / "postgres").start()
        with pytest.raises(EmbeddedServerError, match="belongs to another process"):
            EmbeddedValkey(tmp_path / "valkey").start()
        write(servers)  # and the first one never noticed


def test_a_taken_port_is_an_error_that_shows_the_log(tmp_path: Path) -> None:
    with (
        EmbeddedValkey(tmp_path / "a", persist=False) as first,
        pytest.raises(EmbeddedServerError, match=rf"(?s)ended at start on port {first.port}.*in use"),
    ):
        EmbeddedValkey(tmp_path / "b", port=first.port, persist=False).start()
    assert serving(tmp_path) == []


def test_the_port_is_chosen_once(tmp_path: Path) -> None:
    with start_embedded(tmp_path) as servers:
        urls = servers.database_url, servers.redis_url
    with start_embedded(tmp_path) as servers:
        assert (servers.database_url, servers.redis_url) == urls


@pytest.mark.parametrize("make", [EmbeddedPostgres, EmbeddedValkey])
def test_another_is_chosen_when_somebody_has_taken_it_and_then_kept(
    tmp_path: Path, make: type[EmbeddedPostgres | EmbeddedValkey]
) -> None:
    with make(tmp_path) as server:
        taken = server.port
    with socket.create_server(("127.0.0.1", taken)), capture_logs() as lines, make(tmp_path) as server:
        new = server.port
        assert new != taken
    assert [(line["taken"], line["new"]) for line in lines] == [(taken, new)]
    with make(tmp_path) as server:
        assert server.port == new


def test_a_port_file_that_is_no_port_is_not_believed(tmp_path: Path) -> None:
    (tmp_path / "port").write_text("99999\n")
    with EmbeddedValkey(tmp_path) as server:
        assert (tmp_path / "port").read_text() == f"{server.port}\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to give up its rights")
def test_root_runs_postgres_as_somebody_else(tmp_path: Path) -> None:
    with EmbeddedPostgres(tmp_path, durable=False):
        (pid,) = serving(tmp_path)
        assert psutil.Process(pid).uids().real in {
            pwd.getpwnam(name).pw_uid for name in ("postgres", "nobody") if any(e.pw_name == name for e in pwd.getpwall())
        }


@pytest.mark.parametrize("of_this_checkout", [False, True], ids=["another", "ours"])
def test_another_run_of_pytest_closes_no_folder_of_ours(tmp_path: Path, of_this_checkout: bool) -> None:
    folders = [folder for folder in (tmp_path, *tmp_path.parents) if folder.stat().st_uid == os.geteuid()]
    for folder in folders:
        folder.chmod(folder.stat().st_mode | stat.S_IXOTH)  # as `EmbeddedPostgres` does
    (tmp_path / "test_other.py").write_text("def test_other(tmp_path): pass")
    given = ["tests/test_json_pointer.py"] if of_this_checkout else ["--noconftest", "."]
    subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *given],
        cwd=ROOT if of_this_checkout else tmp_path,
        check=True,
    )
    assert all(folder.stat().st_mode & stat.S_IXOTH for folder in folders)
