"""What a handler's or a hook's transaction needs, imported before the first job: on the event loop, at first use, it would
hold up every slot for as long as SQLAlchemy takes to load.

Only where somebody may use it: a worker whose code has no transaction starts without it, as fast as before.
"""

import inspect
import sys
from collections.abc import Iterable, Iterator
from types import CodeType, FunctionType, ModuleType
from typing import Any

from carafe.jobs.handlers import handlers
from carafe.jobs.moves import hooked
from carafe.jobs.states import State

NAME = "transaction"
"""The method of a handler's context, as code names it that calls it."""


def import_for_transactions() -> None:
    """Import SQLAlchemy and its driver if there are hooks, or a handler's package names `transaction`."""
    if hooked(State) or transacting(handler.function for handler in handlers().values()):
        import sqlalchemy.dialects.postgresql.asyncpg
        import sqlalchemy.ext.asyncio  # noqa: F401


def transacting(functions: Iterable[Any]) -> bool:
    """Whether one of these functions, or anything in the packages that they are from, names `transaction`."""
    packages = {str(getattr(inspect.unwrap(function), "__module__", "")).partition(".")[0] for function in functions}
    modules = [module for name, module in list(sys.modules.items()) if name.partition(".")[0] in packages]
    return any(_names_it(code) for module in modules for code in _codes(module))


def _codes(module: ModuleType | None) -> Iterator[CodeType]:
    """The code of a module's own functions and methods."""
    for value in list(vars(module).values()) if isinstance(module, ModuleType) else ():
        owners = [value, *vars(value).values()] if isinstance(value, type) else [value]
        for owner in owners:
            function = owner.__func__ if isinstance(owner, staticmethod | classmethod) else owner
            if isinstance(function, FunctionType):
                yield inspect.unwrap(function).__code__


def _names_it(code: CodeType) -> bool:
    return NAME in code.co_names or any(_names_it(inner) for inner in code.co_consts if isinstance(inner, CodeType))
