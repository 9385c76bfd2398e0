"""The registry of handlers: which function runs which kind of job. The setting HANDLER_MODULES names the modules that have
handlers, and only workers import these modules.

``async def`` functions run on the worker's event loop, plain functions in threads. ``isolation="process"`` gives each
attempt its own child process, which can be killed (hard timeout, memory limit).
"""

import inspect
import sys
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, replace
from typing import Any, Concatenate, Generic, Literal, ParamSpec, TypeVar, overload

from carafe.jobs.context import Context, SyncContext
from carafe.jobs.declaring import annotation_of_second, check_function, check_job_class, name_of
from carafe.jobs.definition import Job
from carafe.jobs.numbers import is_whole
from carafe.jobs.outcomes import Outcome
from carafe.texts import shown

Mode = Literal["async", "thread", "process"]

MOST_MEMORY = 2**62
"""The greatest `memory_limit` in bytes. The limit is added to the memory that the process already has, and the operating
system counts only to 2**63."""

J = TypeVar("J", bound=Job)
J_co = TypeVar("J_co", bound=Job, covariant=True)
R = TypeVar("R")
P = ParamSpec("P")


@dataclass(frozen=True, slots=True)
class Handler:
    """A handler and how it runs. `memory_limit`, only for the mode "process", is the number of bytes by which the address
    space of the handler's process may grow."""

    job: type[Job]
    function: Callable[..., Any]
    mode: Mode
    memory_limit: int | None


_handlers: dict[str, Handler] = {}


class Registers(Generic[J_co]):
    """The decorator that `handler` returns. It takes a function whose parameters and result fit the job's class."""

    def __init__(self, job: type[J_co], isolation: Literal["process"] | None, memory_limit: int | None) -> None:
        self._job, self._isolation, self._memory_limit = job, isolation, memory_limit

    @overload
    def __call__(
        self: "Registers[Job[R]]", function: Callable[Concatenate[J_co, Context, P], Coroutine[Any, Any, R | Outcome]], /
    ) -> Callable[Concatenate[J_co, Context, P], Coroutine[Any, Any, R]]: ...
    @overload
    def __call__(
        self: "Registers[Job[R]]", function: Callable[Concatenate[J_co, SyncContext, P], R | Outcome], /
    ) -> Callable[Concatenate[J_co, SyncContext, P], R]: ...
    def __call__(self, function: Callable[..., Any], /) -> Callable[..., Any]:
        asynchronous = _checked(function)
        kind = self._job.job_options.kind
        known = _handlers.get(kind)
        if known is not None and not _again(kind, known.function, function):
            raise TypeError(f"kind {kind!r} already has the handler {name_of(known.function)}{_line_of(known.function)}")
        _registered_by[kind] = _spec_of(function)
        mode: Mode = "process" if self._isolation else "async" if asynchronous else "thread"
        run = function
        for wrap in _wraps:
            run = wrap(run)
        _handlers[kind] = Handler(self._job, run, mode, self._memory_limit)
        return function


_wraps: list[Callable[[Callable[..., Any]], Callable[..., Any]]] = []
"""What `around` has put around every handler, the innermost first."""

_registered_by: dict[str, Any] = {}
"""For each kind, the spec of the module that registered its handler. Each import and each reload makes a new spec."""


def _again(kind: str, known: Any, function: Any) -> bool:
    """Whether `function` is a new definition of the registered handler `known`: because it has the same lines of source,
    because its module was reloaded, or because another cell of a notebook defines it. If not, the module has two handlers
    with the same name."""
    if name_of(known) != name_of(function):
        return False
    code, other = (getattr(inspect.unwrap(one), "__code__", None) for one in (known, function))
    if code is other or code is None or other is None:
        return True
    spec = _spec_of(function)
    if spec is None:  # a script, or a notebook, whose cells are files of their own
        return bool(code.co_filename != other.co_filename or code.co_firstlineno == other.co_firstlineno)
    return spec is not _registered_by.get(kind)


def _spec_of(function: Any) -> Any:
    return getattr(sys.modules.get(getattr(function, "__module__", None) or ""), "__spec__", None)


def _line_of(function: Any) -> str:
    code = getattr(inspect.unwrap(function), "__code__", None)
    return "" if code is None else f" (line {code.co_firstlineno})"


def _checked(function: Callable[..., Any]) -> bool:
    """Returns whether `function` is asynchronous. Raises ``TypeError`` if it could not be called as a handler."""
    check_function("@handler", function, "the job and its context")
    if not hasattr(function, "__qualname__"):
        raise TypeError(f"@handler: must decorate a function that child processes find by its name (got {function!r})")
    asynchronous = inspect.iscoroutinefunction(function)
    right, wrong = (Context, SyncContext) if asynchronous else (SyncContext, Context)
    if annotation_of_second(function) is wrong:
        written = "an `async def`" if asynchronous else "a plain `def`"
        words = f"is {written}, so it gets a {right.__name__}, but its second parameter is annotated as {wrong.__name__}"
        raise TypeError(f"@handler: {name_of(function)} {words}")
    return asynchronous


def handler(job: type[J], *, isolation: Literal["process"] | None = None, memory_limit: int | None = None) -> Registers[J]:
    """Register the decorated function as the handler of the job class `job`. It is called as ``function(job, ctx)``, for
    each attempt.

    An ``async def`` gets a `Context`, a plain ``def`` a `SyncContext`. `memory_limit` is in bytes, and only allowed with
    ``isolation="process"``. Raises ``TypeError`` for a second handler of the same kind, an isolation that does not exist, a
    memory limit that is not a whole number of bytes, and a function that cannot be called with these two arguments.
    """
    check_job_class("@handler", job, Job)
    if isolation not in (None, "process"):
        raise TypeError(
            f'@handler: isolation is "process" or left out (got {isolation!r}): '
            "without it an `async def` runs on the worker's event loop and a plain `def` in a thread"
        )
    if memory_limit is not None and isolation != "process":
        raise TypeError('@handler: memory_limit needs isolation="process": only a child process can be limited')
    if memory_limit is not None and not (is_whole(memory_limit) and 0 < memory_limit <= MOST_MEMORY):
        raise TypeError(f"@handler: memory_limit is a whole number of bytes, from 1 to 2**62 (got {shown(memory_limit)})")
    return Registers(job, isolation, None if memory_limit is None else int(memory_limit))


def around(wrap: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    """Put something around each attempt of every handler, in the thread, task or process in which the handler runs.

    `wrap` is called with each handler's function, and returns the function to run instead: a coroutine function for a
    coroutine function, made with ``functools.wraps``. Doing this again with the same `wrap` changes nothing.
    """
    if wrap in _wraps:
        return
    _wraps.append(wrap)
    for kind, found in _handlers.items():
        _handlers[kind] = replace(found, function=wrap(found.function))


def handlers() -> Mapping[str, Handler]:
    """The handlers that this process has registered, by kind."""
    return _handlers
