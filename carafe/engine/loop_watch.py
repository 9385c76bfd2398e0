"""Watches the worker's event loop from a thread of its own: whether the loop turns, and if not, whose handler blocks it.

A handler that blocks the loop stops claims, ends and all other handlers of its worker. The log names that handler, so that
nobody blames Postgres or Redis. If something else blocks the loop, the log says so and names no handler.
Must never: do anything on the loop, except to call one function there, which shows that the loop turns.
"""

import threading
import time
from collections.abc import Callable

from carafe.engine.claim import Claim
from carafe.engine.worker_loop import Owner, WorkerLoop
from carafe.telemetry.loggers import get_logger

log = get_logger("carafe.engine")

LOOK = 0.1
"""Seconds between two checks of the loop."""

BLOCKED = 1.0
"""Seconds without a turn of the loop after which the log says whose code blocks it."""

NOBODY = "something other than a handler or a hook"
"""The words for what blocks the loop if it is neither a handler nor a hook: it may be Carafe's own code, or a callback that
a handler has left."""


class LoopWatch:
    """The watching thread of one worker. At each check it calls the function `stalled` with the seconds for which the loop
    has not turned."""

    def __init__(self, loop: WorkerLoop, stalled: Callable[[float], None]) -> None:
        self._loop, self._stalled = loop, stalled
        self._since: float | None = None
        self._holder: Owner | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="carafe watch", daemon=True)

    def start(self) -> None:
        """Start the watching thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the watching thread. Returns at once."""
        self._stop.set()

    def standing(self, now: float) -> tuple[float, str]:
        """Returns two values: the seconds for which the loop has been blocked (0 if it turns, or for a short stall), and
        words that say whose code blocks it. Callable from any thread."""
        since, owner = self._since, self._holder
        whose = NOBODY if owner is None else f"the {_what(owner)} of job {owner.id} ({owner.kind})"
        return (0.0 if since is None else now - since), whose

    def blocker(self) -> Owner | None:
        """Returns the owner of the code that blocks the loop; None if the loop turns, or if the owner is not known. Callable
        from any thread."""
        return self._holder if self._since is not None else None

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
                "this process did not run: it was frozen or had no CPU, or a handler or a hook held Python's lock",
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
        """Log that the loop is blocked, and log it again when the owner of the blocking code changes or becomes known."""
        owner, stack = self._loop.blocker()
        if self._since is None:
            self._since = now - standing
        elif owner is None or owner is self._holder:
            return
        self._holder = owner
        said = "the event loop is blocked, but not by a handler or a hook: this worker does nothing until it turns again"
        if owner is not None:
            said = f"a {_what(owner)} blocks the event loop: this worker does nothing else until it awaits something"
        log.warning(said, seconds=round(standing, 1), stack=stack, **named(owner))


def _what(owner: Owner) -> str:
    return "handler" if isinstance(owner, Claim) else "hook"


def named(owner: Owner | None) -> dict[str, object]:
    """Returns the log fields that name the owner of code: the job, its kind, and either the number of the attempt or that it
    is a hook. Returns an empty dictionary if there is no owner."""
    if owner is None:
        return {}
    attempt = {"attempt": owner.attempt} if isinstance(owner, Claim) else {"hook": True}
    return {"job_id": str(owner.id), "kind": owner.kind, **attempt}
