"""What an application hangs on a job's changes of state, in the same transaction (DESIGN.md rule 4).

Hooks live beside the job's definition (JOB_MODULES), where web, worker and steward all import them: whoever changes the
state runs the hook. A hook that fails fails its own job: a success becomes a failed attempt; where there is nowhere left
to go (the job is dead or cancelled anyway), the end is written without it and says so.
"""

from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

from carafe.jobs.definition import Job
from carafe.jobs.states import State

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession


@dataclass(frozen=True, slots=True)
class Change:
    """One change of state, as a hook sees it. `arguments` are the stored ones as JSON-like data (secrets whole)."""

    job_id: UUID
    kind: str
    state: State
    arguments: dict[str, Any]
    attempt: int
    max_attempts: int
    result: Any = None
    error: str | None = None


class HookRun:
    """One run of a hook, by which a worker's event loop tells the hook's tasks from its own (`engine.worker_loop`).

    `over`: it has ended; `spares`: it has been told that other tasks are not its own.
    """

    __slots__ = ("id", "kind", "over", "spares")

    def __init__(self, job_id: UUID, kind: str) -> None:
        self.id, self.kind = job_id, kind
        self.over = self.spares = False


hooks_run: ContextVar[HookRun | None] = ContextVar("carafe hook", default=None)
"""The hook that runs in this context."""

Hook = Callable[["AsyncSession", Change], Awaitable[None]]
H = TypeVar("H", bound=Hook)

_hooks: dict[tuple[str, State], list[Hook]] = {}
_sealed_for: str | None = None


def hook(job: type[Job], *states: State) -> Callable[[H], H]:
    """Run the function whenever a job of this class enters one of `states`, within that very transaction.

    It gets an ``AsyncSession`` on the transaction's own connection and the `Change`; it must not commit. Keep it short: it
    holds the job's row, and gets 8 s, in which statement and lock timeouts apply. Raises ``TypeError`` in a module that only
    workers import.
    """
    if not states:
        raise TypeError("hook() needs at least one state")

    def register(function: H) -> H:
        if _sealed_for is not None:
            raise TypeError(
                f"the hook {function.__module__}.{function.__qualname__} is registered by {_sealed_for}, which only workers "
                "import; web and steward change states too: move it beside the job's definition (JOB_MODULES)"
            )
        for state in states:
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
    """From now on refuse new hooks, since the modules being imported (`what`) are not imported everywhere."""
    global _sealed_for
    _sealed_for = what
