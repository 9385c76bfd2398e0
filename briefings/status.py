"""The hook that updates a briefing's status in the transaction that changes its job's state (docs/design rule 4).

Must never: change a briefing that now belongs to another job. So every update names the job's id.
"""

from typing import TYPE_CHECKING
from uuid import UUID

from carafe import Change, State

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

STATUS = {
    State.SCHEDULED: "pending",
    State.QUEUED: "pending",
    State.RETRYING: "pending",
    State.RUNNING: "processing",
    State.SUCCEEDED: "completed",
    State.DEAD: "failed",
    State.CANCELLED: "failed",
}


async def follow(session: "AsyncSession", change: Change) -> None:
    """Update the briefing of a job to match the job's new state. A retry makes it pending again and clears its error."""
    # Imported late: SQLAlchemy's mapper takes over half a second that a starting worker does not have.
    from sqlalchemy import func, update

    from briefings.model import Briefing

    completed = change.state is State.SUCCEEDED
    errors = {State.DEAD: change.error or "failed without a message", State.CANCELLED: "cancelled"}
    await session.execute(
        update(Briefing)
        .where(Briefing.id == UUID(change.arguments["briefing_id"]), Briefing.job_id == change.job_id)
        .values(
            status=STATUS[change.state],
            content=change.result["content"] if completed else None,
            error=errors.get(change.state),
            updated_at=func.now(),
            completed_at=func.now() if completed else None,
        )
        .execution_options(synchronize_session=False)
    )
