"""Imports SQLAlchemy before the first job, because transactions of handlers and hooks need it. If it were imported only at
its first use, the import would block the event loop and so every slot.

A worker whose code has neither hooks nor transactions does not import SQLAlchemy, and starts faster.
"""

import inspect
import sys
from collections.abc import Iterable, Iterator
from types import CodeType, FunctionType, ModuleType
from typing import Any

from carafe.jobs.handlers import handlers
from carafe.jobs.states import State
from carafe.store.transitions import hooked

NAME = "transaction"
"""The name of the context method that opens a transaction. Code that contains this name may use transactions."""


def import_for_transactions() -> None:
    """Import SQLAlchemy and its driver if there are hooks, or if code in a handler's package contains the name
    `transaction`."""
    if hooked(State) or transacting(handler.function for handler in handlers().values()):
        import sqlalchemy.dialects.postgresql.asyncpg
        import sqlalchemy.ext.asyncio  # noqa: F401


def ahead_in_children() -> tuple[str, ...]:
    """Returns the modules that a child process should import before it gets a job, because code of a handler with
    ``isolation="process"`` contains the name `transaction`."""
    apart = [handler.function for handler in handlers().values() if handler.mode == "process"]
    return _FOR_TRANSACTIONS if transacting(apart) else ()


_FOR_TRANSACTIONS = (
    "carafe.engine.child_transactions",
    "sqlalchemy.dialects.postgresql.asyncpg",
    "sqlalchemy.ext.asyncio",
    "carafe.store.lent_sessions",
)


def transacting(functions: Iterable[Any]) -> bool:
    """Returns whether any code in the packages of these functions contains the name `transaction`."""
    packages = {str(getattr(inspect.unwrap(function), "__module__", "")).partition(".")[0] for function in functions}
    modules = [module for name, module in list(sys.modules.items()) if name.partition(".")[0] in packages]
    return any(_names_it(code) for module in modules for code in _codes(module))


def _codes(module: ModuleType | None) -> Iterator[CodeType]:
    """Yields the code objects of the functions and methods that a module's namespace holds."""
    for value in list(vars(module).values()) if isinstance(module, ModuleType) else ():
        owners = [value, *vars(value).values()] if isinstance(value, type) else [value]
        for owner in owners:
            function = owner.__func__ if isinstance(owner, staticmethod | classmethod) else owner
            if isinstance(function, FunctionType):
                yield inspect.unwrap(function).__code__


def _names_it(code: CodeType) -> bool:
    return NAME in code.co_names or any(_names_it(inner) for inner in code.co_consts if isinstance(inner, CodeType))
