"""Watches the worker's event loop from a thread of its own: whether it turns, and if not, whose handler holds it.

A handler that blocks the loop stops claims, ends and its neighbours; nothing of that is Postgres's or Redis's fault, so the
log says who it is; what is not in anybody's code is not blamed on a handler. Must never: touch the loop but by asking it for
a sign of life.
"""

import threading
import time
from collections.abc import Callable

import structlog

from carafe.engine.slot import Claim
from carafe.engine.worker_loop import Owner, WorkerLoop

log = structlog.stdlib.get_logger("carafe.engine")

LOOK = 0.1
"""Seconds between two looks."""

BLOCKED = 1.0
"""Seconds without a turn after which the log says who holds the loop."""

NOBODY = "no handler or hook, but something else,"
"""Who holds the loop when it is nobody's code that we know of: Carafe's own, or a callback that was left."""


class LoopWatch:
    """The watching thread of one worker. `stalled` gets the seconds without a turn at each look."""

    def __init__(self, loop: WorkerLoop, stalled: Callable[[float], None]) -> None:
        self._loop, self._stalled = loop, stalled
        self._since: float | None = None
        self._holder: Owner | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="carafe watch", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def stop(self) -> None:
        """End it; returns at once."""
        self._stop.set()

    def standing(self, now: float) -> tuple[float, str]:
        """Seconds for which the loop has not turned, as far as they are worth a word, and whose job holds it, in words; from
        any thread."""
        since, owner = self._since, self._holder
        whose = NOBODY if owner is None else f"the {_what(owner)} of job {owner.id} ({owner.kind})"
        return (0.0 if since is None else now - since), whose

    def _run(self) -> None:
        last = time.monotonic()
        while not self._stop.wait(LOOK):
            now = time.monotonic()
            late, last = now - last - LOOK, now
            try:
                self._look(now, late)
            except Exception:
                log.exception("the event loop could not be watched")

    def _look(self, now: float, late: float) -> None:
        if late > BLOCKED:
            owner, stack = self._loop.blocker()
            log.warning(
                "this process stood still: it was frozen or had no CPU, or a handler or a hook held Python's lock",
                seconds=round(late, 1),
                stack=stack,
                **named(owner),
            )
        standing = self._loop.standing(now)
        self._stalled(standing)
        if standing > BLOCKED:
            self._stands(now, standing)
        elif standing < BLOCKED and self._since is not None:
            log.info("the event loop turns again", seconds=round(now - self._since, 1))
            self._since = self._holder = None

    def _stands(self, now: float, standing: float) -> None:
        """Say so, once for each who holds it: one may have come in after a moment that was nobody's."""
        owner, stack = self._loop.blocker()
        if self._since is None:
            self._since = now - standing
        elif owner is None or owner is self._holder:
            return
        self._holder = owner
        said = "the event loop stands still, and not in a handler or a hook: nothing of this worker goes on until it turns"
        if owner is not None:
            said = f"a {_what(owner)} blocks the event loop: nothing else of this worker goes on until it awaits something"
        log.warning(said, seconds=round(standing, 1), stack=stack, **named(owner))


def _what(owner: Owner) -> str:
    return "handler" if isinstance(owner, Claim) else "hook"


def named(owner: Owner | None) -> dict[str, object]:
    """What a log line says of whose code it was."""
    if owner is None:
        return {}
    attempt = {"attempt": owner.attempt} if isinstance(owner, Claim) else {"hook": True}
    return {"job_id": str(owner.id), "kind": owner.kind, **attempt}
