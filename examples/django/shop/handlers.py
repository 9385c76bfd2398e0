"""What workers do for each job. Only workers import this module. Handlers use Django's models as views do."""

from carafe import Context, SyncContext, handler
from shop.jobs import CountInProcess, CountOrders, SendReceipt
from shop.models import Order


@handler(SendReceipt)
def send_receipt(job: SendReceipt, ctx: SyncContext) -> None:
    """Marks the receipt as sent. A real shop would send an e-mail here."""
    Order.objects.filter(pk=job.order).update(receipt_sent=True)


@handler(CountOrders)
async def count_orders(job: CountOrders, ctx: Context) -> int:
    """Returns the number of orders."""
    return await Order.objects.acount()


@handler(CountInProcess, isolation="process")
def count_in_process(job: CountInProcess, ctx: SyncContext) -> int:
    """Returns the number of orders."""
    return Order.objects.count()
