"""Kinds whose handlers change process-wide state of their worker (JOB_MODULES)."""

from carafe import Job


class Spoil(Job, kind="spoiling.spoil", timeout=20):
    """`what` names one of `tests.engine.spoiling_handlers`'s acts."""

    what: str


class Apart(Job, kind="spoiling.apart", timeout=30):
    """Runs in a child process."""


class Plain(Job, kind="spoiling.plain", timeout=20):
    """Runs in a thread."""
