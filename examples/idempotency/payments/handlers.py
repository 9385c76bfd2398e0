"""What workers do for each job. Only workers import this module."""

from carafe import Context, handler
from payments.jobs import Charge, Remind
from payments.tables import Payment


@handler(Charge)
async def charge(job: Charge, ctx: Context) -> None:
    """Mark the payment as charged. A real handler would call a payment service before, with ``str(ctx.job_id)`` as the
    idempotency key of that request: it is the same in every attempt."""
    async with ctx.transaction() as session:
        payment = await session.get_one(Payment, job.payment)
        payment.charged = True


@handler(Remind)
async def remind(job: Remind, ctx: Context) -> str:
    """Return what a real handler would send."""
    return f"Please pay invoice {job.invoice}."
