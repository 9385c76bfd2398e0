"""Jobs whose handlers start processes (JOB_MODULES)."""

from carafe import Job


class Forking(Job):
    """`what` names one of `tests.engine.forking_handlers`'s acts; what lives on is written into `file`, a line a pid."""

    what: str
    file: str = ""


class InProcess(Forking, kind="forking.process"):
    """Runs in a child process."""


class InThread(Forking, kind="forking.thread"):
    """Runs in a thread of the worker."""


class InLoop(Forking, kind="forking.async"):
    """Runs on the worker's loop."""
