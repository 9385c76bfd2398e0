"""`carafe steward` as a process: it leads, ends in an orderly way, and another process takes over when it is killed."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from carafe import Client, State
from carafe.jobs.identifiers import uuid7
from carafe.steward.lease import Lease
from carafe.store.database import Database, plain_dsn
from tests.cli.conftest import application
from tests.cli.running import Running, running
from tests.jobs.kinds import Greet
from tests.waiting import eventually


async def leader(client: Client) -> str | None:
    """Who holds the lease now."""
    async with client.database.connection() as connection:
        name: str | None = await connection.fetchval("select holder_name from carafe.leases where expires_at > now()")
    return name


async def leads(client: Client, process: Running, within: float = 40.0) -> None:
    async def check() -> bool:
        return (await leader(client) or "").endswith(f":{process.pid}")

    await eventually(check, within)


@pytest.mark.process
async def test_another_takes_over_when_the_leader_is_killed(
    carafe_client: Client, carafe_database_url: str, carafe_redis_url: str, tmp_path: Path
) -> None:
    settings = application(carafe_database_url, carafe_redis_url) | {"JOB_MODULES": "tests.jobs.kinds"}
    with ExitStack() as stack:
        first = stack.enter_context(running("steward", folder=tmp_path, **settings))
        await leads(carafe_client, first)
        second = stack.enter_context(running("steward", folder=tmp_path, **settings))
        await asyncio.to_thread(second.says, "steward started")
        later = await carafe_client.enqueue(Greet(name="Ada"), delay=0.2)
        await eventually(lambda: _is(carafe_client, later.id, State.QUEUED))
        assert (await leader(carafe_client) or "").endswith(f":{first.pid}")

        first.send(signal.SIGKILL)

        await leads(carafe_client, second)
        later = await carafe_client.enqueue(Greet(name="Ada"), delay=0.2)
        await eventually(lambda: _is(carafe_client, later.id, State.QUEUED))
        code = await asyncio.to_thread(second.end)
        assert code == 0, second.output
        assert await leader(carafe_client) is None


async def _is(client: Client, job: UUID, state: State) -> bool:
    return (await client.get(job)).state is state


@pytest.mark.process
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_in_order_even_without_postgres(tmp_path: Path, number: signal.Signals) -> None:
    settings = application("postgresql://nobody@127.0.0.1:1/none", "redis://127.0.0.1:1/0")
    with running("steward", folder=tmp_path, **settings) as process:
        process.says("lease not renewed")
        assert process.end(number) == 0, process.output


class Pooled(Database):
    """A database behind a transaction pooler: no two transactions of ours are on the same connection of the server."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.backends: list[int] = []

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Any]:
        connection = await asyncpg.connect(plain_dsn(self.url))
        try:
            self.backends.append(connection.get_server_pid())
            yield connection
        finally:
            await connection.close()


async def test_the_lease_needs_no_session(carafe_database_url: str) -> None:
    database = Pooled(carafe_database_url)
    one, other = (Lease(database, "steward", uuid7(), name) for name in ("one", "other"))

    assert await one.renew()
    assert not await other.renew()
    assert await one.renew()
    assert one.held
    assert not other.held
    await one.release()
    assert await other.renew()
    assert not await one.renew()

    assert len(set(database.backends)) == len(database.backends) == 6
