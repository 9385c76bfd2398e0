"""What workers do for each job. Only workers import this module."""

from carafe import Context, Discard, handler
from newsletter.jobs import SendMail


@handler(SendMail)
async def send_mail(job: SendMail, ctx: Context) -> str:
    """Return what a real handler would send."""
    if "@" not in job.to:
        raise Discard(f"{job.to!r} is not an address")
    return f"To {job.to}: issue {job.issue}"
