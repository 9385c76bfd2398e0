"""`carafe serve --worker --check` with missing rights and unusable servers: it names each problem, and a worker with the
same problem runs no job. With exactly the rights that the documentation lists, the check succeeds and a worker runs jobs."""

import asyncio
import itertools
import re
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest
import redis

from carafe import Client, State
from carafe.dev.embedded import EmbeddedServers, start_embedded
from carafe.queue.redis_rights import acl
from carafe.store.database import migrate
from carafe.store.postgres_rights import grants
from tests.cli.conftest import Command, application
from tests.cli.declared import Greet
from tests.engine.worker_process import WorkerProcess
from tests.waiting import eventually

pytestmark = pytest.mark.process

HEARTBEAT = r"heartbeat failed, Postgres is away|not recorded"
NOT_READY = "takes no jobs because Redis cannot be used"


MIGRATED = "migrated"
"""The database that the others are copies of."""

AT_ONCE = 6
"""Workers started at once."""


@dataclass(frozen=True)
class Wrong:
    """A wrong right or state: what the check says of it, and what a worker under it says, shows (its probes) or does (ends).
    `redis`: rules of its user on top of the right ones; `postgres`: done by the owner, to the user `{user}`; `job`: seen
    with one."""

    says: str
    worker: str
    redis: str = ""
    postgres: tuple[str, ...] = ()
    granted: bool = True
    migrated: bool = True
    password: str = "right"
    database: str | None = None
    port_taken: bool = False
    job: bool = False


WRONG: dict[str, Wrong] = {
    "no right to pop": Wrong("its user cannot take hints: Redis refuses BLMPOP 1 1", NOT_READY, "-blmpop"),
    "no right to the list": Wrong("its user cannot push hints: Redis refuses LPUSH default", NOT_READY, "resetkeys ~other"),
    "no right to the channels": Wrong("cannot hear of cancellations", NOT_READY, "resetchannels"),
    "no right to scripts": Wrong("cannot tell the autoscaler what runs", NOT_READY, "-eval -evalsha -script|load"),
    "no transactions": Wrong("its user lacks a right", NOT_READY, "-multi"),
    "another password": Wrong(
        "does not accept the user and password", r"does not accept the user and password", password="wrong"
    ),
    "no schema": Wrong("carafe.migrations is at nothing", "run `carafe migrate`", migrated=False, granted=False),
    "an older schema": Wrong(
        "not what this version needs: carafe.migrations is at 0001",
        HEARTBEAT + "|run `carafe migrate`",
        postgres=(
            "update carafe.alembic_version set version_num = '0001'",
            "alter table carafe.workers drop column drain_requested_at",
        ),
    ),
    "a newer schema": Wrong(
        "newer than this version of the program: carafe.migrations is at 9999",
        HEARTBEAT + "|run `carafe migrate`",
        postgres=(
            "update carafe.alembic_version set version_num = '9999'",
            "alter table carafe.workers rename column kinds to handles",
        ),
    ),
    "no right to the schema": Wrong("permission denied for schema carafe", HEARTBEAT, granted=False),
    "no right to announce itself": Wrong(
        "permission denied for table workers", HEARTBEAT, postgres=("revoke insert on carafe.workers from {user}",)
    ),
    "no right to end jobs": Wrong(
        "permission denied for table jobs_ended",
        r"permission denied for table jobs_ended|InsufficientPrivilege",
        postgres=("revoke insert on carafe.jobs_ended from {user}",),
        job=True,
    ),
    "no right to claim": Wrong(
        "permission denied for table jobs",
        r"permission denied for table jobs|InsufficientPrivilege",
        postgres=("revoke update on carafe.jobs from {user}",),
        job=True,
    ),
    "read-only": Wrong(
        "transactions are read-only", HEARTBEAT, postgres=("alter role {user} set default_transaction_read_only = on",)
    ),
    "rows that it does not see": Wrong(
        "row-level security",
        r'outcome="stale"[^\n]* 1\.0',
        postgres=(
            "alter table carafe.jobs enable row level security",
            "create policy come on carafe.jobs for insert with check (true)",
            "create policy look on carafe.jobs for select using (true)",
        ),
        job=True,
    ),
    "no such database": Wrong('database "none" does not exist', HEARTBEAT, database="none"),
    "a port that is taken": Wrong("PROBE_PORT: the health server cannot listen", "ended", port_taken=True),
}


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServers]:
    """Durable servers of this module's own: users, roles and settings are changed on them."""
    with start_embedded(tmp_path_factory.mktemp("servers")) as own:

        async def template() -> None:
            root = await asyncpg.connect(own.database_url)
            await root.execute(f"create database {MIGRATED}")
            await root.close()
            await migrate(at(own.database_url, path=MIGRATED))

        asyncio.run(template())
        yield own


