"""The jobs that these tests enqueue (JOB_MODULES)."""

from carafe import Job


class Fine(Job, kind="metrics.fine"):
    """Succeeds, after this many seconds."""

    seconds: float = 0.0


class Threaded(Job, kind="metrics.threaded"):
    """The same, as a plain function in a thread."""

    seconds: float = 0.0


class Apart(Job, kind="metrics.apart"):
    """The same, in a process of its own."""


class Whole(Job, kind="metrics.whole"):
    """Ends in its own transaction."""


class Flaky(Job, kind="metrics.flaky"):
    """Succeeds with the third attempt."""


class Failing(Job, kind="metrics.failing", max_retries=1):
    """Is dead after its second attempt."""


class Snoozing(Job, kind="metrics.snoozing"):
    """Wants to run later, once."""


class Declining(Job, kind="metrics.declining"):
    """Cancels itself."""
