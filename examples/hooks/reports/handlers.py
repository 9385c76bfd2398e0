"""What workers do for each job. Only workers import this module."""

from carafe import Context, handler
from reports.jobs import WriteReport


@handler(WriteReport)
async def write_report(job: WriteReport, ctx: Context) -> str:
    """Return the text. The hook stores it: the handler need not know the table."""
    if job.topic == "unicorns":
        raise LookupError("nothing is known about unicorns")
    return f"All about {job.topic}."
