"""What workers do for each job. Only workers import this module."""

from carafe import Context, handler
from orders.jobs import ConfirmOrder
from orders.tables import Order


@handler(ConfirmOrder)
async def confirm_order(job: ConfirmOrder, ctx: Context) -> None:
    """Mark the order as confirmed, in the commit that ends the job. A real shop would send an e-mail before."""
    async with ctx.transaction() as session:
        order = await session.get_one(Order, job.order)
        order.confirmed = True
