"""Enqueueing in a transaction of the caller's own, on the caller's own DB-API connection (psycopg, psycopg2).

Guarantees: the job is stored by that connection's transaction, and no other. Nothing is committed or rolled back, except at
the end of a block of `SyncClient.transaction`. An object that is not such a connection, or is in autocommit mode outside a
transaction, is refused before any SQL statement.
"""

import inspect
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from carafe.jobs.errors import InvalidOption
from carafe.jobs.records import Enqueued
from carafe.queue.hints import Hint
from carafe.store.database import migrated
from carafe.store.enqueueing import Plan
from carafe.store.statement import Row, Statement
from carafe.texts import class_name

PARAMSTYLE = "pyformat"
"""The parameter style of the drivers that are supported (PEP 249)."""

Push = Callable[[Sequence[Hint]], Any]


class CallersTransaction(ABC):
    """A transaction of the caller's own, in which jobs are stored."""

    @abstractmethod
    def rows(self, statement: Statement, values: Mapping[str, Any]) -> Sequence[Row]:
        """Run one statement in the transaction, and return its rows."""

    @abstractmethod
    def after_commit(self, hints: Sequence[Hint], push: Push, accepted: Mapping[str, int]) -> None:
        """Arrange that `push` is called with the hints when the transaction has been committed. `accepted` has the numbers
        of new jobs by kind."""

    def run(self, plan: Plan) -> tuple[list[Enqueued], list[Hint]]:
        """Run a plan, the steps that store a batch of jobs. Returns the answers for the jobs, and the hints to push.
        Raises `NotMigrated`."""
        statement, values = next(plan)
        try:
            while True:
                with migrated():
                    rows = self.rows(statement, values)
                statement, values = plan.send(rows)
        except StopIteration as stop:
            answers, hints = stop.value
            return answers, hints


class OnConnection(CallersTransaction):
    """The transaction that is open on a DB-API connection, or that its next statement begins.

    Raises `InvalidOption` if the object is not a usable connection. A DB-API connection tells nobody of its commit. `keep`
    is called with the hints, the function that pushes them, and the numbers of new jobs.
    """

    def __init__(self, connection: Any, keep: Callable[[Sequence[Hint], Push, Mapping[str, int]], None]) -> None:
        self._connection = checked(connection)
        self._keep = keep

    def rows(self, statement: Statement, values: Mapping[str, Any]) -> Sequence[Row]:
        """Run one statement on the connection. Raises the driver's errors."""
        cursor = _cursor(self._connection)
        try:
            return fetched(cursor, statement, values)
        finally:
            cursor.close()

    def after_commit(self, hints: Sequence[Hint], push: Push, accepted: Mapping[str, int]) -> None:
        """Keep the hints for the end of the caller's block."""
        self._keep(hints, push, accepted)


def fetched(cursor: Any, statement: Statement, values: Mapping[str, Any]) -> Sequence[Row]:
    """The rows of a statement that is run on a DB-API cursor. Raises the driver's errors."""
    cursor.execute(statement.pyformat, values)
    if cursor.description is None:
        return []
    names = [column[0] for column in cursor.description]
    return [row if isinstance(row, Mapping) else dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def checked(connection: Any) -> Any:
    """Returns `connection` if jobs can be stored on it. Raises `InvalidOption` if not."""
    if not all(callable(getattr(connection, name, None)) for name in ("cursor", "commit", "rollback")):
        advice = "; a SQLAlchemy session or connection goes through session=" if "sqlalchemy" in _root(connection) else ""
        raise InvalidOption("connection", f"must be a DB-API connection to Postgres (got {class_name(connection)}){advice}")
    if inspect.iscoroutinefunction(connection.commit):
        raise InvalidOption("connection", f"must not be an asynchronous one (got {class_name(connection)})")
    if not any(getattr(sys.modules.get(root), "paramstyle", None) == PARAMSTYLE for root in _roots(connection)):
        drivers = f"psycopg, psycopg2 or another driver whose paramstyle is {PARAMSTYLE}"
        raise InvalidOption("connection", f"must be of {drivers} (got {class_name(connection)})")
    status = getattr(getattr(connection, "info", None), "transaction_status", None)
    if getattr(connection, "autocommit", False) and status in (None, 0):
        raise InvalidOption(
            "connection", "is in autocommit mode, outside a transaction: begin one, or leave connection= out"
        )
    return connection


def _root(value: Any) -> str:
    return type(value).__module__.partition(".")[0]


def _roots(connection: Any) -> list[str]:
    return [kind.__module__.partition(".")[0] for kind in type(connection).__mro__]


def _cursor(connection: Any) -> Any:
    psycopg = sys.modules.get("psycopg")
    if psycopg is not None and isinstance(connection, psycopg.Connection):
        # Whatever cursors and rows the application has chosen for its own statements.
        from psycopg.rows import dict_row

        return psycopg.Cursor(connection, row_factory=dict_row)
    return connection.cursor()
