"""A `SyncClient` needs no closing and survives a fork: scripts that end at once, ``os.fork``, ``gunicorn --preload``."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

import psycopg
import pytest

from carafe import State, SyncClient
from tests.jobs.kinds import Greet

Hinted = Callable[[], list[UUID]]

SCRIPT = """
from carafe import Job, SyncClient


class Note(Job, kind="tests.script"):
    text: str


client = SyncClient.connect(database_url={database!r}, redis_url={redis!r})
client.enqueue(Note(text="1"))
print(client.enqueue_many([Note(text="2"), Note(text="3")])[-1].id)
"""


@pytest.mark.process
def test_a_script_with_a_client_that_nobody_closes_ends_at_once(
    tmp_path: Path, carafe_sync_client: SyncClient, carafe_database_url: str, carafe_redis_url: str, hinted: Hinted
) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(database=carafe_database_url, redis=carafe_redis_url))
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error::ResourceWarning:carafe", script],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, "")
    jobs = carafe_sync_client.find().jobs
    assert UUID(done.stdout.strip()) in {job.id for job in jobs}
    assert set(hinted()) == {job.id for job in jobs}
    assert len(jobs) == 3


def in_child(work: Callable[[], object]) -> int:
    """Runs `work` in a forked process, and returns its exit code: 0 if the work raised nothing. A child that hangs is
    killed after a minute, and its code is that of SIGALRM."""
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(60)
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_parent_and_child_both_go_on_after_a_fork(
    carafe_sync_client: SyncClient, carafe_database_url: str, hinted: Hinted
) -> None:
    client = carafe_sync_client
    before = client.enqueue(Greet(name="before"))
    parents = pids(carafe_database_url)

    assert in_child(lambda: client.enqueue(Greet(name="child"))) == 0
    assert in_child(lambda: in_child(lambda: client.enqueue(Greet(name="grandchild"))) or client.enqueue_many([])) == 0
    client.enqueue(Greet(name="parent"))

    assert {job.args["name"] for job in client.find().jobs} == {"before", "child", "grandchild", "parent"}
    assert client.get(before.id).state is State.QUEUED
    assert len(hinted()) == 4
    assert parents <= pids(carafe_database_url)  # no child has used or ended a connection of its parent


def test_a_child_closes_its_copies_of_the_parents_connections(carafe_sync_client: SyncClient) -> None:
    client = carafe_sync_client
    client.enqueue(Greet(name="before"))
    [pool] = client._client.database._pools.values()  # type: ignore[attr-defined]
    sockets = [connection.driver.pgconn.socket for connection in pool.all]

    def closed() -> None:
        for socket in sockets:
            with pytest.raises(OSError, match="Bad file descriptor"):
                os.fstat(socket)

    assert sockets
    assert in_child(closed) == 0


def test_a_grandchild_keeps_the_files_that_now_have_the_numbers_of_closed_connections(
    carafe_sync_client: SyncClient, tmp_path: Path
) -> None:
    client = carafe_sync_client
    client.enqueue(Greet(name="before"))

    def child() -> None:
        files = [os.open(tmp_path / str(number), os.O_CREAT) for number in range(20)]
        assert in_child(lambda: [os.fstat(file) for file in files]) == 0

    assert in_child(child) == 0


def test_a_fork_while_another_thread_uses_the_client(carafe_sync_client: SyncClient) -> None:
    client = carafe_sync_client
    pool = client._client.database._pool_here()  # type: ignore[attr-defined]
    while pool.room.acquire(blocking=False):  # as if threads of the parent had all connections
        pass

    assert in_child(lambda: client.enqueue(Greet(name="child"))) == 0
    pool.room.release(10)
    assert [job.args["name"] for job in client.find().jobs] == ["child"]


def pids(database_url: str) -> set[int]:
    """The processes of the server behind the client's connections."""
    with psycopg.connect(database_url) as connection:
        rows = connection.execute(
            "select pid from pg_stat_activity where datname = current_database() and application_name = 'carafe client'"
        )
        return {row[0] for row in rows}
