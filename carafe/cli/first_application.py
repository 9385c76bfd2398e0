"""The files of a first application, which `carafe init` writes: a job, its handler, a route that enqueues it, and a test.

The application here is called shop; `carafe init` puts another name in the place of this one.
docs/first-application.md explains the same files, and a test compares the two.
"""

FILES = {
    "pyproject.toml": """\
[project]
name = "shop"
version = "0.1.0"
requires-python = ">=3.11"
dependencies = ["carafe-jobs"]

[dependency-groups]
dev = ["carafe-jobs[embedded]", "pytest"]

[tool.carafe]
job_modules = ["shop.jobs"]
handler_modules = ["shop.handlers"]
web_application = "shop.web:create_app"

[tool.pytest.ini_options]
pythonpath = ["."]
""",
    "shop/__init__.py": '''\
"""The application shop."""
''',
    "shop/jobs.py": '''\
"""The jobs of shop: the name and the arguments of each. Web process and workers import this module."""

from carafe import Job


class Greet(Job[str], kind="shop.greet"):
    """Greet somebody."""

    name: str
''',
    "shop/handlers.py": '''\
"""What the jobs of shop do. Only workers import this module."""

from carafe import Context, handler

from shop.jobs import Greet


@handler(Greet)
async def greet(job: Greet, ctx: Context) -> str:
    """Return the greeting. It is the job's result."""
    await ctx.progress(0.5, "looking for words")
    return f"Hello {job.name}!"
''',
    "shop/web.py": '''\
"""The web application of shop: Carafe's job API, and a route that enqueues a job."""

from carafe import Settings, load_jobs
from carafe.web import ClientOf, create_web_application
from fastapi import APIRouter, FastAPI

from shop.jobs import Greet

router = APIRouter()


@router.post("/greetings/{name}", status_code=202)
async def request_greeting(name: str, client: ClientOf) -> dict[str, str]:
    """Enqueue the job. When this returns, the job is stored, and will be run."""
    job = await client.enqueue(Greet(name=name))
    return {"job": f"/api/v1/jobs/{job.id}"}


def create_app(settings: Settings) -> FastAPI:
    """Return the application. `carafe dev` and `carafe serve` call this function."""
    load_jobs(settings.job_modules)
    return create_web_application(settings, routers=[router], title="shop")
''',
    "tests/test_shop.py": '''\
"""Runs the jobs of shop on a real Postgres and Redis, which the fixtures of Carafe start."""

from carafe import SyncClient, testing

from shop.jobs import Greet


def test_somebody_is_greeted(carafe_sync_client: SyncClient) -> None:
    with testing.inline(carafe_sync_client):
        job = carafe_sync_client.enqueue(Greet(name="Ada"))

    assert carafe_sync_client.get(job).result == "Hello Ada!"
''',
    "README.md": """\
# shop

A web application with background jobs (`carafe-jobs`).

    pip install 'carafe-jobs[embedded]' pytest
    carafe dev                                       # web, dashboard, worker, Postgres and Redis, until Ctrl-C
    curl -X POST localhost:8080/greetings/Ada        # enqueues a job; http://localhost:8081 shows it
    pytest

`shop/jobs.py` declares the jobs, `shop/handlers.py` runs them, `shop/web.py` enqueues them.
`carafe --help` lists the commands.
""",
    ".gitignore": """\
.carafe/
.venv/
env.local
__pycache__/
""",
}
"""The text of each file, by its path below the application's folder."""
