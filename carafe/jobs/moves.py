"""Changes of state with what the application hangs on them, in one transaction, whoever makes the change.

A statement that moves jobs returns their rows; the hooks of the states they entered run on the same connection before the
commit. One bad hook fails its own job, never the batch it came in: the batch is then done again one by one.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextvars import Context
from typing import TYPE_CHECKING, Any, Protocol, TypeVar
from uuid import UUID

from carafe.database import Database, HookedTransaction
from carafe.jobs.errors import CarafeError
from carafe.jobs.hooks import Change, Hook, HookRun, hooked_kinds, hooks_of, hooks_run
from carafe.jobs.records import as_uuid
from carafe.jobs.states import State
from carafe.jobs.stored_json import readable
from carafe.texts import in_words

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

HOOK_TIME = 8.0
"""Seconds that a hook may take. Below the 10 s after which Postgres ends a transaction that does nothing, for then the
connection would be lost, and the hook would be taken for a victim."""

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
                await run_hooks(transaction, row)
    return rows


async def run_hooks(transaction: HookedTransaction, row: Mapping[str, Any], context: Context | None = None) -> None:
    """Run the hooks of the state that `row` has entered, in copies of `context` (None: of an empty one).

    Raises `HookFailed`; `Unavailable` and asyncpg's own error of a conflict, where the transaction's connection, not the
    hook's error, says that Postgres is why.
    """
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
        error = await _apart(hook, transaction.session, change, Context() if context is None else context.copy())
        if error is None:
            continue
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise asyncio.CancelledError  # it was we who were to stop
        if (fault := transaction.fault_of_postgres(error)) is not None:
            raise fault from error  # no fault of the hook's: the transaction is tried again
        raise HookFailed(change.job_id, f"{hook.__module__}.{hook.__qualname__}", error) from error


async def _apart(hook: Hook, session: "AsyncSession", change: Change, context: Context) -> BaseException | None:
    """What the hook raises in a task and a context of its own: what it cancels or sets is nobody else's."""
    run = HookRun(change.job_id, change.kind)
    context.run(hooks_run.set, run)
    try:
        async with asyncio.timeout(HOOK_TIME) as limit:
            error = await asyncio.create_task(_failure_of(hook, session, change), context=context)
    finally:
        run.over = True
    return TimeoutError(f"it took longer than {HOOK_TIME:g} s") if limit.expired() else error


async def _failure_of(hook: Hook, session: "AsyncSession", change: Change) -> BaseException | None:
    """What the hook raises, ``SystemExit`` and the like too: raised in a task they would end the event loop."""
    try:
        await hook(session, change)
        await session.flush()
    except BaseException as error:
        return error
    return None
