"""Django: an order and its job are one commit, workers know the project's models, and nothing of Carafe is in its way."""

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import UUID

import psycopg
import pytest

from carafe import State, SyncClient
from carafe.testing.servers import wipe
from tests.django.project import DjangoProject, project_on
from tests.waiting import eventually

pytestmark = pytest.mark.process


@pytest.fixture(scope="module")
def empty_database(carafe_postgres: str) -> Iterator[str]:
    """A database in which nothing was migrated."""
    name = "carafe_django"
    with psycopg.connect(carafe_postgres, autocommit=True) as connection:
        connection.execute(f"drop database if exists {name} with (force)")
        connection.execute(f"create database {name}")
    yield f"{carafe_postgres.rsplit('/', 1)[0]}/{name}"
    with psycopg.connect(carafe_postgres, autocommit=True) as connection:
        connection.execute(f"drop database {name} with (force)")


@pytest.fixture(scope="module")
def project(empty_database: str, redis_url: str) -> DjangoProject:
    """The project, migrated by Django's own command."""
    project = project_on(empty_database, redis_url)
    assert "Applied Carafe's migrations" in project.manage("migrate")
    return project


@pytest.fixture
def client(project: DjangoProject) -> Iterator[SyncClient]:
    """Looks at the project's jobs from outside."""
    with SyncClient.connect(database_url=project.database_url, redis_url=project.redis_url) as client:
        yield client


def test_djangos_commands_end_and_find_nothing_to_do(project: DjangoProject) -> None:
    assert "no issues" in project.manage("check")
    assert "No changes detected" in project.manage("makemigrations", "--check", "--dry-run")
    assert "Applied Carafe's migrations" not in project.manage("migrate")
    assert json.loads(project.manage("carafe", "version", "--json"))["version"]
    assert json.loads(project.manage("carafe", "jobs", "list", "--json")) is not None
    assert "--worker" in project.manage("carafe", "serve", "--help")


def test_every_fault_of_the_settings_is_said_at_once(project: DjangoProject, tmp_path: Path) -> None:
    (tmp_path / "faulty.py").write_text(
        "from shop.settings import *\nCARAFE = {'JOB_RETRY_BASE': 'x', 'WORKER_CONCURRENCY': -1, 'NO_SUCH': 1}\n"
    )
    path = f"{project.folder}:{tmp_path}"
    said = project.manage("check", code=1, DJANGO_SETTINGS_MODULE="faulty", PYTHONPATH=path)

    for fault in ("JOB_RETRY_BASE: must", "WORKER_CONCURRENCY: must", "unknown setting NO_SUCH"):
        assert f"settings.CARAFE: (carafe.E001) {fault}" in said


ATOMIC = """
import json, redis, os
from django.db import transaction
from carafe.django import client, enqueue, enqueue_many
from shop.jobs import SendReceipt
from shop.models import Order

hints = redis.Redis.from_url(os.environ["REDIS_URL"])
seen = {}
with transaction.atomic():
    order = Order.objects.create(email="ada@example.org")
    kept = enqueue(SendReceipt(order=order.pk))
    seen["before the commit"] = hints.llen("default"), len(client().find().jobs)
    try:
        with transaction.atomic():
            enqueue(SendReceipt(order=0))
            raise RuntimeError
    except RuntimeError:
        pass
seen["after it"] = hints.llen("default"), len(client().find().jobs)
try:
    with transaction.atomic():
        Order.objects.create(email="lost@example.org")
        enqueue_many([SendReceipt(order=0), SendReceipt(order=0)])
        raise RuntimeError
except RuntimeError:
    pass
seen["after a rollback"] = hints.llen("default"), Order.objects.count()
outside = enqueue(SendReceipt(order=order.pk), idempotency_key="once")
with transaction.atomic():
    seen["again"] = enqueue(SendReceipt(order=order.pk), idempotency_key="once").id == outside.id
seen["outside"] = hints.llen("default"), len(client().find().jobs)
print(json.dumps(seen))
"""


def test_an_order_and_its_job_are_one_commit_and_the_hint_follows_it(project: DjangoProject, client: SyncClient) -> None:
    wipe(project.redis_url)
    seen = json.loads(project.script(ATOMIC))
    for job in client.find().jobs:
        client.cancel(job.id)

    assert seen == {
        "before the commit": [0, 0],
        "after it": [1, 1],
        "after a rollback": [1, 1],
        "again": True,
        "outside": [2, 2],
    }


UNMIGRATED = """
from django.db import transaction
from carafe import NotMigrated
from carafe.django import enqueue
from shop.jobs import SendReceipt

try:
    enqueue(SendReceipt(order=1))
except NotMigrated as error:
    print(error)
try:
    with transaction.atomic():
        enqueue(SendReceipt(order=1))
except NotMigrated as error:
    print(error)
"""


def test_a_database_that_was_never_migrated_is_told_within_atomic_and_outside(carafe_postgres: str, redis_url: str) -> None:
    said = project_on(carafe_postgres, redis_url).script(UNMIGRATED)

    assert said.count("the database does not have the tables of this release: run `carafe migrate`") == 2


TWO_DATABASES = """
from shop.settings import *
DATABASES["other"] = dict(DATABASES["default"])
"""

ON_THE_OTHER = """
from django.db import transaction
from carafe.django import client, enqueue, enqueue_many
from shop.jobs import SendReceipt

def refused(job, using="other"):
    try:
        with transaction.atomic(using=using):
            job()
    except transaction.TransactionManagementError as error:
        return str(error)

before = len(client().find().jobs)
said = refused(lambda: enqueue(SendReceipt(order=0)))
assert "the open transaction is on the database 'other', and jobs are stored on 'default'" in said, said
assert refused(lambda: enqueue_many([SendReceipt(order=0)])) == said
assert len(client().find().jobs) == before
assert refused(lambda: transaction.on_commit(lambda: enqueue(SendReceipt(order=0)), using="other")) is None
with transaction.atomic():
    assert refused(lambda: enqueue(SendReceipt(order=0))) is None
assert refused(lambda: enqueue(SendReceipt(order=0)), using="default") is None
assert len(client().find().jobs) == before + 3
"""

