"""Kinds of jobs that the tests of the web side enqueue; this module is one of their JOB_MODULES."""

from typing import Any
from uuid import UUID

from pydantic import Field, SecretStr
from sqlalchemy.ext.asyncio import AsyncSession

from carafe import Change, Job, State, hook


class Resize(Job, kind="web.resize", timeout=60, max_retries=1):
    """Resize a picture."""

    width: int = Field(ge=1, le=10_000)
    name: str = ""
    factor: float = 1.0


class Login(Job, kind="web.login"):
    """Log in somewhere."""

    user: str
    password: SecretStr


class Anything(Job, kind="web.anything"):
    """Takes whatever JSON there is."""

    value: Any = None


class Guarded(Job, kind="web.guarded"):
    """Its hook refuses to let it be cancelled."""

    id: UUID


@hook(Guarded, State.CANCELLED)
async def refuses(session: AsyncSession, change: Change) -> None:
    """Fails, as an application's hook may."""
    raise RuntimeError("the hook's own words, with what it knows")
