"""Adds work to the lifespan of a FastAPI application: code that runs at its start and at its end."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from fastapi import FastAPI


def around(app: FastAPI, outside: Callable[[Any], AbstractAsyncContextManager[None]]) -> None:
    """Wrap the lifespan of `app`: the context `outside` is entered before it and left after it."""
    inside = app.router.lifespan_context

    @asynccontextmanager
    async def lifespan(of: Any) -> AsyncIterator[Any]:
        async with outside(of), inside(of) as state:
            yield state

    app.router.lifespan_context = lifespan
