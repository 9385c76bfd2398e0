"""The jobs of the shop. Web processes and workers import this module."""

from carafe import Job


class SendReceipt(Job, kind="shop.send_receipt"):
    """Send the receipt of an order."""

    order: int
