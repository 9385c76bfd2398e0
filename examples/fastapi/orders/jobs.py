"""The jobs of the shop. Web process and workers import this module."""

from carafe import Job


class ConfirmOrder(Job, kind="orders.confirm"):
    """Confirm an order to its customer."""

    order: int
