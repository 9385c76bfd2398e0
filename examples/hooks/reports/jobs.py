"""The job that writes a report, and the hook that keeps the report's status. Web process and workers import this module."""

from sqlalchemy import update
from sqlalchemy.ext.asyncio import AsyncSession

from carafe import Change, Job, State, hook
from reports.tables import Report


class WriteReport(Job[str], kind="reports.write", max_retries=0):
    """Write a report."""

    report: int
    topic: str


@hook(WriteReport, State.RUNNING, State.SUCCEEDED, State.DEAD, State.CANCELLED)
async def follow(session: AsyncSession, change: Change[WriteReport]) -> None:
    """Write the job's state into its report, in the transaction that changes the job: the two never differ."""
    report = update(Report).where(Report.id == change.job.report)
    await session.execute(report.values(status=change.state, text=change.result, error=change.error))
