"""A Redis that answers but cannot be used counts as away: the worker logs that once, waits, and takes jobs within a second
after Redis can be used again."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import psutil
import pytest
import redis

from carafe import Client, State
from carafe.dev.embedded import EmbeddedValkey, free_port
from carafe.jobs.queue_name import QUEUE
from carafe.queue.queue import Queue
from tests.engine.conftest import StartWorker, States
from tests.engine.jobs import NoOp
from tests.engine.refusing import refusing
from tests.engine.worker_process import WorkerProcess
from tests.waiting import eventually

pytestmark = pytest.mark.process

AWAY = "Redis is away, trying again every second"


@pytest.fixture(scope="module")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of this module's own, whose role and memory its tests change."""
    folder: Path = tmp_path_factory.mktemp("own valkey")
    server = EmbeddedValkey(folder, port=free_port(), persist=False)
    yield server.start().url
    server.stop()


@contextmanager
def replica(connection: "redis.Redis") -> Iterator[None]:
    """The server is the replica of one that is not there."""
    connection.replicaof("127.0.0.1", str(free_port()))
    try:
        yield
    finally:
        connection.replicaof("NO", "ONE")


@contextmanager
def without_its_primary(connection: "redis.Redis") -> Iterator[None]:
    """The same, and it answers nothing but that."""
    connection.config_set("replica-serve-stale-data", "no")
    with replica(connection):
        yield
    connection.config_set("replica-serve-stale-data", "yes")


@contextmanager
def too_few_replicas(connection: "redis.Redis") -> Iterator[None]:
    """It refuses writes for want of replicas."""
    connection.config_set("min-replicas-to-write", 1)
    try:
        yield
    finally:
        connection.config_set("min-replicas-to-write", 0)


@contextmanager
def no_right_to_pop(connection: "redis.Redis") -> Iterator[None]:
    """Its user may not pop any more."""
    connection.acl_setuser("default", commands=["-blmpop"], enabled=True, nopass=True, reset=False)
    try:
        yield
    finally:
        connection.acl_setuser("default", categories=["+@all"], enabled=True, nopass=True, reset=False)


@contextmanager
def a_key_of_another_kind(connection: "redis.Redis") -> Iterator[None]:
    """Somebody has put a string where the list was."""
    connection.set(QUEUE, "not a list")
    try:
        yield
    finally:
        connection.delete(QUEUE)


def until(check: Callable[[], bool]) -> None:
    """Ask until it holds: each question is an answer of the server's."""
    deadline = time.monotonic() + 20
    while not check():
        assert time.monotonic() < deadline


@contextmanager
def cannot_save(connection: "redis.Redis") -> Iterator[None]:
    """It is to save its data, and the last try was killed."""

    def outcome() -> str:
        return str(connection.info("persistence")["rdb_last_bgsave_status"])

    connection.set("to be saved", 1)
    connection.config_set("save", "3600 1")
    connection.config_set("rdb-key-save-delay", 60_000_000)
    connection.bgsave()
    for child in psutil.Process(connection.info("server")["process_id"]).children():
        child.kill()
    until(lambda: outcome() == "err")
    try:
        yield
    finally:
        connection.config_set("rdb-key-save-delay", 0)
        connection.bgsave()
        until(lambda: outcome() == "ok")
        connection.config_set("save", "")
        connection.delete("to be saved")


@contextmanager
def no_more_clients(connection: "redis.Redis") -> Iterator[None]:
    """It has as many clients as it may, and a worker is none of them."""
    before = str(connection.config_get("maxclients")["maxclients"])
    connection.config_set("maxclients", 1)
    connection.client_kill_filter(_type="normal", skipme=True)
    try:
        yield
    finally:
        connection.config_set("maxclients", before)


@contextmanager
def a_script_without_end(connection: "redis.Redis") -> Iterator[None]:
    """A script holds it up, which began in the moment when all clients had lost it."""
    connection.config_set("busy-reply-threshold", 1)
    place = {name: connection.get_connection_kwargs()[name] for name in ("host", "port", "password")}
    with redis.Redis(**place, socket_timeout=None) as other:
        pipeline = other.pipeline(transaction=True)
        pipeline.client_kill_filter(_type="normal", skipme=True)
        pipeline.eval("while true do end", 0)
        running = threading.Thread(target=lambda: pipeline.execute(raise_on_error=False))
        running.start()
        try:
            yield
        finally:
            connection.script_kill()
            running.join(20)


UNANSWERED: dict[str, tuple[Callable[[redis.Redis], AbstractContextManager[None]], str]] = {
    "MAXCLIENTS": (no_more_clients, "it has reached its maximum number of clients"),
    "BUSY": (a_script_without_end, "a script blocks it"),
}
"""States in which it tells nobody how it is."""

STATES: dict[str, tuple[Callable[[redis.Redis], AbstractContextManager[None]], str]] = {
    "READONLY": (replica, "it is a replica"),
    "MASTERDOWN": (without_its_primary, "it is a replica"),
    "NOREPLICAS": (too_few_replicas, "it has too few replicas"),
    "NOPERM": (no_right_to_pop, "its user lacks a right"),
    "MISCONF": (cannot_save, "it cannot save its data"),
    "WRONGTYPE": (a_key_of_another_kind, "another program uses one of Carafe's keys"),
}