TESTS_ON_TWO = """
from django.db import transaction
from django.test import TestCase
from carafe.django import enqueue
from carafe.django.testing import enqueued
from shop.jobs import SendReceipt

class OnBoth(TestCase):
    databases = {"default", "other"}

    def test_enqueue(self):
        with enqueued() as jobs:
            enqueue(SendReceipt(order=1))
            with transaction.atomic():
                enqueue(SendReceipt(order=2))
        jobs.assert_enqueued(SendReceipt, count=2)
        with self.captureOnCommitCallbacks(using="other", execute=True), enqueued() as jobs:
            with transaction.atomic(using="other"):
                transaction.on_commit(lambda: enqueue(SendReceipt(order=3)), using="other")
        jobs.assert_enqueued(SendReceipt(order=3))

    def test_what_production_would_refuse_is_refused(self):
        with self.assertRaises(transaction.TransactionManagementError), transaction.atomic(using="other"):
            enqueue(SendReceipt(order=1))
"""


def test_a_job_is_not_enqueued_in_a_transaction_of_another_database(
    project: DjangoProject, client: SyncClient, tmp_path: Path
) -> None:
    (tmp_path / "two_databases.py").write_text(TWO_DATABASES)
    (tmp_path / "tests_on_two.py").write_text(TESTS_ON_TWO)
    path = f"{project.folder}:{tmp_path}"
    project.script(ON_THE_OTHER, DJANGO_SETTINGS_MODULE="two_databases", PYTHONPATH=path)
    project.manage("test", "tests_on_two", DJANGO_SETTINGS_MODULE="two_databases", PYTHONPATH=path)
    for job in client.find().jobs:
        if job.state is State.QUEUED:
            client.cancel(job.id)


@pytest.fixture(params=["each attempt connects", "connections are kept"])
def age(request: pytest.FixtureRequest) -> str:
    """CONN_MAX_AGE, in seconds."""
    return "0" if request.param == "each attempt connects" else "3600"


async def test_no_handler_is_given_a_connection_that_was_cut(
    project: DjangoProject, client: SyncClient, tmp_path: Path, age: str
) -> None:
    program = (
        "from carafe.django import enqueue\nfrom shop.jobs import *\n"
        "print(*[enqueue(job).id for job in (SendReceipt(order=1), CountOrders()) for _ in range(20)])"
    )

    def enqueue() -> list[UUID]:
        return [UUID(word) for word in project.script(program).split()]

    def ended(ids: list[UUID]) -> Callable[[], bool]:
        return lambda: all(client.get(job_id).state.ended for job_id in ids)

    worker = (sys.executable, "manage.py", "carafe", "serve", "--worker")
    with project.running(*worker, output=tmp_path / "worker.txt", CONN_MAX_AGE=age):
        first = enqueue()
        await eventually(ended(first), within=60)
        with psycopg.connect(project.database_url) as connection:
            # Django's own: Carafe's connections have names.
            cut = connection.execute(
                "select pg_terminate_backend(pid, 5000) from pg_stat_activity where datname = current_database()"
                " and pid <> pg_backend_pid() and application_name = ''"
            )
            assert (cut.rowcount > 0) == (age != "0")
        second = enqueue()
        await eventually(ended(second), within=60)

    for job_id in first + second:
        job = client.get(job_id)
        assert (job.state, job.attempt, job.attempts) == (State.SUCCEEDED, 1, ()), (job.error, job.attempts)


@pytest.mark.parametrize("command", ["manage.py carafe", "carafe"])
async def test_handlers_in_threads_processes_and_on_the_loop_know_the_models(
    project: DjangoProject, client: SyncClient, tmp_path: Path, command: str
) -> None:
    program = (
        "from carafe.django import enqueue\nfrom shop.jobs import *\nfrom shop.models import Order\n"
        "order = Order.objects.create(email='ada@example.org').pk\n"
        "print(*[enqueue(job).id for job in (SendReceipt(order=order), CountOrders(), CountInProcess())])"
    )
    ids = [UUID(word) for word in project.script(program).split()]
    # The command itself gets from the environment what manage.py would tell it.
    own = {
        "DATABASE_URL": project.database_url,
        "JOB_MODULES": "carafe.django.setup,shop.jobs",
        "HANDLER_MODULES": "shop.handlers",
        "MIGRATIONS": "",
        "WORKER_APPLICATION": "carafe.engine.application:app",
    }
    words, more = (("-m", "carafe"), own) if command == "carafe" else (("manage.py", "carafe"), {})
    worker = (sys.executable, *words, "serve", "--worker")
    with project.running(*worker, output=tmp_path / "worker.txt", **more):
        await eventually(lambda: all(client.get(job_id).state.ended for job_id in ids), within=60)

    sent, counted, apart = (client.get(job_id) for job_id in ids)
    assert [job.state for job in (sent, counted, apart)] == [State.SUCCEEDED] * 3, (sent.error, counted.error, apart.error)
    assert counted.result == apart.result > 0
    assert project.script("from shop.models import Order; print(Order.objects.last().receipt_sent)").strip() == "True"


def test_the_projects_own_tests_run_without_redis(project: DjangoProject) -> None:
    project.manage("test", REDIS_URL="redis://127.0.0.1:1/0")
