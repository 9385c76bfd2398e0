"""Hooks: functions of the application that run when a job changes its state, in the same transaction (docs/design rule 4).

Hooks are declared in the same modules as the jobs (JOB_MODULES), which web, worker and steward import, because the process
that makes the change runs the hook. A hook that fails makes its own job fail: a success becomes a failed attempt. Some
changes have to be made anyway and are then written without the hook. In that case the error of a dead, cancelled or retrying
job mentions the failed hook; for a scheduled or queued job only the log does.
"""

from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Generic, cast
from uuid import UUID

from typing_extensions import TypeVar

from carafe.jobs.declaring import check_function, check_job_class, is_async, name_of
from carafe.jobs.definition import Job, job_class, load
from carafe.jobs.errors import InvalidOption
from carafe.jobs.states import State, StateName, states_of
from carafe.jobs.stored_json import written

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

J = TypeVar("J", bound=Job)
J_co = TypeVar("J_co", bound=Job, covariant=True, default=Job)


@dataclass(frozen=True)
class Change(Generic[J_co]):
    """One change of a job's state, as it is passed to a hook. ``Change[Export]`` says that its `job` is an ``Export``.

    `arguments` are the stored arguments as JSON-like data, and `version` is the version of these arguments (None: that of
    the class). Secrets are unhidden in both `arguments` and `job`.
    """

    job_id: UUID
    kind: str
    state: State
    arguments: dict[str, Any]
    attempt: int
    max_attempts: int
    result: Any = None
    error: str | None = None
    version: int | None = None

    @cached_property
    def job(self) -> J_co:
        """The job as an object of its class, as its handler gets it. It is made when it is first asked for.

        Raises `InvalidArguments` if the stored arguments are not valid for this release's class; `arguments` has them in any
        case. Such a job ends dead, and a hook for that state may meet it.
        """
        cls = job_class(self.kind)
        version = cls.job_options.version if self.version is None else self.version
        return cast(J_co, load(cls, written(self.arguments).decode(), version))


class HookRun:
    """One run of a hook. A worker's event loop uses it to distinguish the hook's tasks from its own (`engine.worker_loop`).

    `over`: whether the run has ended. `spares`: whether the log has already warned that the hook tried to cancel tasks that
    are not its own.
    """

    __slots__ = ("id", "kind", "over", "spares")

    def __init__(self, job_id: UUID, kind: str) -> None:
        self.id, self.kind = job_id, kind
        self.over = self.spares = False


hooks_run: ContextVar[HookRun | None] = ContextVar("carafe hook", default=None)
"""The run of a hook that the current context belongs to; None outside of hooks."""

HookOf = Callable[["AsyncSession", Change[J]], Coroutine[Any, Any, None]]
Hook = Callable[["AsyncSession", Change[Any]], Coroutine[Any, Any, None]]
"""`HookOf` is a hook of one job class. `hook` returns it as a `Hook`, so that the function can be the hook of another class
too."""

_hooks: dict[tuple[str, State], list[Hook]] = {}
_sealed_for: str | None = None


def hook(job: type[J], *states: State | StateName) -> Callable[[HookOf[J]], Hook]:
    """Run the decorated ``async def`` whenever a job of this class enters one of `states`, in the transaction that makes
    this change.

    The function gets an ``AsyncSession`` on the connection of that transaction, and the `Change` (``Change[Export]``, whose
    `job` is an ``Export``). It must not commit. Keep it short: while it runs, the job's row stays locked. It may take 8 s,
    and its statements and locks have shorter timeouts.
    Raises ``TypeError`` in a module that only workers import, for a plain ``def``, and for a state that does not exist.
    """
    check_job_class("@hook", job, Job)
    if not states:
        raise TypeError(f"@hook: names no state: @hook({job.__name__}, State.SUCCEEDED, State.DEAD)")
    try:
        entered = [state for state in State if state in states_of(states)]
    except InvalidOption as error:
        raise TypeError(f"@hook: {error}") from None

    def register(function: HookOf[J]) -> Hook:
        check_function("@hook", function, "the session and the change")
        if not is_async(function):
            raise TypeError(f"@hook: {name_of(function)} is a plain `def`: write `async def`")
        if _sealed_for is not None:
            raise TypeError(
                f"the hook {name_of(function)} is registered by {_sealed_for}, which only workers "
                "import; web and steward change states too: move it beside the job's definition (JOB_MODULES)"
            )
        for state in entered:
            registered = _hooks.setdefault((job.job_options.kind, state), [])
            if function not in registered:
                registered.append(function)
        return function

    return register


def hooks_of(kind: str, state: State) -> list[Hook]:
    """The hooks of a kind for a state, in the order they were registered."""
    return _hooks.get((kind, state), [])


def hooked_kinds(state: State) -> frozenset[str]:
    """The kinds that have a hook for `state`."""
    return frozenset(kind for kind, hooked in _hooks if hooked is state)


def seal(what: str | None) -> None:
    """Refuse new hooks from now on, because modules are being imported that only workers import. `what` names these modules,
    for the error message. If `what` is None, accept new hooks again."""
    global _sealed_for
    _sealed_for = what
