"""The job. Web process and workers import this module."""

from carafe import Job


class SendMail(Job[str], kind="newsletter.send_mail"):
    """Send an issue to one subscriber."""

    to: str
    issue: int
