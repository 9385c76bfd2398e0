"""Real servers for every test, from Carafe's own pytest plugin.

`database_url` and `redis_url` are a module's: one migrated database and an empty Redis for all its tests. Tests that need
one each use the plugin's own fixtures (`carafe_database_url`, `carafe_client`, …).
"""

import os
import tempfile
import zlib
from collections.abc import Generator, Iterator
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from carafe.testing.databases import Databases
from carafe.testing.servers import Servers, wipe
from tests.forked import prepare

# Where Carafe is installed, its entry point has registered the plugin.
pytest_plugins = [] if entry_points(group="pytest11", name="carafe") else ["carafe.testing.plugin"]


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    """A root of this checkout's own for temporary folders. Each run of pytest, those within our tests too, closes the usual
    one to every other account: root's Postgres, which runs as another user, would lose its data in the midst of a test."""
    checkout = zlib.crc32(str(config.rootpath).encode())
    root = Path(tempfile.gettempdir(), f"carafe-tests-of-{os.geteuid()}-{checkout:08x}")
    root.mkdir(exist_ok=True)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("PYTEST_DEBUG_TEMPROOT", str(root))
        config._tmp_path_factory.getbasetemp()  # type: ignore[attr-defined]  # chosen now, for good


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Async tests and fixtures run on asyncio, on one loop for as long as a fixture needs it."""
    return "asyncio"


@pytest.fixture(scope="session")
def embedded_servers(carafe_servers: Servers) -> Servers:
    """The servers of this session; nothing is kept."""
    return carafe_servers


@pytest.fixture(scope="module")
def database_url(carafe_databases: Databases) -> Iterator[str]:
    """A migrated database of this module's own."""
    with carafe_databases.fresh() as url:
        yield url


@pytest.fixture(scope="module")
def redis_url(carafe_redis: str) -> str:
    """An empty Redis."""
    wipe(carafe_redis)
    return carafe_redis


LONGEST = (
    "test_smallest_rounds.py",
    "test_documented_commands.py",
    "test_chaos.py",
    "test_live_jobs.py",
    "test_nothing_spilled.py",
    "test_second_application.py",
    "test_openapi.py",
    "test_attacks.py",
    "test_hostile_handlers.py",
    "test_check.py",
    "test_every_page.py",
)
"""Files that take longest, begun first."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Where several processes take a file each (`make test`), none is left with a long one at the end: files that start
    processes go before the others, the longest first of all."""
    starting = {item.path for item in items if item.get_closest_marker("process")}
    rank = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: (rank.get(item.path.name, len(rank)), item.path not in starting))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """What forks processes imports for seconds: before the first test that starts one, since a test's loop that stood still
    for so long would take its own connections for dead."""
    if item.get_closest_marker("process"):
        prepare()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """What hostile texts have left in a test's log goes between processes (`--numprocesses`), and that only as UTF-8."""
    report = yield
    report.sections = [(name, text.encode("utf-8", "backslashreplace").decode()) for name, text in report.sections]
    return report
