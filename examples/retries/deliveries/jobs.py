"""The job. Web process and workers import this module."""

from datetime import datetime

from carafe import Job


class Deliver(Job[str], kind="deliveries.deliver", max_retries=2):
    """Deliver a parcel, not before a certain time."""

    to: str
    not_before: datetime | None = None
