"""The pytest plugin: fixtures for real servers (one set for a session), and for each test a new migrated database and a
client.

Guarantees: no server starts before a fixture needs it. Every test that uses the fixtures has a database of its own (a copy
of a migrated template, about 30 ms) and an empty Redis. Clients are closed on the event loop that used them, whichever
plugin ran the test (anyio's, pytest-asyncio, or ``asyncio.run`` in a plain function). The settings of the plugin, the tests
and the handlers come from files in one folder, pytest's root, no matter where pytest was started. Must never: import
anything but pytest and the standard library at load, since every pytest run on this machine loads it.

With ``pip install 'carafe-jobs[embedded]'`` the plugin starts embedded servers. The options `carafe_postgres_url` and
`carafe_redis_url` name other servers: on these the plugin creates and drops databases, and **wipes** the Redis database.
"""

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from carafe.settings.folder import read_instead

if TYPE_CHECKING:
    from carafe import Client, SyncClient
    from carafe.testing.databases import Databases
    from carafe.testing.servers import Servers


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declares the plugin's ini options. An option that is not given gets its value from Carafe's own settings (the
    environment, and `env.local` and pyproject.toml in pytest's root folder)."""
    parser.addini("carafe_job_modules", "modules that declare jobs and hooks (default: JOB_MODULES)", "args", None)
    parser.addini("carafe_handler_modules", "modules with handlers (default: HANDLER_MODULES)", "args", None)
    parser.addini("carafe_migrations", "packages with alembic migrations (default: MIGRATIONS)", "args", None)
    parser.addini("carafe_postgres_url", "a Postgres to make test databases on (default: an embedded one)", "string", None)
    parser.addini("carafe_redis_url", "a Redis to use and wipe (default: an embedded one)", "string", None)


def pytest_configure(config: pytest.Config) -> None:
    """Has settings read in pytest's root folder, also by modules that read them while they are imported."""
    session = ExitStack()
    session.enter_context(read_instead(config.invocation_params.dir, config.rootpath))
    config.add_cleanup(session.close)


@pytest.fixture(scope="session")
def carafe_servers(pytestconfig: pytest.Config) -> "Iterator[Servers]":
    """The servers of this test session. Each starts at its first use and stops at the end, when its data is deleted."""
    from carafe.testing.servers import Servers
    from carafe.testing.temporary_folder import FOLDER

    # Not below pytest's own folder: every new pytest run closes that folder to other users, and a Postgres that root has
    # started runs as another user, which would lose access to its data during the test run.
    with tempfile.TemporaryDirectory(prefix=FOLDER, ignore_cleanup_errors=True) as folder:
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
    """The URL of a Redis (Valkey) that the whole session shares. The fixture `carafe_redis_url` empties this Redis for each
    test."""
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
        with _faults_in_words(pytestconfig):
            load_modules(jobs, handlers, pytestconfig.rootpath)


@pytest.fixture(scope="session")
def carafe_databases(pytestconfig: pytest.Config, carafe_postgres: str) -> "Iterator[Databases]":
    """Creates databases: ``with carafe_databases.fresh() as url``. For fixtures whose scope is not a single test."""
    from carafe.testing.databases import Databases
    from carafe.testing.modules import migrations

    with _faults_in_words(pytestconfig):
        packages = migrations(pytestconfig.getini("carafe_migrations"), pytestconfig.rootpath)
    databases = Databases(carafe_postgres, packages)
    yield databases
    databases.close()


@pytest.fixture
def carafe_database_url(carafe_databases: "Databases") -> Iterator[str]:
    """The URL of a new, migrated database for this test alone. It is dropped afterwards."""
    with carafe_databases.fresh() as url:
        yield url


@pytest.fixture
def carafe_redis_url(carafe_redis: str) -> str:
    """The URL of a Redis that was emptied for this test."""
    from carafe.testing.servers import wipe

    wipe(carafe_redis)
    return carafe_redis


@pytest.fixture
def carafe_client(carafe_database_url: str, carafe_redis_url: str, carafe_modules: None) -> "Iterator[Client]":
    """A `Client` for this test's database and Redis, to be used on one event loop."""
    from carafe.testing.clients import client_on

    with client_on(carafe_database_url, carafe_redis_url) as client:
        yield client


@pytest.fixture
def carafe_sync_client(carafe_database_url: str, carafe_redis_url: str, carafe_modules: None) -> "Iterator[SyncClient]":
    """A `SyncClient` for this test's database and Redis."""
    from carafe import SyncClient

    with SyncClient.connect(database_url=carafe_database_url, redis_url=carafe_redis_url) as client:
        yield client


@contextmanager
def _faults_in_words(config: pytest.Config) -> Iterator[None]:
    """Turns settings that are not valid into a failure in words, without a traceback, also where a module of the application
    reads them while it is imported."""
    from carafe.settings.settings import SettingsError

    try:
        yield
    except ValueError as error:
        faults = next((one for one in (error, error.__cause__) if isinstance(one, SettingsError)), None)
        if faults is None:
            raise
        pytest.fail(
            f"Carafe's settings are not valid (read from the environment, and from files in {config.rootpath}):\n{faults}\n"
            "Set what the tests need in the conftest.py of this folder: os.environ[NAME] = VALUE",
            pytrace=False,
        )