@pytest.mark.parametrize("state", STATES)
async def test_a_worker_waits_in_words_and_takes_jobs_again(
    client: Client, worker: WorkerProcess, redis_connection: "redis.Redis", becomes: States, state: str
) -> None:
    make, words = STATES[state]

    def said() -> list[str]:
        return [str(line["error"]) for line in worker.events(AWAY) if words in str(line["error"])]

    before = len(said())
    with make(redis_connection):
        # Accepted all the same.
        job = await client.enqueue(NoOp())
        await eventually(lambda: worker.probe("/readyz")[0] == 503 and words in worker.probe("/readyz")[1])
        assert worker.probe("/livez")[0] == 200
        trouble = await client.queue.trouble(within=2)
        # One right may be missing, and not another.
        assert words in (trouble or "") or state == "NOPERM"
        # Asked again every second: said once all the same.
        asked = redis_connection.info("stats")["total_connections_received"]
        await eventually(lambda: redis_connection.info("stats")["total_connections_received"] >= asked + 2)
        assert len(said()) == before + 1
    await eventually(lambda: worker.probe("/readyz")[0] == 200)
    await becomes(job.id, State.SUCCEEDED, 20)
    assert worker.process.poll() is None
    assert await client.queue.trouble(within=2) is None


@pytest.mark.parametrize("state", UNANSWERED)
async def test_a_worker_waits_for_a_server_that_answers_nobody(
    client: Client, worker: WorkerProcess, redis_connection: "redis.Redis", becomes: States, state: str
) -> None:
    make, words = UNANSWERED[state]
    with make(redis_connection):
        job = await client.enqueue(NoOp())
        await eventually(lambda: worker.probe("/readyz")[0] == 503 and words in worker.probe("/readyz")[1])
        assert worker.probe("/livez")[0] == 200
        assert words in (await client.queue.trouble(within=2) or "")
    await eventually(lambda: worker.probe("/readyz")[0] == 200)
    await becomes(job.id, State.SUCCEEDED, 20)
    assert worker.process.poll() is None


async def test_a_worker_waits_for_a_server_that_loads_or_is_a_cluster(
    client: Client, redis_url: str, start_worker: StartWorker, becomes: States
) -> None:
    """A stand-in says it: this server has loaded its data before anybody could ask, and is not a part of a cluster."""
    async with refusing(redis_url) as front:
        worker = await start_worker(REDIS_URL=front.url)
        queue = Queue(front.url, timeout=2)
        for says, words in (
            ("LOADING Valkey is loading the dataset in memory", "it is loading its data"),
            ("CLUSTERDOWN The cluster is down", "it is a cluster that is down"),
        ):
            front.says = says
            await front.hang_up()

            def told(words: str = words) -> bool:
                return words in worker.probe("/readyz")[1]

            await eventually(told)
            assert worker.probe("/livez")[0] == 200
            assert words in (await queue.trouble(within=2) or "")
            front.says = None
            await front.hang_up()
            await eventually(lambda: worker.probe("/readyz")[0] == 200)
            job = await client.enqueue(NoOp())
            await becomes(job.id, State.SUCCEEDED, 20)
        await queue.close()
        assert worker.process.poll() is None
        await worker.stop()


async def test_a_pop_that_is_ended_with_an_error_ends_no_worker(
    client: Client, worker: WorkerProcess, redis_connection: "redis.Redis", becomes: States
) -> None:
    lost = "lost the connection to Redis"
    before = len(worker.events(lost))

    def end_it() -> bool:
        for one in redis_connection.client_list():
            if one["cmd"] == "blmpop" and "b" in one["flags"]:
                redis_connection.client_unblock(int(one["id"]), error=True)
        return len(worker.events(lost)) > before

    await eventually(end_it)
    assert "it has ended the commands that waited" in worker.events(lost)[-1]["error"]
    job = await client.enqueue(NoOp())
    await becomes(job.id, State.SUCCEEDED)
    assert worker.process.poll() is None


async def test_a_full_redis_is_said_and_its_queue_is_worked_off(
    client: Client, worker: WorkerProcess, redis_connection: "redis.Redis", becomes: States
) -> None:
    redis_connection.config_set("maxmemory", 1)
    try:
        waiting = await client.enqueue(NoOp())  # accepted; its hint is not taken
        assert await client.queue.trouble(within=2) == "it is full: raise maxmemory, or let workers empty the queue"
        # What comes back from an outage meanwhile finds a server that refuses what Celery would enter there, and pops.
        ready = len(worker.events("lost the connection to Redis"))

        def cut() -> bool:
            for one in redis_connection.client_list():
                if one["cmd"] == "blmpop":
                    redis_connection.client_kill(one["addr"])
            return len(worker.events("lost the connection to Redis")) > ready

        await eventually(cut)
        await eventually(lambda: worker.probe("/readyz")[0] == 200)
    finally:
        redis_connection.config_set("maxmemory", 0)
    await becomes(waiting.id, State.SUCCEEDED, 20)
    assert worker.process.poll() is None
