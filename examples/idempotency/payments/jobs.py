"""The jobs. Web process and workers import this module."""

from uuid import UUID

from carafe import Job


class Charge(Job, kind="payments.charge"):
    """Charge a payment to the customer's card."""

    payment: UUID
    cents: int


class Remind(Job, kind="payments.remind"):
    """Remind the customer of an invoice."""

    invoice: int
