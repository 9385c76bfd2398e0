"""What these tests share: a read model on the test's own database, and one on a populated database for the whole session.

The read model's connections are read-only, as the dashboard's are: a statement that writes would fail here.
"""

from collections.abc import AsyncIterator, Iterator

import asyncpg
import pytest

from benchmarks.population import Population, populate
from carafe import Client
from carafe.client.driving import in_thread
from carafe.readmodel.model import ReadModel
from carafe.store.database import Database, plain_dsn
from carafe.testing.databases import Databases
from tests.jobs.conftest import worker

__all__ = ["worker"]

PATIENT = 60.0
"""Seconds for trying rows: no test depends on how fast the machine is."""

SIZE = Population(live=12_000, ended=120_000, dead=80_000, kinds=40, days=2, workers=3)


@pytest.fixture
async def model(carafe_client: Client) -> AsyncIterator[ReadModel]:
    """What the pages ask, of the test's own database and Redis."""
    database = Database(carafe_client.database.url, read_only=True, pool_size=2)
    yield ReadModel(database, carafe_client.queue, trying=PATIENT)
    await database.close()


@pytest.fixture(scope="session")
def populated_url(carafe_databases: Databases) -> Iterator[str]:
    """A database with `SIZE` in it."""

    async def fill(url: str) -> None:
        connection = await asyncpg.connect(plain_dsn(url))
        try:
            await populate(connection, SIZE)
        finally:
            await connection.close()

    with carafe_databases.fresh() as url:
        in_thread(lambda: fill(url))
        yield url


@pytest.fixture
async def populated(populated_url: str) -> AsyncIterator[ReadModel]:
    """What the pages ask, of that database. It has no Redis."""
    database = Database(populated_url, read_only=True, pool_size=2)
    yield ReadModel(database, trying=PATIENT)
    await database.close()
