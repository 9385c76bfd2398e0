"""Tells the ReplicaSet which pods to remove last: a busy worker's own pod gets a higher deletion cost.

Guarantees: the annotation is patched at most once in `EVERY` seconds, and only when the cost changes. A separate thread does
this, as best effort. If the API server refuses the patch, it is tried again after growing pauses.
Must never: delay its caller, or raise into it.
"""

import threading
import time
from collections.abc import Callable

from carafe.kubernetes.api import Api
from carafe.kubernetes.pod import Pod
from carafe.kubernetes.refusals import NotInstalled, NotPermitted, refused_pause, words_for_off
from carafe.telemetry.loggers import get_logger

log = get_logger("carafe.kubernetes")

EVERY = 5.0
"""The minimum number of seconds between two patches."""

AT_LEISURE = 10.0
"""Seconds after the worker's start until the first patch, if that sets the cost to 0. A new pod has no cost, so this patch
matters only if an earlier container of the pod was killed while it was busy and left its cost behind. A worker that has just
started should not spend its first seconds on importing the client."""


class DeletionCost:
    """Writes the deletion cost of the process's own pod. The function `patch` gets the cost and writes it. By default it
    sends a request to the API server as the pod's service account."""

    def __init__(self, pod: Pod, *, patch: Callable[[int], None] | None = None) -> None:
        self._patch = patch or Api(pod).set_deletion_cost
        self._changed = threading.Condition()
        self._wanted: int | None = None
        self._written: int | None = None
        self._began = time.monotonic()
        self._tried: float | None = None
        self._refusals = 0
        self._complained = False
        self._thread: threading.Thread | None = None
        self.off = False

    def want(self, cost: int) -> None:
        """Request this cost for the pod. Returns at once. If there are several requests, the last one counts."""
        with self._changed:
            if self.off or cost == self._wanted:
                return
            self._wanted = cost
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="carafe deletion cost", daemon=True)
                self._thread.start()
            self._changed.notify()

    def wait(self, now: float) -> float | None:
        """Seconds from the monotonic time `now` until the next patch is due; None when there is nothing to write."""
        if self._wanted is None or self._wanted == self._written:
            return None
        if self._tried is not None:
            pause = refused_pause(self._refusals) if self._refusals else EVERY
            return max(0.0, self._tried + pause - now)
        return 0.0 if self._wanted else max(0.0, self._began + AT_LEISURE - now)

    def _run(self) -> None:
        while not self.off:
            with self._changed:
                while (wait := self.wait(time.monotonic())) != 0.0:
                    self._changed.wait(wait)
                cost = self._wanted
            assert cost is not None
            self._write(cost)

    def _write(self, cost: int) -> None:
        self._tried = time.monotonic()
        try:
            self._patch(cost)
        except NotInstalled as error:
            self.off = True
            log.info("deletion cost is off: busy pods may be scaled in first", why=words_for_off(error))
        except NotPermitted as error:
            if not self._refusals:
                log.info("deletion cost is off: busy pods may be scaled in first", why=words_for_off(error))
            self._refusals += 1
        except Exception as error:
            # The API server is away, restarting, overloaded: whatever it is, the next try may work.
            if not self._complained:
                log.info("deletion cost not written, trying again", error=type(error).__name__)
            self._complained = True
        else:
            if self._refusals:
                log.info("deletion cost is permitted after all")
            self._written, self._refusals, self._complained = cost, 0, False
