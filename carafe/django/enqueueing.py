"""The client of a Django project. It is made from the project's settings at its first use.

Guarantees: within ``transaction.atomic()`` a job is stored on Django's own connection, in that transaction. Elsewhere it is
committed when `enqueue` returns, on a connection of the client's own, which is kept as long as Django keeps its own
(``CONN_MAX_AGE``).
"""

from collections.abc import Iterable
from typing import Any, TypeVar, Unpack

from django.core.exceptions import ImproperlyConfigured
from django.db import connections

from carafe.client.client import Client
from carafe.client.sync_client import SyncClient
from carafe.django.configuration import database_alias, database_url, load
from carafe.django.transactions import DjangoTransaction, check_no_other, is_open
from carafe.jobs.definition import Job
from carafe.jobs.new_job import NewJob
from carafe.jobs.options import EnqueueOptions
from carafe.jobs.records import Enqueued
from carafe.store.audit import Actor
from carafe.store.blocking_database import IDLE

R = TypeVar("R")

_clients: dict[str, "DjangoClient"] = {}
"""The process's clients by the URLs of their databases: in a test run the test database's comes after the project's."""


class DjangoClient(SyncClient):
    """A `SyncClient` whose `enqueue` and `enqueue_many` use the transaction that Django has open, if there is one."""

    def _transaction_of(self, session: Any, connection: Any) -> Any:
        alias = database_alias()
        if session is None and connection is None and alias is not None:
            check_no_other(alias)
            if is_open(alias):
                return DjangoTransaction(alias)
        return super()._transaction_of(session, connection)


def client() -> DjangoClient:
    """The client of this process. Raises ``ImproperlyConfigured`` with every fault of the settings."""
    url = database_url()
    found = _clients.get(url)
    return _clients.setdefault(url, _made()) if found is None else found


def _made() -> DjangoClient:
    settings = load()
    if settings.redis_url is None:
        raise ImproperlyConfigured("CARAFE: REDIS_URL must be in it, or in the environment")
    alias = database_alias()
    age: float | None = None if alias is None else connections[alias].settings_dict["CONN_MAX_AGE"]
    return DjangoClient(Client.from_settings(settings), idle=IDLE if age is None else min(IDLE, age))


def enqueue(
    job: Job[R],
    *,
    idempotency_key: str | None = None,
    scope: str = "",
    trace: str | None = None,
    created_by: str | None = None,
    by: Actor | None = None,
    **options: Unpack[EnqueueOptions],
) -> Enqueued[R]:
    """Store a job, to be run by a worker; see `Client.enqueue` for the options.

    Within ``transaction.atomic()`` the job is part of that transaction, and the workers are notified after its commit. After
    a rollback there is neither. Elsewhere the job is committed when this returns. Raises Django's
    ``TransactionManagementError`` within ``atomic()`` of another database alone.
    """
    given: Any = {"idempotency_key": idempotency_key, "scope": scope, "trace": trace, "created_by": created_by, "by": by}
    return client().enqueue(job, **given, **options)


def enqueue_many(
    jobs: Iterable[Job | NewJob],
    *,
    idempotency_key: str | None = None,
    scope: str = "",
    trace: str | None = None,
    created_by: str | None = None,
) -> list[Enqueued]:
    """Store thousands of jobs in one statement, all or none; see `Client.enqueue_many`, and `enqueue` for transactions."""
    return client().enqueue_many(jobs, idempotency_key=idempotency_key, scope=scope, trace=trace, created_by=created_by)
