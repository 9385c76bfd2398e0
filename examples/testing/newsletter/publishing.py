"""What the application does: code that enqueues jobs, which the tests try."""

from collections.abc import Sequence

from carafe import SyncClient
from newsletter.jobs import SendMail


def publish(client: SyncClient, issue: int, subscribers: Sequence[str]) -> None:
    """Send an issue to all subscribers: one job for each, stored in one commit."""
    client.enqueue_many([SendMail(to=address, issue=issue) for address in subscribers])
