"""A team's own application, with a package of its own named `app`, runs on the wheel by settings alone."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from carafe.cli.first_application import FILES
from tests.second_application import installation, sources
from tests.second_application.installation import Environment
from tests.waiting import eventually

pytestmark = pytest.mark.process


TABLES = """
    create table orders (id integer primary key);
    insert into orders values (7);
    create table invoices (id serial primary key, order_id integer references orders, cents integer);
    create table books (order_id integer, cents integer);
"""
"""The shop's own tables."""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return installation.build_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Environment:
    return Environment(tmp_path_factory.mktemp("environment"), wheel)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sources.write(tmp_path_factory.mktemp("shop"))


@pytest.fixture
def settings(own_database: str, redis_url: str) -> dict[str, str]:
    """All that tells the library about the shop."""
    return {
        "DATABASE_URL": own_database,
        "REDIS_URL": redis_url,
        "JOB_MODULES": "shop.jobs",
        "HANDLER_MODULES": "shop.handlers",
        "WEB_APPLICATION": "app.main:application",
        "PORT": "0",
        "DASHBOARD_PORT": "0",
        "PROBE_PORT": "0",
        "LOG_FORMAT": "json",
    }


@pytest.fixture
def own_database(carafe_postgres: str) -> Iterator[str]:
    """An empty database: the shop migrates it."""
    name = "second_application"
    with psycopg.connect(carafe_postgres, autocommit=True) as connection:
        connection.execute(f"create database {name}")
    url = f"{carafe_postgres.rsplit('/', 1)[0]}/{name}"
    with psycopg.connect(url) as connection:
        connection.execute(TABLES)
    yield url
    with psycopg.connect(carafe_postgres, autocommit=True) as connection:
        connection.execute(f"drop database {name} with (force)")


def test_the_wheel_holds_the_library_and_nothing_of_the_service(wheel: Path) -> None:
    names = installation.names_in(wheel)
    assert {name.split("/")[0].partition("-")[0] for name in names} == {"carafe", "carafe_jobs"}
    for needed in ("py.typed", "store/sql/claim.sql", "migrations/versions/0001_job_core.py", "migrations/script.py.mako"):
        assert f"carafe/{needed}" in names
    for needed in ("templates/base.html", "static/dashboard.css", "static/dashboard.js"):
        assert f"carafe/dashboard/{needed}" in names
    assert not [name for name in names if "__pycache__" in name or "/tests/" in name]


def test_the_environment_finds_the_wheel_and_not_the_repository(environment: Environment, shop: Path) -> None:
    program = "import carafe, app, shop; print(carafe.__file__, app.__file__)"
    library, application = environment.run("python", "-c", program, folder=shop, settings={}).split()
    assert not Path(library).is_relative_to(installation.ROOT)
    assert Path(application).is_relative_to(shop)
    tried = "import importlib.util as u; print([u.find_spec(name) for name in ('worker', 'briefings')])"
    assert environment.run("python", "-c", tried, folder=shop, settings={}).strip() == "[None, None]"


async def test_it_enqueues_over_http_and_runs_its_jobs(
    environment: Environment, shop: Path, settings: dict[str, str], tmp_path: Path
) -> None:
    processes: list[subprocess.Popen[bytes]] = []

    def start(name: str, *arguments: str) -> Path:
        log = tmp_path / f"{name}.log"
        processes.append(environment.start("carafe", "serve", *arguments, folder=shop, settings=settings, log=log))
        return log

    try:
        web_log = start("web")
        url = str((await eventually(lambda: first(web_log, "serving"), within=30))["url"])
        worker_log = start("worker", "--worker")
        started = await eventually(lambda: first(worker_log, "worker starting"), within=30)
        assert started["kinds"] == ["order.bill", "order.ship"]
        async with httpx.AsyncClient(base_url=url, timeout=10) as http:
            own = await http.post("/orders/7", params={"to": "Bergen"})
            assert own.status_code == 202, own.text
            generic = await http.post("/api/v1/jobs", json={"kind": "order.ship", "args": {"order": 8, "to": ""}})
            assert generic.status_code == 202, generic.text

            async def ended(job_id: str) -> dict[str, Any]:
                async def look() -> dict[str, Any]:
                    job: dict[str, Any] = (await http.get(f"/api/v1/jobs/{job_id}")).json()
                    return job if job["state"] in ("succeeded", "dead") else {}

                return await eventually(look, within=20)

            done = await ended(own.json()["job_id"])
            assert (done["state"], done["result"]) == ("succeeded", {"shipped": "order 7 to Bergen"})
            dead = await ended(generic.json()["id"])
            assert (dead["state"], dead["error"]) == ("dead", "nowhere to ship it to")
            # A plain function writes by its own models, its hook by its own types, in the transaction that ends the job.
            bill = await http.post("/bills/7", params={"cents": 400})
            billed = await ended(bill.json()["job_id"])
            assert (billed["state"], billed["result"]) == ("succeeded", [500]), billed
            with psycopg.connect(settings["DATABASE_URL"]) as connection:
                rows = "select cents, xmin::text from invoices union all select cents, xmin::text from books order by 1"
                (booked, one), (charged, other) = connection.execute(rows).fetchall()
            assert (booked, charged, one == other) == (400, 500, True)
            kinds = (await http.get("/api/v1/kinds")).json()
            assert "order.ship" in json.dumps(kinds)
            assert "briefing" not in json.dumps(kinds)
        listed = environment.run("carafe", "jobs", "list", "--json", folder=shop, settings=settings)
        assert "order.ship" in listed
        for process in processes:
            process.terminate()
        for process in processes:
            await eventually(lambda: process.poll() is not None, within=30)  # noqa: B023  awaited in this very turn
            assert process.returncode == 0, (web_log.read_text(), worker_log.read_text())
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()
            process.wait()


