"""For the tests of a Django project: which jobs were enqueued, also in a transaction that is never committed.

Works in ``TestCase``, ``TransactionTestCase`` and pytest-django. Jobs are read on Django's own connection, so those of the
test's own transaction are seen. ``captureOnCommitCallbacks(execute=True)`` runs what notifies the workers; a test needs no
Redis for it. To run a handler, call it as a function.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from django.db import connections

from carafe.django.configuration import database_alias
from carafe.jobs.definition import Job
from carafe.jobs.records import as_uuid
from carafe.testing.enqueued import EnqueuedJob, check, expected, query, read

__all__ = ["EnqueuedJobs", "enqueued"]


class EnqueuedJobs:
    """The jobs that were enqueued since a block of `enqueued` began, by this thread or committed by others."""

    def __init__(self, before: frozenset[UUID]) -> None:
        self._before = before

    def assert_enqueued(self, job: type[Job] | Job, /, *, count: int | None = None, **arguments: Any) -> list[EnqueuedJob]:
        """Assert that `count` jobs (None: at least one) of this class with these arguments were enqueued.

        Given a job object instead of a class, all its arguments must be the same. Returns these jobs. Raises
        ``AssertionError``, which lists the jobs that were enqueued instead, and ``TypeError`` for an argument that does not
        exist.
        """
        kind, wanted = expected(job, arguments)
        return check(self.jobs(), kind, wanted, count)

    def assert_not_enqueued(self, job: type[Job] | Job, /, **arguments: Any) -> None:
        """Assert that no job of this class with these arguments was enqueued."""
        self.assert_enqueued(job, count=0, **arguments)

    def jobs(self) -> list[EnqueuedJob]:
        """All jobs that were enqueued since the block began, oldest first."""
        return [job for job in _stored() if job.id not in self._before]


@contextmanager
def enqueued() -> Iterator[EnqueuedJobs]:
    """A block whose enqueued jobs can be asserted, in the block and after it."""
    yield EnqueuedJobs(frozenset(job.id for job in _stored()))


def _stored() -> list[EnqueuedJob]:
    alias = database_alias()
    assert alias is not None, "CARAFE names a DATABASE_URL, which is none of DATABASES: use carafe.testing.manual"
    with connections[alias].cursor() as cursor:
        cursor.execute(query("true"))
        names = [column[0] for column in cursor.description]
        rows = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
    return [read({**row, "id": as_uuid(row["id"])}) for row in rows]
