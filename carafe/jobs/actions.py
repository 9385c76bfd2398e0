"""What is done to jobs by id from outside (cancel, retry, run now), with their hooks, in one transaction."""

from collections.abc import Mapping, Sequence
from typing import Any, cast
from uuid import UUID

from carafe.database import DISCONNECTED, Database
from carafe.errors import Unavailable
from carafe.jobs.moves import Connection, move
from carafe.jobs.statements import Statement
from carafe.jobs.states import State


class _Target:
    __slots__ = ("id",)

    def __init__(self, job_id: UUID) -> None:
        self.id = job_id


async def act(
    database: Database, statement: Statement, ids: Sequence[UUID], states: Sequence[State], **values: Any
) -> list[Mapping[str, Any]]:
    """Run one of cancel.sql, retry.sql, run_now.sql for these jobs; `states` are what it can lead to.

    Returns the rows that changed. Raises `HookFailed` (nothing of that job changed) or `Unavailable`.
    """

    async def run(connection: Connection, targets: Sequence[_Target]) -> Sequence[Mapping[str, Any]]:
        arguments = statement.arguments(ids=[target.id for target in targets], **values)
        return cast(Sequence[Mapping[str, Any]], await connection.fetch(statement.positional, *arguments))

    try:
        rows, failed = await move(database, [_Target(job_id) for job_id in ids], run, states)
    except DISCONNECTED as error:
        raise Unavailable(error) from error
    if failed:
        raise failed[0][1]
    return rows
