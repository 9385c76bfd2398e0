"""What workers do for each job. Only workers import this module."""

from carafe import SyncContext, handler
from shop import app
from shop.database import Order, db
from shop.jobs import SendReceipt


@handler(SendReceipt)
def send_receipt(job: SendReceipt, ctx: SyncContext) -> None:
    """Marks the receipt as sent. A real shop would send an e-mail here."""
    with app.app_context():  # at its end, Flask-SQLAlchemy gives the connection back
        order = db.session.get(Order, job.order)
        if order is not None:
            order.receipt_sent = True
            db.session.commit()
