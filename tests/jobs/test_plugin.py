"""The pytest plugin, in sessions of its own: what a user's tests see, under each way of running coroutines."""

import subprocess
import sys
from importlib.util import find_spec

import pytest

pytest_plugins = ["pytester"]

TESTS = """
    import asyncio

    import pytest

    from carafe import testing
    from carafe import Client, Job, SyncClient
    from mine import Double


    @pytest.fixture
    def anyio_backend() -> str:
        return "asyncio"


    {marker}
    async def test_async(carafe_client: Client) -> None:
        async with testing.inline(carafe_client):
            accepted = await carafe_client.enqueue(Double(n=2))
        async with carafe_client.database.sessions()() as session:
            assert (await carafe_client.get(accepted.id)).result == 4


    {marker}
    async def test_another_is_alone(carafe_client: Client) -> None:
        assert (await carafe_client.find()).jobs == ()


    def test_sync(carafe_sync_client: SyncClient) -> None:
        with testing.manual(carafe_sync_client) as jobs:
            carafe_sync_client.enqueue(Double(n=3))
            jobs.assert_enqueued(Double, n=3)
            assert [record.result for record in jobs.drain()] == [6]


    def test_by_hand(carafe_client: Client) -> None:
        async def run() -> None:
            assert (await carafe_client.enqueue(Double(n=1))).kind == "mine.double"

        asyncio.run(run())


    def test_urls(carafe_database_url: str, carafe_redis_url: str, carafe_postgres: str, carafe_redis: str) -> None:
        assert carafe_database_url.rsplit("/", 1)[0] == carafe_postgres.rsplit("/", 1)[0]
        assert carafe_redis_url == carafe_redis
"""

MINE = """
    from carafe import Context, Job, handler

    class Double(Job, kind="mine.double"):
        n: int
"""

HANDLERS = """
    from carafe import Context, handler
    from mine import Double

    @handler(Double)
    async def double(job: Double, ctx: Context) -> int:
        return 2 * job.n
"""

INI = """
    [pytest]
    pythonpath = .
    filterwarnings = error
    carafe_job_modules = mine
    carafe_handler_modules = my_handlers
    carafe_migrations =
    carafe_postgres_url = {postgres}
    carafe_redis_url = {redis}
"""

ONE_LOOP = """asyncio_mode = auto
    asyncio_default_fixture_loop_scope = session
    asyncio_default_test_loop_scope = session"""

RUNNERS = {
    "anyio": ("@pytest.mark.anyio", ["-p", "anyio"], ""),
    "pytest-asyncio": (
        "@pytest.mark.asyncio",
        ["-p", "pytest_asyncio.plugin"],
        "asyncio_default_fixture_loop_scope = function",
    ),
    "pytest-asyncio with one loop": ("", ["-p", "pytest_asyncio.plugin"], ONE_LOOP),
}


@pytest.mark.process
@pytest.mark.parametrize("runner", RUNNERS)
def test_its_fixtures_work_with(pytester: pytest.Pytester, carafe_postgres: str, carafe_redis: str, runner: str) -> None:
    marker, plugin, ini = RUNNERS[runner]
    if "asyncio" in runner and find_spec("pytest_asyncio") is None:
        pytest.skip("pytest-asyncio is not installed")
    pytester.makeini(INI.format(postgres=carafe_postgres, redis=carafe_redis) + f"    {ini}\n")
    pytester.makepyfile(mine=MINE, my_handlers=HANDLERS, test_mine=TESTS.format(marker=marker))
    pytester.plugins = []

    # Nothing but the plugin itself: what else is installed here must not decide.
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
        environment.setenv("PYTHONPATH", ":".join(sys.path))
        result = pytester.runpytest_subprocess("-p", "carafe.testing.plugin", *plugin)

    result.assert_outcomes(passed=5)


def test_loading_it_imports_nothing_else() -> None:
    # It loads in every pytest run of the machine, also in those that have nothing to do with Carafe.
    code = (
        "import sys, pytest; before = set(sys.modules); import carafe.testing.plugin;"
        "print(sorted({name.partition('.')[0] for name in set(sys.modules) - before} - set(sys.stdlib_module_names)))"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONPATH": ":".join(sys.path)}
    )

    assert loaded.stdout.strip() == "['carafe']"
