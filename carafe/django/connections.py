"""Django's database connections around each attempt, as around each request of a web process.

Guarantees: a handler never gets a connection that has died or is older than ``CONN_MAX_AGE``, whether it runs in a thread,
in a process of its own or on the event loop.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any

from asgiref.sync import sync_to_async
from django.db import close_old_connections, connections, reset_queries


def on_living_connections(function: Callable[..., Any]) -> Callable[..., Any]:
    """A handler that calls `function`, with Django's connections of its thread checked before and closed after it, where
    they are due."""
    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def run_async(*arguments: Any) -> Any:
            # Django's asynchronous queries run in one thread, which has connections of its own.
            await sync_to_async(close_dead_connections)()
            try:
                return await function(*arguments)
            finally:
                await sync_to_async(close_old_connections)()

        return run_async

    @functools.wraps(function)
    def run(*arguments: Any) -> Any:
        close_dead_connections()
        try:
            return function(*arguments)
        finally:
            close_old_connections()

    return run


def close_dead_connections() -> None:
    """Close this thread's connections that are too old or have ended. Django opens another at the next query."""
    reset_queries()  # with DEBUG, Django keeps the queries of a request
    close_old_connections()
    for connection in connections.all(initialized_only=True):
        if connection.connection is not None and not connection.in_atomic_block and not connection.is_usable():
            connection.close()
