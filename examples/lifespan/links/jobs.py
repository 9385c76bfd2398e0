"""The jobs. Web process and workers import this module."""

from carafe import Job


class CheckLink(Job[int], kind="links.check"):
    """Request a URL. The result is the answer's status."""

    url: str


class MeasurePage(Job[int], kind="links.measure"):
    """Read a page in a process of its own. The result is its size in characters."""

    url: str
