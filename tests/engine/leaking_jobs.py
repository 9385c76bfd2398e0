"""The jobs of `test_handler_connections` (JOB_MODULES)."""

from typing import TYPE_CHECKING

from carafe import Change, Job, State, hook

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession


class Leak(Job, kind="leaking.leak"):
    """Takes connections as `how` says, keeps them for good, and ends as `end` says; waits for `gate` while it holds them."""

    how: str
    end: str = "return"
    count: int = 1
    gate: int = 0


class Together(Job, kind="leaking.together"):
    """Holds a session until as many jobs as `count` hold one."""

    count: int


class Followed(Job, kind="leaking.followed"):
    """Ordinary, with a hook."""


@hook(Followed, State.RUNNING, State.SUCCEEDED)
async def follow(session: "AsyncSession", change: Change) -> None:
    """Writes the state into `effects`."""
    from sqlalchemy import text

    await session.execute(
        text("insert into effects (job_id, word) values (:id, :word)"), {"id": change.job_id, "word": change.state.value}
    )
