"""What a part of an application does while the application runs, beside what the application itself does."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from fastapi import FastAPI


def around(app: FastAPI, outside: Callable[[Any], AbstractAsyncContextManager[None]]) -> None:
    """Put a context around the lifespan that an application has already."""
    inside = app.router.lifespan_context

    @asynccontextmanager
    async def lifespan(of: Any) -> AsyncIterator[Any]:
        async with outside(of), inside(of) as state:
            yield state

    app.router.lifespan_context = lifespan
