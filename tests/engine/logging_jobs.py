"""Jobs whose handlers log (JOB_MODULES of test_job_logs.py)."""

from carafe import Job


class Say(Job):
    """`what` names one of the acts of `tests.engine.logging_handlers`, `text` what is said, `count` how often; `gate` is a
    Postgres advisory lock that is waited for afterwards."""

    what: str = "say"
    text: str = ""
    count: int = 1
    gate: int = 0


class AsyncSay(Say, kind="logs.async"):
    """Runs on the worker's loop."""


class ThreadSay(Say, kind="logs.thread"):
    """Runs in a thread."""


class ProcessSay(Say, kind="logs.process"):
    """Runs in a child process."""


SAY: dict[str, type[Say]] = {"async": AsyncSay, "thread": ThreadSay, "process": ProcessSay}
"""The class of each mode."""
