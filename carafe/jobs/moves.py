"""Changes of state with what the application hangs on them, in one transaction, whoever makes the change.

A statement that moves jobs returns their rows; the hooks of the states they entered run on the same connection before the
commit. One bad hook fails its own job, never the batch it came in: the batch is then done again one by one.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextvars import Context
from typing import TYPE_CHECKING, Any, Protocol, TypeVar
from uuid import UUID

import asyncpg

from carafe.database import Database, conflict, lost
from carafe.errors import Unavailable
from carafe.jobs.errors import CarafeError
from carafe.jobs.hooks import Change, Hook, hooked_kinds, hooks_of
from carafe.jobs.records import as_uuid
from carafe.jobs.states import State
from carafe.jobs.stored_json import readable
from carafe.texts import in_words

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

Connection = Any
"""An asyncpg connection, pooled or not (they share no type)."""


class Item(Protocol):
    """What is moved: anything with a job's id."""

    @property
    def id(self) -> UUID: ...


I = TypeVar("I", bound=Item)  # noqa: E741


class HookFailed(CarafeError):
    """An application's hook raised; its job's change was rolled back with whatever the hook had written."""

    code = "hook-failed"

    def __init__(self, job_id: UUID, name: str, error: BaseException) -> None:
        self.job_id, self.name, self.error = job_id, name, error
        super().__init__(f"the hook {name} of job {job_id} failed: {in_words(error)}")


def hooked(states: Iterable[State]) -> frozenset[str]:
    """The kinds that have a hook for any of these states."""
    return frozenset().union(*(hooked_kinds(state) for state in states))


async def move(
    database: Database,
    items: Sequence[I],
    run: Callable[[Connection, Sequence[I]], Awaitable[Sequence[Mapping[str, Any]]]],
    states: Sequence[State],
) -> tuple[list[Mapping[str, Any]], list[tuple[I, HookFailed]]]:
    """Move `items` by `run`, which executes one statement and returns the moved rows; `states` are what it can lead to.

    Returns the rows that were moved, and the items whose hook failed (not moved). Raises what the database raises.
    """
    if not hooked(states):
        async with database.connection() as connection:
            return list(await run(connection, items)), []
    try:
        return await _with_hooks(database, items, run, states), []
    except HookFailed as error:
        if len(items) == 1:
            return [], [(items[0], error)]
    rows: list[Mapping[str, Any]] = []
    failed: list[tuple[I, HookFailed]] = []
    for item in items:
        try:
            rows += await _with_hooks(database, [item], run, states)
        except HookFailed as error:
            failed.append((item, error))
    return rows, failed


async def _with_hooks(
    database: Database,
    items: Sequence[I],
    run: Callable[[Connection, Sequence[I]], Awaitable[Sequence[Mapping[str, Any]]]],
    states: Sequence[State],
) -> list[Mapping[str, Any]]:
    async with database.hooked() as transaction:
        async with transaction.by_index():
            rows = list(await run(transaction.connection, items))
        for row in rows:
            # A running job that was asked to stop comes back too, and has entered no state by that.
            if row.get("state", State.RUNNING) in states:
                await run_hooks(transaction.session, row)
    return rows


async def run_hooks(session: "AsyncSession", row: Mapping[str, Any]) -> None:
    """Run the hooks of the state that `row` has entered. Raises `HookFailed`."""
    # A claim's rows carry no more than the runner needs.
    state = State(row.get("state", State.RUNNING))
    result = row.get("result")
    found = hooks_of(row["kind"], state)
    if not found:
        return
    change = Change(
        job_id=as_uuid(row["id"]),
        kind=row["kind"],
        state=state,
        arguments=readable(row["args"]),
        attempt=row["attempt"],
        max_attempts=row["max_attempts"],
        result=readable(result),
        error=row.get("error"),
    )
    for hook in found:
        # In a task and a context of its own: what it cancels or sets is nobody else's.
        error = await asyncio.create_task(_failure_of(hook, session, change), context=Context())
        if error is None:
            continue
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise asyncio.CancelledError  # it was we who were to stop
        if issubclass(type(error), asyncpg.InterfaceError | OSError):
            raise error
        if issubclass(type(error), Exception):
            if (again := conflict(error)) is not None:
                raise again from error  # no fault of the hook's either: the transaction is tried again
            if lost(error):
                raise Unavailable(error) from error  # Postgres went away, which is no fault of the hook's
        raise HookFailed(change.job_id, f"{hook.__module__}.{hook.__qualname__}", error) from error


async def _failure_of(hook: Hook, session: "AsyncSession", change: Change) -> BaseException | None:
    """What the hook raises, ``SystemExit`` and the like too: raised in a task they would end the event loop."""
    try:
        await hook(session, change)
        await session.flush()
    except BaseException as error:
        return error
    return None
