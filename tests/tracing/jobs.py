"""The kinds of these tests (JOB_MODULES)."""

from carafe import Job


class Working(Job, kind="tracing.working"):
    """An ``async def`` handler that makes a span."""


class Threaded(Job, kind="tracing.threaded"):
    """A plain function that makes a span."""


class Apart(Job, kind="tracing.apart"):
    """A function in a process of its own that makes a span."""


class ApartFailing(Job, kind="tracing.apart_failing", max_retries=0):
    """It makes a span in a process of its own, and fails."""


class Snoozing(Job, kind="tracing.snoozing"):
    """It snoozes, then succeeds."""


class Failing(Job, kind="tracing.failing", max_retries=0):
    """It ends dead."""

    secret_word: str = "nobody sees me"


class Parent(Job, kind="tracing.parent"):
    """It enqueues a job."""


class Imported(Job, kind="tracing.imported"):
    """Its result is what the worker has imported of OpenTelemetry and gRPC."""
