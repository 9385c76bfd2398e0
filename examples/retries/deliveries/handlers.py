"""What workers do for each job. Only workers import this module."""

from datetime import UTC, datetime

from carafe import Context, Discard, Retry, Snooze, handler
from deliveries.jobs import Deliver


@handler(Deliver)
async def deliver(job: Deliver, ctx: Context) -> str:
    """Return where the parcel is, or say what is to become of the job."""
    now = datetime.now(UTC)
    if job.not_before is not None and job.not_before > now:
        raise Snooze(job.not_before - now, "too early")  # scheduled again: no attempt is spent
    match job.to:
        case "Atlantis":
            raise Discard("there is no such town")  # dead at once: another attempt would not help
        case "Oslo" if ctx.attempt == 1:
            raise Retry("nobody was at home", after=0.1)  # the attempt is spent; the next one is in 0.1 seconds
        case "Cape Horn":
            raise ConnectionError("the ship does not answer")  # retried after growing pauses (backoff), then dead
    return f"delivered to {job.to} in attempt {ctx.attempt} of {ctx.max_attempts}"
