"""Names in the log the tasks that a handler leaves running on the event loop when its attempt is over.

These tasks are not cancelled, since the handler may need them later: for example, a client that the first job creates and
all later jobs use may have tasks of its own.
"""

import asyncio
from typing import Any

from carafe.engine.claim import Claim
from carafe.telemetry.loggers import get_logger
from carafe.texts import class_name, clean

log = get_logger("carafe.runner")

_named: set[tuple[str, str]] = set()


def name_what_is_left(claim: Claim) -> None:
    """Log the tasks that this attempt left running. The same coroutine of the same kind of job is logged only the first
    time. Never raises."""
    try:
        names = sorted({_name(task) for task in claim.left or () if not task.done()})
        if claim.hiding is not None:
            names = [claim.hiding.text(name) for name in names]
        new = [name for name in names if (claim.kind, name) not in _named]
        _named.update((claim.kind, name) for name in new)
        if new:
            log.warning(
                "a handler has left tasks running after its attempt: await them, or they may be cut off at any time",
                job_id=str(claim.id),
                kind=claim.kind,
                tasks=new[:10],
            )
    except BaseException as error:
        log.warning("a handler has left tasks running whose names cannot be read", kind=claim.kind, error=class_name(error))


def _name(task: "asyncio.Task[Any]") -> str:
    coroutine = task.get_coro()
    return clean(getattr(coroutine, "__qualname__", None) or class_name(coroutine), 200)
