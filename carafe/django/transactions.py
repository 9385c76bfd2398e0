"""The transaction that Django has open on one of its connections, in which jobs are stored."""

from collections.abc import Mapping, Sequence
from typing import Any

from django.db import connections, transaction

from carafe.client.sessions import count_accepted, push_committed
from carafe.client.transactions import CallersTransaction, Push, fetched
from carafe.queue.hints import Hint
from carafe.store.statement import Row, Statement


def is_open(alias: str) -> bool:
    """Whether this thread is within ``atomic()`` of this database, or manages its transactions by hand. Does not connect."""
    connection = connections[alias]
    if connection.connection is None:
        return not connection.settings_dict["AUTOCOMMIT"]
    return bool(connection.in_atomic_block or not connection.autocommit)


def check_no_other(alias: str) -> None:
    """Raise Django's ``TransactionManagementError`` if this thread is within ``atomic()`` of another database than `alias`,
    but not of `alias`. A job would be committed at once, and would stay if that other transaction is rolled back.

    The blocks with which Django's ``TestCase`` surrounds a test do not count, so tests find what would fail in production.
    """
    if _is_atomic(connections[alias]):
        return
    for connection in connections.all(initialized_only=True):
        if connection.alias != alias and _is_atomic(connection):
            raise transaction.TransactionManagementError(
                f"enqueue: the open transaction is on the database {connection.alias!r}, and jobs are stored on {alias!r}: "
                f"a rollback would not take the job back. To store the job after that transaction is committed, write "
                f"transaction.on_commit(lambda: enqueue(...), using={connection.alias!r}); to store it in a transaction of "
                f"its own database, call enqueue within transaction.atomic(using={alias!r})"
            )


def _is_atomic(connection: Any) -> bool:
    return any(not getattr(block, "_from_testcase", False) for block in connection.atomic_blocks)


class DjangoTransaction(CallersTransaction):
    """The open transaction of this thread on the database `alias`."""

    def __init__(self, alias: str) -> None:
        self._alias = alias

    def rows(self, statement: Statement, values: Mapping[str, object]) -> Sequence[Row]:
        """Run one statement on Django's connection. Raises Django's database errors."""
        with connections[self._alias].cursor() as cursor:
            return fetched(cursor, statement, values)

    def after_commit(self, hints: Sequence[Hint], push: Push, accepted: Mapping[str, int]) -> None:
        """Push the hints by Django's ``on_commit``, which forgets them after a rollback, also after that of a savepoint."""
        if not connections[self._alias].in_atomic_block:
            return  # by hand: Django tells nobody of that commit, and the steward pushes the hints within seconds

        def committed() -> None:
            count_accepted(accepted)
            push_committed(push, hints)

        transaction.on_commit(committed, using=self._alias, robust=True)