@dataclass
class Case:
    """One state, set up: the settings of anyone who runs under it, and the owner's way to its database."""

    environment: dict[str, str]
    owner: str
    hints: str


def at(url: str, *, user: str | None = None, path: str) -> str:
    """A server's URL with another path, and another user (`name:password`)."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=parts.netloc if user is None else f"{user}@{host}", path=f"/{path}"))


class Cases:
    """Sets states up: each has a database, a role, a user of Redis and a database of Redis of its own."""

    _numbers = itertools.count(1)

    def __init__(self, servers: EmbeddedServers, stack: ExitStack) -> None:
        self._servers, self._stack = servers, stack

    async def make(self, wrong: Wrong) -> Case:
        """Set one up."""
        number = next(self._numbers)
        name = f"case{number}"
        root = await asyncpg.connect(self._servers.database_url)
        await root.execute(f"create database {name} template {MIGRATED if wrong.migrated else 'template1'}")
        await root.execute(f"create role {name} login password 'right'")
        await root.close()
        owner = at(self._servers.database_url, path=name)
        connection = await asyncpg.connect(owner)
        for statement in (*(grants(name) if wrong.granted else ()), *wrong.postgres):
            await connection.execute(statement.format(user=name))
        await connection.close()
        # Redis has sixteen databases: those that see no job may share one.
        database = number % 16
        hints = at(self._servers.redis_url, path=str(database))
        client: Any = redis.Redis.from_url(hints)
        rules = f"{acl(database)} {wrong.redis}".split()
        client.execute_command("ACL", "SETUSER", name, "reset", "on", ">right", *rules)
        client.close()
        environment = application(
            at(owner, user=f"{name}:right", path=wrong.database or name),
            at(hints, user=f"{name}:{wrong.password}", path=str(database)),
        )
        environment |= {"MIGRATIONS": "", "STEWARD": "false", "LOG_FORMAT": "json"}
        if wrong.port_taken:
            taken = self._stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            environment |= {"PROBE_PORT": str(taken.getsockname()[1]), "PROBE_HOST": "127.0.0.1"}
        return Case(environment, owner, hints)


async def enqueue(case: Case) -> Client:
    """One job, by the owner."""
    async with Client.connect(database_url=case.owner, redis_url=case.hints) as client:
        await client.enqueue(Greet(name="Ada"))
    return client


async def test_what_is_wrong_is_said_and_no_worker_works_where_it_is(
    servers: EmbeddedServers, bare: Command, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with ExitStack() as stack:
        cases = Cases(servers, stack)
        made = {name: await cases.make(wrong) for name, wrong in WRONG.items()}
        assert len(WRONG) >= 12
        for name, wrong in WRONG.items():
            answer = await asyncio.to_thread(bare, "serve", "--worker", "--check", **made[name].environment)
            said = answer.out + answer.err
            assert answer.code != 0, f"{name}: {said}"
            assert wrong.says in said, f"{name}: {said}"
            assert "a worker would run" not in said, name
            assert "Traceback" not in said, name
        names = list(WRONG)
        for batch in (names[begin : begin + AT_ONCE] for begin in range(0, len(names), AT_ONCE)):
            workers = {name: WorkerProcess(made[name].environment, tmp_path_factory.mktemp("worker")) for name in batch}
            for name, worker in workers.items():
                stack.callback(worker.kill)
                if WRONG[name].job:
                    await enqueue(made[name])

            def unseen(workers: dict[str, WorkerProcess] = workers) -> list[str]:
                return [name for name, worker in workers.items() if not shows(worker, WRONG[name].worker)]

            def all_seen(unseen: Callable[[], list[str]] = unseen) -> bool:
                assert unseen() == []
                return True

            await eventually(all_seen, 60)
            for worker in workers.values():
                worker.kill()


def shows(worker: WorkerProcess, pattern: str) -> bool:
    """Whether a worker says this, or shows it to its probes; or has ended with an error."""
    if pattern == "ended":
        return worker.process.poll() not in (None, 0)
    if worker.process.poll() is not None:
        raise RuntimeError(f"it has ended, and {pattern!r} was expected:\n{worker.log}")
    told = "\n".join((worker.log, worker.probe("/readyz")[1], worker.probe("/metrics")[1]))
    return re.search(pattern, told) is not None


RIGHTS = Wrong("", "")
"""Nothing is."""


async def test_under_the_rights_that_are_listed_it_says_yes_and_a_worker_works(
    servers: EmbeddedServers, bare: Command, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with ExitStack() as stack:
        case = await Cases(servers, stack).make(RIGHTS)
        answer = await asyncio.to_thread(bare, "serve", "--worker", "--check", **case.environment)
        assert (answer.code, answer.err.strip()) == (0, "a worker would run"), answer.out + answer.err
        connection = await asyncpg.connect(case.owner)
        # Nothing is left of having tried.
        tables = ("jobs", "jobs_ended", "attempts", "workers", "statistics_deltas", "audit")
        left = [await connection.fetchval(f"select count(*) from carafe.{table}") for table in tables]
        await connection.close()
        assert left == [0] * len(tables)
        client_of_redis: Any = stack.enter_context(redis.Redis.from_url(case.hints))
        assert client_of_redis.dbsize() == 0
        worker = WorkerProcess(case.environment, tmp_path_factory.mktemp("worker"))
        stack.callback(worker.kill)
        await worker.ready()
        async with Client.connect(database_url=case.owner, redis_url=case.hints) as client:
            job = await client.enqueue(Greet(name="Ada"))
            assert (await client.wait(job.id, timeout=30)).state is State.SUCCEEDED
        await worker.stop()


async def test_states_of_redis_are_told_by_doctor_too(servers: EmbeddedServers, bare: Command) -> None:
    """What a worker does in these states: tests/engine/test_redis_away.py."""
    with ExitStack() as stack:
        case = await Cases(servers, stack).make(RIGHTS)
        client: Any = stack.enter_context(redis.Redis.from_url(case.hints))

        async def told(words: str) -> None:
            for command in (("serve", "--worker", "--check"), ("doctor",)):
                answer = await asyncio.to_thread(bare, *command, **case.environment)
                assert answer.code == 1
                assert words in answer.out

        for setting, value, well, words in (
            ("maxmemory", 1, 0, "it is full"),
            ("min-replicas-to-write", 1, 0, "it has too few replicas"),
            ("maxmemory-policy", "allkeys-lru", "noeviction", "a full Redis drops the queue"),
        ):
            client.config_set(setting, value)
            try:
                await told(words)
            finally:
                client.config_set(setting, well)
        client.replicaof("127.0.0.1", "1")
        try:
            await told("it is a replica")
        finally:
            client.replicaof("NO", "ONE")
        client.set("default", "not a list")
        await told("the key default is not a list")
        client.delete("default")
