"""A handler module that registers a hook, which is refused at start."""

from typing import TYPE_CHECKING

from carafe import Change, State, hook
from tests.engine.jobs import NoOp

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession


@hook(NoOp, State.SUCCEEDED)
async def misplaced(session: "AsyncSession", change: Change) -> None:
    """Web and steward would never know it."""
