"""Flask: an order and its job are one commit of ``db.session``, behind servers that fork with the application too."""

import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import httpx
import psycopg
import pytest

from carafe import State, SyncClient
from carafe.testing.databases import Databases
from tests.projects import EXAMPLES, Project
from tests.waiting import eventually

pytestmark = pytest.mark.process

PRELOADED = """
import os

from shop import app as application, client
from shop.jobs import SendReceipt

client.enqueue(SendReceipt(order=0))


@application.after_request
def name_process(response):
    response.headers["Process"] = f"{os.getppid()} {os.getpid()}"
    return response
"""
"""A module that uses the client before the server forks."""


@pytest.fixture
def project(carafe_databases: Databases, carafe_redis_url: str) -> Iterator[Project]:
    with carafe_databases.fresh() as database_url:
        variables = {
            "DATABASE_URL": database_url,
            "REDIS_URL": carafe_redis_url,
            "JOB_MODULES": "shop.jobs",
            "HANDLER_MODULES": "shop.handlers",
            "MIGRATIONS": "",
            "WORKER_APPLICATION": "carafe.engine.application:app",
        }
        project = Project(EXAMPLES / "flask", database_url, carafe_redis_url, variables)
        project.run(sys.executable, "-m", "flask", "--app", "shop", "create-tables")
        yield project


@pytest.fixture
def client(project: Project) -> Iterator[SyncClient]:
    """Looks at the project's jobs from outside."""
    with SyncClient.connect(database_url=project.database_url, redis_url=project.redis_url) as client:
        yield client


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """A folder for a socket, whose path may have at most 107 bytes; `tmp_path` is longer where several processes test."""
    with tempfile.TemporaryDirectory(prefix="carafe-", dir="/tmp") as name:
        yield Path(name)


def gunicorn(socket: Path) -> Sequence[str]:
    return (sys.executable, "-m", "gunicorn", "--preload", "--workers", "3", "--bind", f"unix:{socket}", "preloaded")


def uwsgi(socket: Path) -> Sequence[str]:
    pytest.importorskip("pyuwsgi", reason="pyuwsgi, a wheel of uWSGI, is not installed: there is none for this platform")
    program = Path(sys.executable).parent / "pyuwsgi"
    options = ("--master", "--processes", "3", "--die-on-term", "--need-app", "--module", "preloaded")
    return (str(program), "--http-socket", str(socket), *options)


@pytest.mark.parametrize("server", [gunicorn, uwsgi], ids=["gunicorn --preload", "uWSGI"])
async def test_a_client_made_and_used_before_the_fork_serves_every_process(
    project: Project,
    client: SyncClient,
    tmp_path: Path,
    short_folder: Path,
    server: Callable[[Path], Sequence[str]],
) -> None:
    (tmp_path / "preloaded.py").write_text(PRELOADED)
    socket = short_folder / "socket"
    path = f"{project.folder}:{tmp_path}"
    orders: dict[str, str] = {}
    processes: set[str] = set()
    output = tmp_path / "server.txt"
    with project.running(*server(socket), output=output, PYTHONPATH=path) as running:
        transport = httpx.AsyncHTTPTransport(uds=str(socket), retries=0)
        async with httpx.AsyncClient(transport=transport, base_url="http://shop", timeout=30) as http:

            async def order() -> bool:
                """Places orders until each process has taken one."""
                assert running.poll() is None, output.read_text()
                try:
                    answer = await http.post("/orders", data={"email": "ada@example.org"}, headers={"Connection": "close"})
                except httpx.TransportError:
                    return False  # it is still starting
                assert answer.status_code == 202, output.read_text()
                orders[answer.json()["job"]] = answer.json()["order"]
                processes.add(answer.headers["Process"])
                return len(processes) == 3 or len(orders) == 200

            await eventually(order, within=60)
    assert running.returncode == 0, output.read_text()

    assert len(processes) >= 2
    found = {str(job.id): job.args["order"] for job in client.find(limit=500).jobs}
    assert found.pop(next(name for name, number in found.items() if number == 0)) == 0  # that of the process before its fork
    assert found == orders


async def test_an_order_and_its_job_are_one_commit_and_the_worker_sends_the_receipt(
    project: Project, client: SyncClient, tmp_path: Path
) -> None:
    seen = project.script(
        "from shop import app, client, db\nfrom shop.jobs import SendReceipt\nfrom shop.database import Order\n"
        "with app.app_context():\n"
        "    db.session.add(Order(email='lost@example.org'))\n"
        "    client.enqueue(SendReceipt(order=0), session=db.session)\n"
        "    db.session.rollback()\n"
        "    print(len(client.find().jobs), db.session.query(Order).count())\n"
        "answer = app.test_client().post('/orders', data={'email': 'ada@example.org'}).json\n"
        "print(answer['order'], answer['job'])\n"
    ).split()

    assert seen[:2] == ["0", "0"]
    [job] = client.find().jobs
    assert (str(job.id), job.args) == (seen[3], {"order": int(seen[2])})
    with project.running(
        sys.executable, "-m", "carafe", "serve", "--worker", output=tmp_path / "worker.txt", LOG_FORMAT="json"
    ):
        await eventually(lambda: client.get(job.id).state.ended, within=60)
    assert client.get(job.id).state is State.SUCCEEDED
    with psycopg.connect(project.database_url) as connection:
        assert connection.execute("select receipt_sent from orders").fetchall() == [(True,)]