OWN_SETTINGS = """
from carafe import Settings
from pydantic import Field


class ShopSettings(Settings):
    greeting: str = Field(description="How somebody is greeted.")
"""


async def test_a_new_application_runs_as_its_readme_says_with_settings_of_its_own(
    environment: Environment, settings: dict[str, str], carafe_postgres: str, carafe_redis: str, tmp_path: Path
) -> None:
    servers = {name: value for name, value in settings.items() if name.endswith(("_URL", "PORT"))}
    said = environment.run("carafe", "init", "shop", folder=tmp_path, settings={})
    assert "cd shop\n    carafe dev" in said
    shop = tmp_path / "shop"
    assert {path.relative_to(shop).as_posix() for path in shop.rglob("*") if path.is_file()} == set(FILES)
    urls = ("-o", f"carafe_postgres_url={carafe_postgres}", "-o", f"carafe_redis_url={carafe_redis}")
    assert "1 passed" in environment.run("python", "-m", "pytest", "-q", *urls, folder=shop / "tests", settings={})

    # Settings of its own beside ours: named in pyproject.toml, required, and used by its handler.
    project, handlers = shop / "pyproject.toml", shop / "shop" / "handlers.py"
    named = '[tool.carafe]\nsettings_class = "shop.settings:ShopSettings"'
    project.write_text(project.read_text().replace("[tool.carafe]", named))
    (shop / "shop" / "settings.py").write_text(OWN_SETTINGS)
    handlers.write_text(
        handlers.read_text()
        .replace("from carafe import", "from carafe import load_settings,")
        .replace('f"Hello', 'f"{load_settings().greeting}')
    )
    with pytest.raises(AssertionError, match=r"error: GREETING: is required: text \(How somebody is greeted.\)"):
        environment.run("carafe", "dev", folder=shop, settings=servers)
    (shop / "env.local").write_text("GREETING=Good morning\nSOMEBODY_ELSES=variable\n")
    shown = json.loads(environment.run("carafe", "config", "--json", folder=shop, settings=servers))
    assert {"name": "GREETING", "value": "Good morning", "source": "env.local"} in shown

    log = tmp_path / "dev.log"
    dev = environment.start("carafe", "dev", folder=shop, settings=servers, log=log)
    try:
        (url,) = await eventually(lambda: WEB.findall(log.read_text()), within=40)
        async with httpx.AsyncClient(base_url=url, timeout=10) as http:
            asked = await http.post("/greetings/Ada")
            assert asked.status_code == 202, asked.text

            async def result() -> str:
                return (await http.get(asked.json()["job"])).json()["result"] or ""

            assert await eventually(result, within=20) == "Good morning Ada!"
        assert "shop.greet" in environment.run("carafe", "jobs", "list", folder=shop, settings=servers)
        dev.terminate()
        await eventually(lambda: dev.poll() is not None, within=30)
        assert dev.returncode == 0, log.read_text()
    finally:
        if dev.poll() is None:
            dev.kill()
        dev.wait()


WEB = re.compile(r"web +(http://\S+)")
"""Where `carafe dev` says that the web application is."""


def first(log: Path, event: str) -> dict[str, Any]:
    """The first line of a log with this event; empty while there is none."""
    for line in log.read_text().splitlines():
        try:
            found: dict[str, Any] = json.loads(line)
        except ValueError:
            continue
        if found.get("event") == event:
            return found
    return {}
