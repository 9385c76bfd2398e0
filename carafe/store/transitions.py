"""Changes jobs' states and runs the application's hooks for these changes, in one transaction, whichever process makes them.

A SQL statement that changes jobs' states returns their rows. The hooks for the new states then run on the same connection,
before the commit. A hook that fails only affects its own job: the whole batch is rolled back, and then done again job by
job. Each failure is logged once, with its traceback and with what becomes of the job.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextvars import Context
from typing import Any, Protocol, TypeVar
from uuid import UUID

from carafe import loop_time
from carafe.jobs.declaring import name_of
from carafe.jobs.errors import CarafeError
from carafe.jobs.hiding import Hiding, hiding_of
from carafe.jobs.hooks import Change, Hook, HookRun, hooked_kinds, hooks_of, hooks_run
from carafe.jobs.records import as_uuid
from carafe.jobs.states import State
from carafe.jobs.stored_json import readable
from carafe.store.database import Connection, Database, HookedTransaction
from carafe.telemetry.loggers import get_logger
from carafe.texts import in_words, traceback_of

log = get_logger("carafe.hooks")

HOOK_TIME = 8.0
"""The maximum number of seconds that a hook may take; time in which the process does not run does not count. This is less
than the 10 s after which Postgres ends an idle transaction: the connection would then be lost, and Postgres would be blamed
instead of the hook."""


class Item(Protocol):
    """One of the objects that `move` gets. It has the id of the job to change."""

    @property
    def id(self) -> UUID: ...


I = TypeVar("I", bound=Item)  # noqa: E741


class HookFailed(CarafeError):
    """A hook of the application raised an error. The change of its job was rolled back, and so was everything that the hook
    had written.

    `reason` is the error's class and message, and `traceback` is its traceback. The job's secrets are replaced in all texts.
    If the job has secrets, the hook's error is not the ``__cause__``, whose text has them.
    """

    code = "hook-failed"

    def __init__(self, job_id: UUID, kind: str, name: str, error: BaseException, hiding: Hiding | None = None) -> None:
        shown = str if hiding is None else hiding.text
        self.job_id, self.kind, self.name = job_id, kind, name
        self.reason, self.traceback = shown(in_words(error)), shown(traceback_of(error))
        super().__init__(f"the hook {name} of job {job_id} failed: {self.reason}")
        self.__cause__ = error if hiding is None else None


def log_failure(failure: HookFailed, then: str) -> None:
    """Log that a hook has failed, with its traceback. `then` says in words what becomes of its job."""
    log.error(
        f"hook failed, {then}",
        hook=failure.name,
        job_id=str(failure.job_id),
        kind=failure.kind,
        error=failure.reason,
        exception=failure.traceback.rstrip(),
    )


def noted(error: str, failure: HookFailed) -> str:
    """The error text for a job whose end was written although its hook failed: `error`, with the hook's failure added."""
    return f"{error}\n(and its hook failed: {failure})"


def hooked(states: Iterable[State]) -> frozenset[str]:
    """The kinds that have a hook for any of these states."""
    return frozenset().union(*(hooked_kinds(state) for state in states))


async def move(
    database: Database,
    items: Sequence[I],
    run: Callable[[Connection, Sequence[I]], Awaitable[Sequence[Mapping[str, Any]]]],
    states: Sequence[State],
    *,
    then: str,
) -> tuple[list[Mapping[str, Any]], list[tuple[I, HookFailed]]]:
    """Change the states of the jobs `items`, and run the hooks. The function `run` executes the SQL statement and returns
    the rows that it changed; `states` are the states to which the statement can lead. `then` says for the log what the
    caller does with a job whose hook failed.

    Returns the changed rows, and a pair (item, error) for each item whose hook failed; such a job is unchanged. Raises the
    database's errors.
    """
    if not hooked(states):
        async with database.connection() as connection:
            return list(await run(connection, items)), []
    try:
        return await _with_hooks(database, items, run, states), []
    except HookFailed as error:
        if len(items) == 1:
            log_failure(error, then)
            return [], [(items[0], error)]
    rows: list[Mapping[str, Any]] = []
    failed: list[tuple[I, HookFailed]] = []
    for item in items:
        try:
            rows += await _with_hooks(database, [item], run, states)
        except HookFailed as error:
            log_failure(error, then)
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
        # A running job that was asked to stop is returned too, but has entered no new state.
        entered = [row for row in rows if row.get("state", State.RUNNING) in states]
        for row in entered:
            await run_hooks(transaction, row, looks=False)
        if entered:
            # One check for all jobs: if it fails, they are done again one by one, which shows whose fault it was.
            await _see_that_it_holds(transaction, entered[0])
    return rows


