"""The pytest plugin, in sessions of its own: what a user's tests see, under each way of running coroutines."""

import subprocess
import sys
from importlib.util import find_spec
from textwrap import dedent

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


SHOP = {
    "mine": """
        from carafe import Job, Settings

        class ShopSettings(Settings):
            shop_city: str

        class Say(Job[str], kind="mine.say"):
            pass
    """,
    "my_handlers": """
        from carafe import Context, handler, load_settings
        from mine import Say, ShopSettings

        @handler(Say)
        async def say(job: Say, ctx: Context) -> str:
            return load_settings(ShopSettings).shop_city
    """,
}
TEST_OF_SHOP = """
    from carafe import SyncClient, load_settings, testing
    from mine import Say, ShopSettings

    {at_import}

    def test_the_city(carafe_sync_client: SyncClient) -> None:
        with testing.inline(carafe_sync_client):
            accepted = carafe_sync_client.enqueue(Say())
        assert carafe_sync_client.get(accepted.id).result == "Lugano"


    def test_another_folder_has_settings_of_its_own(monkeypatch, tmp_path) -> None:
        monkeypatch.chdir(tmp_path)
        (tmp_path / "env.local").write_text("SHOP_CITY=Bern")
        assert load_settings(ShopSettings).shop_city == "Bern"
"""


def _shop(pytester: pytest.Pytester, postgres: str, redis: str, *, at_import: str) -> None:
    pytester.mkdir("shop")
    for name, text in SHOP.items():
        (pytester.path / "shop" / f"{name}.py").write_text(dedent(text))
    (pytester.path / "shop" / "pyproject.toml").write_text(
        '[tool.carafe]\njob_modules = ["mine"]\nhandler_modules = ["my_handlers"]\nsettings_class = "mine:ShopSettings"\n'
        f'[tool.pytest.ini_options]\npythonpath = ["."]\ncarafe_postgres_url = "{postgres}"\ncarafe_redis_url = "{redis}"\n'
    )
    (pytester.path / "shop" / "tests").mkdir()
    (pytester.path / "shop" / "tests" / "test_shop.py").write_text(dedent(TEST_OF_SHOP).format(at_import=at_import))
    pytester.plugins = []


def _run_in(pytester: pytest.Pytester, folder: str, *arguments: str) -> pytest.RunResult:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
        environment.setenv("PYTHONPATH", ":".join(sys.path))
        environment.chdir(pytester.path / folder)
        return pytester.runpytest_subprocess("-p", "carafe.testing.plugin", *arguments)


@pytest.mark.process
@pytest.mark.parametrize(("folder", "arguments"), [(".", ["shop/tests"]), ("shop", []), ("shop/tests", [])])
def test_settings_are_read_in_one_folder_wherever_pytest_starts(
    pytester: pytest.Pytester, carafe_postgres: str, carafe_redis: str, folder: str, arguments: list[str]
) -> None:
    _shop(pytester, carafe_postgres, carafe_redis, at_import="assert load_settings(ShopSettings).shop_city == 'Lugano'")
    (pytester.path / "shop" / "env.local").write_text("SHOP_CITY=Lugano\n")

    _run_in(pytester, folder, *arguments).assert_outcomes(passed=2)


@pytest.mark.process
def test_settings_that_are_not_valid_are_told_in_words(
    pytester: pytest.Pytester, carafe_postgres: str, carafe_redis: str
) -> None:
    _shop(pytester, carafe_postgres, carafe_redis, at_import="")

    result = _run_in(pytester, "shop")

    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*settings are not valid*", "SHOP_CITY: is required: text", "*in the conftest.py*"])
    result.stdout.no_fnmatch_line("*Traceback*")
    result.stdout.no_fnmatch_line("*carafe/testing/*")
