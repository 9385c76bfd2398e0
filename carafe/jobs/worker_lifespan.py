"""Worker lifespans: what the handlers of one worker process share, such as an HTTP client, a model or a pool. A worker
enters each lifespan before its first job and leaves it after its last.

A lifespan is declared beside the handlers (HANDLER_MODULES), because only workers enter it. It is a generator function that
yields the shared value once, or a function that returns a context manager.
"""

import inspect
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager, contextmanager
from typing import Any, Generic, TypeVar, overload

from carafe.jobs.declaring import is_async, name_of
from carafe.texts import shown

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class WorkerLifespan(Generic[T_co]):
    """A declared lifespan, as `worker_lifespan` returns it. ``ctx.lifespan(it)`` is its value. A call returns a new context
    manager, for code that needs the value outside of a worker."""

    def __init__(self, function: Callable[[], Any], *, asynchronous: bool) -> None:
        self.name = self._declared_as = name_of(function)
        self.module = str(getattr(function, "__module__", ""))
        self.asynchronous, self._function = asynchronous, function

    def __call__(self) -> Any:
        """Returns a context manager that yields the value. It is asynchronous if `asynchronous` is true."""
        return self._function()

    def namesake(self, other: "WorkerLifespan[Any]") -> bool:
        """Whether both functions have the same name, as those that one function makes."""
        return self._declared_as == other._declared_as


_declared: list[tuple[WorkerLifespan[Any], object]] = []
"""Each lifespan, with the import specification of its module at its declaration. Python makes a new specification at each
import, so a reloaded module is told from a function that declares several lifespans."""


@overload
def worker_lifespan(function: Callable[[], AsyncIterator[T]], /) -> WorkerLifespan[T]: ...
@overload
def worker_lifespan(function: Callable[[], AbstractAsyncContextManager[T]], /) -> WorkerLifespan[T]: ...
@overload
def worker_lifespan(function: Callable[[], Iterator[T]], /) -> WorkerLifespan[T]: ...
@overload
def worker_lifespan(function: Callable[[], AbstractContextManager[T]], /) -> WorkerLifespan[T]: ...
def worker_lifespan(function: Callable[[], Any], /) -> WorkerLifespan[Any]:
    """Have each worker process enter the decorated function's context before its first job, and leave it at the end of its
    drain. Handlers get what it yields by ``ctx.lifespan(function)``.

    An ``async def`` generator is entered on the event loop of ``async def`` handlers, a plain generator in a thread of its
    own. Each child process (``isolation="process"``) enters all lifespans of its own before it gets its job, and leaves them
    after it. Lifespans are entered in the order of their declaration and left in the opposite order. A worker whose lifespan
    fails at its start does not start.

    Raises ``TypeError`` for a function that needs arguments, or is neither a generator nor wrapped by
    ``contextlib.asynccontextmanager`` or ``contextlib.contextmanager``.

    Each call declares a lifespan of its own, with a value of its own, whatever the function's name is. If its module is
    imported again, the lifespans of the earlier import are dropped.
    """
    lifespan = _lifespan(function)
    imported = getattr(sys.modules.get(lifespan.module), "__spec__", None)
    _declared[:] = [one for one in _declared if one[0].module != lifespan.module or one[1] is imported]
    namesakes = sum(1 for other, _ in _declared if other.namesake(lifespan))
    if namesakes:
        lifespan.name = f"{lifespan.name} ({namesakes + 1})"
    _declared.append((lifespan, imported))
    return lifespan


def worker_lifespans() -> Sequence[WorkerLifespan[Any]]:
    """The lifespans that this process has declared, in that order."""
    return [lifespan for lifespan, _ in _declared]


def _lifespan(function: Any) -> WorkerLifespan[Any]:
    where = "@worker_lifespan"
    if not callable(function):
        raise TypeError(f"{where}: is put on a function (got {shown(function)})")
    name, inner = name_of(function), inspect.unwrap(function)
    if inspect.signature(function).parameters and not _needs_nothing(function):
        raise TypeError(f"{where}: {name} is called without arguments: give its parameters defaults, or remove them")
    if inspect.isasyncgenfunction(inner):
        return WorkerLifespan(function if function is not inner else _same(asynccontextmanager, inner), asynchronous=True)
    if inspect.isgeneratorfunction(inner):
        return WorkerLifespan(function if function is not inner else _same(contextmanager, inner), asynchronous=False)
    what = "is an `async def` that yields nothing" if is_async(function) else "yields nothing"
    raise TypeError(
        f"{where}: {name} {what}: yield the shared value once, as in a function for contextlib.asynccontextmanager"
    )


def _same(make: Callable[[Any], Any], function: Any) -> Callable[[], Any]:
    wrapped: Callable[[], Any] = make(function)
    return wrapped


def _needs_nothing(function: Any) -> bool:
    try:
        inspect.signature(function).bind()
    except TypeError:
        return False
    return True
