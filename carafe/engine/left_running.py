"""What a handler leaves running on the event loop when its attempt is over: named in the log, and left alone.

Left alone, because it may be meant to stay: a client that the first job makes and all later ones use keeps tasks of its own.
"""

import asyncio
from typing import Any

import structlog

from carafe.engine.slot import Claim
from carafe.texts import class_name, clean

log = structlog.stdlib.get_logger("carafe.runner")

_named: set[tuple[str, str]] = set()


def name_what_is_left(claim: Claim) -> None:
    """Say so once for each kind and coroutine, however many jobs leave it. Total."""
    try:
        names = sorted({_name(task) for task in claim.left or () if not task.done()})
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
        log.warning("a handler has left tasks running that have no name", kind=claim.kind, error=class_name(error))


def _name(task: "asyncio.Task[Any]") -> str:
    coroutine = task.get_coro()
    return clean(getattr(coroutine, "__qualname__", None) or class_name(coroutine), 200)
