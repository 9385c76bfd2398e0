"""Only the developer's account can use the embedded servers, also if an earlier release made their folders.

A superuser of Postgres can run programs as the server's account, so each way in would be a shell for another account.
"""

import contextlib
import json
import os
import shutil
import socket
import stat
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import psycopg
import pytest
import redis

from carafe.dev.embedded import EmbeddedPostgres, EmbeddedServers, EmbeddedValkey, free_port, start_embedded
from carafe.settings.local_servers import Announcement, Servers, announced

pytestmark = pytest.mark.process

STRANGER = 54_321
"""A user that no account of a machine has."""


@contextlib.contextmanager
def own_folder() -> Iterator[Path]:
    """A folder outside of pytest's own, which each run of pytest that begins closes to the account Postgres runs as."""
    with tempfile.TemporaryDirectory(prefix="carafe-private-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with own_folder() as made:
        yield made


@pytest.fixture
def old() -> Iterator[Path]:
    with own_folder() as made:
        yield made


@pytest.fixture(scope="module")
def servers(folder: Path) -> Iterator[EmbeddedServers]:
    with start_embedded(folder, durable=False) as running:
        yield running


def as_a_stranger(attempt: Callable[[], list[str]]) -> list[str]:
    """What `attempt` returns as another user without groups; as this one, where only root may become somebody else."""
    if os.geteuid() != 0:
        return attempt()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(STRANGER)
            os.setuid(STRANGER)
            os.write(writing, json.dumps(attempt()).encode())
        except BaseException as error:
            os.write(writing, json.dumps([f"the attempt itself failed: {error!r}"]).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading) as answer:
        succeeded: list[str] = json.load(answer)
    os.waitpid(child, 0)
    return succeeded


def ways_in(postgres_port: int, valkey_port: int) -> list[str]:
    """The ways in that are open to anyone who knows no password."""
    open_ones = []
    for password in ("", "postgres", "0" * 64):
        for user, database in (("postgres", "postgres"), ("postgres", "replication=database"), ("carafe", "postgres")):
            try:
                psycopg.connect(
                    f"host=127.0.0.1 port={postgres_port} user={user} connect_timeout=20 "
                    + (f"password={password} " if password else "passfile=/dev/null ")
                    + (database if "=" in database else f"dbname={database}")
                ).close()
                open_ones.append(f"Postgres as {user} with {password!r}, {database}")
            except psycopg.OperationalError as refused:
                if "password" not in str(refused):
                    open_ones.append(f"Postgres did not ask for a password: {refused}")
        try:
            redis.Redis(port=valkey_port, password=password or None).ping()
            open_ones.append(f"Valkey with {password!r}")
        except redis.AuthenticationError:
            pass
    for place in ("/tmp", "/var/run/postgresql", "\0"):
        with socket.socket(socket.AF_UNIX) as unix:
            try:
                unix.connect(f"{place}/.s.PGSQL.{postgres_port}")
                open_ones.append(f"a socket in {place!r}")
            except OSError:
                pass
    return open_ones


def readable(folder: Path) -> list[str]:
    """What can be opened or listed below `folder`."""
    found = []
    for path in (folder / "postgres", folder / "valkey", folder / "postgres" / "data"):
        try:
            os.listdir(path)
            found.append(str(path))
        except PermissionError:
            pass
    for path in (
        folder / "servers.json",
        *(folder / "postgres" / name for name in ("password", "server.log", "owner.lock", "data/pg_hba.conf")),
        *(folder / "valkey" / name for name in ("password", "server.log", "owner.lock", "valkey.conf")),
    ):
        try:
            path.open().close()
            found.append(str(path))
        except PermissionError:
            pass
    return found


def test_nobody_gets_in_without_the_password(servers: EmbeddedServers) -> None:
    postgres, valkey = servers.postgres.port, servers.valkey.port
    assert as_a_stranger(lambda: ways_in(postgres, valkey)) == []
    with psycopg.connect(servers.database_url) as database:
        methods = database.execute("select distinct auth_method from pg_hba_file_rules").fetchall()
        stored = database.execute("select rolname, left(rolpassword, 14) from pg_authid where rolcanlogin").fetchall()
    assert methods == [("scram-sha-256",)]
    assert stored == [("postgres", "SCRAM-SHA-256$")]


def test_the_password_stands_in_no_argument_and_in_no_log(servers: EmbeddedServers, folder: Path) -> None:
    passwords = [(folder / name / "password").read_text().strip() for name in ("postgres", "valkey")]
    assert len({*passwords}) == 2
    assert min(map(len, passwords)) >= 32
    shown = [" ".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"])]
    shown += [(folder / name / "server.log").read_text(errors="replace") for name in ("postgres", "valkey")]
    assert not [text for text in shown if any(password in text for password in passwords)]


def test_files_are_closed_to_everybody_else(servers: EmbeddedServers, folder: Path) -> None:
    announcement = Announcement(folder, Servers(servers.database_url, servers.redis_url))
    try:
        folder.chmod(0o755)  # what is tested is what lies in it
        if os.geteuid() == 0:
            assert as_a_stranger(lambda: readable(folder)) == []
        for name in ("postgres", "valkey"):
            assert not (folder / name).stat().st_mode & (stat.S_IRWXO | stat.S_IWGRP | stat.S_IRGRP)
            assert stat.S_IMODE((folder / name / "password").stat().st_mode) == 0o600
        assert stat.S_IMODE((folder / "servers.json").stat().st_mode) == 0o600
        found = announced(folder)
        assert found == Servers(servers.database_url, servers.redis_url)
    finally:
        announcement.withdraw()


def as_before(folder: Path) -> None:
    """Makes a folder what the version without passwords left: trust, no password anywhere, open to everybody."""
    with start_embedded(folder, durable=False) as servers:
        with psycopg.connect(servers.database_url, autocommit=True) as database:
            database.execute("create table kept as select 'kept' as word")
            database.execute("alter role postgres password null")
        redis.Redis.from_url(servers.redis_url).set("word", "kept")
        redis.Redis.from_url(servers.redis_url).save()
    hba = folder / "postgres" / "data" / "pg_hba.conf"
    hba.write_text("local all all trust\nhost all all 127.0.0.1/32 trust\n")
    for name in ("postgres", "valkey"):
        (folder / name / "password").unlink()
        (folder / name).chmod(0o755)
        (folder / name / "server.log").chmod(0o644)
    (folder / "valkey" / "valkey.conf").unlink()


def left_running(folder: Path) -> list["subprocess.Popen[bytes]"]:
    """The servers of that version, whose owner was killed: they ask nobody for a password."""
    postgres, valkey = EmbeddedPostgres(folder / "postgres"), EmbeddedValkey(folder / "valkey")
    account = postgres._account()
    commands = [[*postgres._command(free_port()), "-c", "fsync=off"], valkey._command(free_port())]
    commands[0] = [part for part in commands[0] if "password" not in part and part != "-c"]
    commands[0] = [part if "=" not in part else f"--{part}" for part in commands[0]]
    commands[1] = [part for part in commands[1] if not part.endswith("valkey.conf")]
    started = []
    for command, user, server in zip(commands, (account, None), (postgres, valkey), strict=True):
        (server.data_dir / "owner.lock").write_text("1\n")
        process = subprocess.Popen(
            command,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            user=user.pw_uid if user else None,
            group=user.pw_gid if user else None,
        )
        server._process = psutil.Process(process.pid)
        port = server._port_in(command)
        assert port is not None
        if isinstance(server, EmbeddedPostgres):
            assert server._answers(server._process, port)
            assert psycopg.connect(f"host=127.0.0.1 port={port} user=postgres dbname=postgres").closed == 0
        else:
            assert redis.Redis(port=port, retry=redis.retry.Retry(redis.backoff.ConstantBackoff(0.05), 600)).ping()
        started.append(process)
    return started


def all_is_kept_and_closed(folder: Path) -> None:
    with start_embedded(folder, durable=False) as servers:
        postgres, valkey = servers.postgres.port, servers.valkey.port
        assert as_a_stranger(lambda: ways_in(postgres, valkey)) == []
        with psycopg.connect(servers.database_url) as database:
            assert database.execute("select word from kept").fetchone() == ("kept",)
        for name in ("postgres", "valkey"):
            assert not (folder / name).stat().st_mode & stat.S_IRWXO


def test_folders_made_without_passwords_get_them_and_keep_their_data(old: Path) -> None:
    as_before(old)
    all_is_kept_and_closed(old)
    # The same when its servers still run, and when the file was removed since.
    (old / "postgres" / "password").unlink()
    (old / "postgres" / "data" / "pg_hba.conf").write_text("host all all 127.0.0.1/32 trust\n")
    left = left_running(old)
    try:
        all_is_kept_and_closed(old)
        assert [process.wait(20) is not None for process in left] == [True, True]
    finally:
        for process in left:
            process.kill()
            process.wait()


def test_a_new_database_in_an_old_folder_has_a_password_of_its_own(old: Path) -> None:
    with EmbeddedPostgres(old, durable=False) as server:
        before = server.url
    shutil.rmtree(old / "data")
    with EmbeddedPostgres(old, durable=False) as server:
        assert server.url.split("@")[0] != before.split("@")[0]
        with psycopg.connect(server.url) as database:
            assert database.execute("select 1").fetchone() == (1,)
