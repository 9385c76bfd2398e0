"""Which function runs which kind. Handlers live in HANDLER_MODULES; only worker processes import them.

``async def`` functions run on the worker's event loop, plain functions in threads, and ``isolation="process"`` gives each
attempt a child process of its own that can be killed (hard timeout, memory limit).
"""

import inspect
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, cast

from carafe.jobs.context import Context, SyncContext
from carafe.jobs.definition import Job

Mode = Literal["async", "thread", "process"]
J = TypeVar("J", bound=Job)
Function = Callable[[J, Context], Awaitable[Any]] | Callable[[J, SyncContext], Any]
F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Handler:
    """A handler and how it runs. `memory_limit` in bytes of address space growth, process mode only."""

    job: type[Job]
    function: Callable[..., Any]
    mode: Mode
    memory_limit: int | None


_handlers: dict[str, Handler] = {}


def handler(
    job: type[Job], *, isolation: Literal["process"] | None = None, memory_limit: int | None = None
) -> Callable[[F], F]:
    """Register the function that runs `job`: called as ``function(job, ctx)``, once an attempt.

    `memory_limit` in bytes, with ``isolation="process"`` only. Raises ``TypeError`` for a second handler of one kind.
    """
    if memory_limit is not None and (isolation != "process" or memory_limit <= 0):
        raise TypeError('memory_limit is in bytes, above 0, and needs isolation="process"')

    def register(function: F) -> F:
        kind = job.job_options.kind
        known = _handlers.get(kind)
        place = (function.__module__, function.__qualname__)
        if known is not None and (known.function.__module__, known.function.__qualname__) != place:
            raise TypeError(
                f"kind {kind!r} already has the handler {known.function.__module__}.{known.function.__qualname__}"
            )
        mode: Mode = "process" if isolation else "async" if inspect.iscoroutinefunction(function) else "thread"
        _handlers[kind] = Handler(job, cast(Callable[..., Any], function), mode, memory_limit)
        return function

    return register


def handlers() -> Mapping[str, Handler]:
    """The handlers that this process has, by kind."""
    return _handlers
