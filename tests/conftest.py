"""Real servers for every test, from Carafe's own pytest plugin.

`database_url` and `redis_url` are a module's: one migrated database and an empty Redis for all its tests. Tests that need
one each use the plugin's own fixtures (`carafe_database_url`, `carafe_client`, …).
"""

import functools
import gc
import os
import signal
import subprocess
import sys
from collections.abc import Generator, Iterator
from contextlib import nullcontext
from importlib.metadata import entry_points
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

import carafe.telemetry.structlog_alone  # noqa: F401  # with rich, one logged traceback takes a second of a processor
from carafe.testing.databases import Databases
from carafe.testing.servers import Servers, wipe
from tests import folders
from tests.forked import popen, prepare, share
from tests.servers import running

# Tests start Pythons by the hundred, and each would compile all that it imports.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# A shell that starts the tests in the background, or `nohup`, has them ignore signals; so would the processes under test.
for _number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, signal.default_int_handler if _number == signal.SIGINT else signal.SIG_DFL)

# While tests are imported nothing becomes garbage: no need to look for it. Until `pytest_collection_finish`.
gc.disable()

# Each client would read all authorities' certificates for 40 ms of a processor. Hardly one of the tests' speaks TLS.
vars(httpx._transports.default)["create_ssl_context"] = functools.cache(httpx.create_ssl_context)

# Where Carafe is installed, its entry point has registered the plugin.
pytest_plugins = [] if entry_points(group="pytest11", name="carafe") else ["carafe.testing.plugin"]


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    """A root of this checkout's own for temporary folders. Each run of pytest, those within our tests too, closes the usual
    one to every other account: root's Postgres, which runs as another user, would lose its data in the midst of a test."""
    config.add_cleanup(folders.use_memory(config.rootpath))
    with pytest.MonkeyPatch.context() as environment:
        root, end = folders.root_of(config.rootpath)
        config.add_cleanup(end)
        environment.setenv("PYTEST_DEBUG_TEMPROOT", str(root))
        config._tmp_path_factory.getbasetemp()  # type: ignore[attr-defined]  # chosen now, for good
    if getattr(config.option, "numprocesses", None):
        share()  # by the one that starts the others, and collects nothing: the server imports while they do
        gc.enable()


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Async tests and fixtures run on asyncio, on one loop for as long as a fixture needs it."""
    return "asyncio"


@pytest.fixture(scope="session")
def carafe_servers(carafe_servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """Those of `make servers`, where they run and no other run has them. Else this session's own, started when asked for; so
    too where several processes test, each of which needs a Redis of its own."""
    with running() if "PYTEST_XDIST_WORKER" not in os.environ else nullcontext() as urls:
        if urls is None:
            yield carafe_servers
        else:
            postgres, redis = urls
            yield Servers(tmp_path_factory.mktemp("servers"), postgres_url=postgres, redis_url=redis)


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


APART = (
    "test_smallest_rounds.py",
    "test_every_page.py",
    "test_chaos.py",
    "test_nothing_spilled.py",
    "test_openapi.py",
    "test_store_properties.py",
    "test_embedded.py",
    "test_embedded_access.py",
    "test_plugin.py",
)
"""Files with long tests that share little, begun first: each test goes to whichever process is free."""

TOGETHER = "tests/readmodel/"
"""Files that share a database which takes seconds to fill: one process takes them all."""

LONGEST = (
    *APART,
    "test_documented_commands.py",
    "test_dev.py",
    "test_django.py",
    "test_flask.py",
    "test_blocking_client.py",
    "test_hostile_handlers.py",
    "test_live_jobs.py",
    "test_second_application.py",
    "test_examples.py",
    "test_attacks.py",
    "test_check.py",
    "test_cardinality.py",
    "test_spoiling.py",
    "test_triage.py",
)
"""Files that take longest, begun first."""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Where several processes test (`make test`), each takes a file at a time, or a test of those that are `APART`."""
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            file = str(super()._split_scope(nodeid))
            if file.startswith(TOGETHER):
                return TOGETHER
            return nodeid if file.endswith(APART) else file

    return Scheduling(config, log) if config.getoption("dist") == "loadfile" else None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Where several processes take a file each (`make test`), none is left with a long one at the end: files that start
    processes, or fill a database, go before the others, the longest first of all."""
    starting = {item.path for item in items if item.get_closest_marker("process") or item.nodeid.startswith(TOGETHER)}
    rank = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: (rank.get(item.path.name, len(rank)), item.path not in starting))


def pytest_collection_finish() -> None:
    """What was imported for the tests stays until the end: no need to look at all of it again and again."""
    gc.collect()
    gc.freeze()
    gc.enable()


@pytest.fixture
def forked_places(monkeypatch: pytest.MonkeyPatch) -> None:
    """The processes of a world of `chaos` are forked."""
    monkeypatch.setattr("chaos.processes.subprocess", SimpleNamespace(**vars(subprocess) | {"Popen": popen}))


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
