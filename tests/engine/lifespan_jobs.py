"""Jobs whose handlers use what their worker shares (JOB_MODULES)."""

from carafe import Job


class Use(Job[list[object]], max_retries=0):
    """Tells what it was given; the abstract parent of one kind for each way to run."""


class UseAsync(Use, kind="lifespan.async"):
    """On the worker's loop."""


class UseInThread(Use, kind="lifespan.thread"):
    """In a thread."""


class UseInProcess(Use, kind="lifespan.process"):
    """A plain function in a process of its own."""


class UseAsyncInProcess(Use, kind="lifespan.async_process"):
    """An ``async def`` in a process of its own."""


USES: tuple[type[Use], ...] = (UseAsync, UseInThread, UseInProcess, UseAsyncInProcess)