async def run_hooks(
    transaction: HookedTransaction, row: Mapping[str, Any], context: Context | None = None, *, looks: bool = True
) -> None:
    """Run the hooks for the state that the job in `row` has entered, each in a copy of `context` (None: an empty context).
    With ``looks=True``, then check that the transaction can still be committed. With ``looks=False`` the caller must check
    that.

    Raises `HookFailed`. If the transaction's connection shows that Postgres is the cause, raises `Unavailable`, or asyncpg's
    own error for a conflict.
    """
    # A claim's rows carry no more than the runner needs.
    state = State(row.get("state", State.RUNNING))
    for hook in hooks_of(row["kind"], state):
        # Each hook has its own: what it changes in its arguments, no other hook sees.
        change: Change[Any] = Change(
            job_id=as_uuid(row["id"]),
            kind=row["kind"],
            state=state,
            arguments=readable(row["args"]),
            attempt=row["attempt"],
            max_attempts=row["max_attempts"],
            result=readable(row.get("result")),
            error=row.get("error"),
            version=row["version"],
        )
        error = await _apart(hook, transaction, change, Context() if context is None else context.copy())
        if error is None:
            continue
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise asyncio.CancelledError  # this task itself was cancelled
        if (fault := transaction.fault_of_postgres(error)) is not None:
            raise fault from error  # not the hook's fault: the transaction is tried again
        raise _failed(row, name_of(hook), error)
    if looks and hooks_of(row["kind"], state):
        await _see_that_it_holds(transaction, row)


async def _see_that_it_holds(transaction: HookedTransaction, row: Mapping[str, Any]) -> None:
    """Raises `HookFailed` if the transaction cannot be committed although all hooks have returned without an error."""
    error = await transaction.fault()
    if error is not None:
        found = hooks_of(row["kind"], State(row.get("state", State.RUNNING)))
        name = " or ".join(map(name_of, found)) or "of a neighbour"
        raise _failed(row, name, error)


def _failed(row: Mapping[str, Any], name: str, error: BaseException) -> HookFailed:
    hiding = hiding_of(row["kind"], row["args"], row["version"])
    return HookFailed(as_uuid(row["id"]), row["kind"], name, error, hiding)


async def _apart(hook: Hook, transaction: HookedTransaction, change: Change[Any], context: Context) -> BaseException | None:
    """Run the hook in a separate task and context, so that whatever it cancels or sets does not affect other code. Returns
    the error that it raised, or None."""
    run = HookRun(change.job_id, change.kind)
    context.run(hooks_run.set, run)
    try:
        async with loop_time.timeout(HOOK_TIME) as limit:
            error = await asyncio.create_task(_failure_of(hook, transaction, change), context=context)
    finally:
        run.over = True
    return TimeoutError(f"it took longer than {HOOK_TIME:g} s") if limit.expired() else error


async def _failure_of(hook: Hook, transaction: HookedTransaction, change: Change[Any]) -> BaseException | None:
    """Run the hook, and return the error that it raised, or None. This includes ``SystemExit`` and the like, which would end
    the event loop if a task raised them."""
    try:
        await hook(transaction.session, change)
        with transaction.explained():
            await transaction.session.flush()
    except BaseException as error:
        return error
    return None
