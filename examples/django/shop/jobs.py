"""The jobs of the shop. Web processes and workers import this module."""

from carafe import Job


class SendReceipt(Job, kind="shop.send_receipt"):
    """Send the receipt of an order."""

    order: int


class CountOrders(Job[int], kind="shop.count_orders"):
    """Count the orders by Django's asynchronous queries."""


class CountInProcess(Job[int], kind="shop.count_in_process"):
    """Count the orders in a process that has its own memory limit."""
