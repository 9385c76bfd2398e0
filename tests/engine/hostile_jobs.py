"""The kinds of the hostile handlers (JOB_MODULES). `what` names one of `tests.engine.hostile_handlers`'s acts."""

from carafe import Job


class Hostile(Job):
    """What the handler does to its worker."""

    what: str


class HostileAsync(Hostile, kind="hostile.async", timeout=20):
    """On the worker's loop."""


class HostileThread(Hostile, kind="hostile.thread", timeout=20):
    """In a thread."""


class HostileProcess(Hostile, kind="hostile.process", timeout=30):
    """In a child process."""


class Ordinary(Job, kind="hostile.ordinary", timeout=20):
    """What a neighbour runs."""


class OrdinaryThread(Job, kind="hostile.ordinary_thread", timeout=20):
    """The same in a thread."""


class Waits(Job, kind="hostile.waits", timeout=60):
    """Waits for the Redis list `gate`: a neighbour in the midst of its work."""

    gate: str


class Joins(Job, kind="hostile.joins", timeout=1):
    """Waits for the end of all the tasks of its loop."""


KINDS: dict[str, type[Hostile]] = {"async": HostileAsync, "thread": HostileThread, "process": HostileProcess}
