"""Follows the pods of workers in a thread: lists them once, then watches for changes.

Guarantees: no change stays hidden from the callers of `take`, because the pods are listed again from time to time, and also
when the API server no longer knows the last version seen. At most one entry per pod waits for `take`, however rarely that is
called.
Must never: raise into its caller, or watch for longer than the caller has asked for with `keep`.
"""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, Protocol

from carafe.kubernetes.presence import Presence, presence_of
from carafe.kubernetes.refusals import Expired, NotInstalled, NotPermitted, refused_pause, words_for_off
from carafe.telemetry.loggers import get_logger

log = get_logger("carafe.kubernetes")

WORKERS = "app.kubernetes.io/component=worker"
"""The label of the pods that are followed."""

WATCH = 20
"""The length of one watch request in seconds. The next request continues where the last one ended."""

LIST_AGAIN = 300.0
"""Seconds after which all pods are listed again."""

PAUSE, LONGEST_PAUSE = 1.0, 10.0
"""Seconds until the API server is asked again after an error: the first pause, and the longest."""


class Source(Protocol):
    """The source from which `PodWatch` gets pods; see `carafe.kubernetes.api.Api`. The thread of `PodWatch` calls the
    methods."""

    def list(self, labels: str) -> tuple[list[Any], str]:
        """Returns the pods with these labels, and the resource version from which `watch` can continue."""
        ...

    def watch(self, labels: str, version: str, seconds: int) -> Iterator[tuple[str, Any]]:
        """Yields the changes since `version`, for this many seconds, as (type, object)."""
        ...


class PodWatch:
    """Follows the workers' pods in one namespace, in a thread. The thread calls the function `changed` whenever the method
    `take` has something new to return."""

    def __init__(self, source: Source, changed: Callable[[], None], *, pause: float = PAUSE) -> None:
        self._source, self._changed, self._pause = source, changed, pause
        self._lock = threading.Lock()
        self._seen: dict[str, Presence] = {}
        self._whole: set[str] | None = None
        self._version = ""
        self._until = 0.0
        self._thread: threading.Thread | None = None
        self._ended = threading.Event()
        self.well = False
        """Whether the API server answers now, so that what `take` has returned is up to date."""
        self.off = False
        """Whether the pods cannot be followed at all, because the `kubernetes` client is not installed."""

    def keep(self, seconds: float) -> None:
        """Follow the pods for this many seconds from now. Call it again to go on for longer."""
        self._until = time.monotonic() + seconds
        if not self.off and (self._thread is None or not self._thread.is_alive()):
            self._ended.clear()
            self._thread = threading.Thread(target=self._follow, name="carafe pods", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Stop following. The thread ends at the next change or pause."""
        self._until = 0.0
        self._ended.set()

    def take(self) -> tuple[list[Presence], set[str] | None]:
        """Returns the pods that have changed since the last call. If all pods have been listed since then, the second value
        is the set of the UIDs of all pods that exist; otherwise it is None."""
        with self._lock:
            seen, self._seen = list(self._seen.values()), {}
            whole, self._whole = self._whole, None
        return seen, whole

    @property
    def _kept(self) -> bool:
        return not self.off and time.monotonic() < self._until

    def _follow(self) -> None:
        self._version, listed, failures, refusals = "", 0.0, 0, 0
        while self._kept:
            began = time.monotonic()
            try:
                if not self._version or began - listed > LIST_AGAIN:
                    self._list()
                    listed = began
                if refusals:
                    log.info("pods may be watched after all")
                self.well, failures, refusals = True, 0, 0
                self._watch()
            except Expired:
                self._version = ""
            except NotInstalled as error:
                self.off = True
                log.info("cannot find out why workers died or why pods are missing", why=words_for_off(error))
            except NotPermitted as error:
                if not refusals:
                    log.info("cannot find out why workers died or why pods are missing", why=words_for_off(error))
                # Begin with a list again: a resource version alone does not show whether we are permitted.
                self.well, refusals, self._version = False, refusals + 1, ""
                self._ended.wait(refused_pause(refusals) * self._pause / PAUSE)
            except Exception as error:
                # The API server is away, restarting, overloaded. No change is lost: the watch goes on from the last version.
                if self.well or not failures:
                    log.info("pods are not watched, trying again", error=f"{type(error).__name__}: {error}"[:300])
                self.well, failures = False, failures + 1
                self._ended.wait(min(self._pause * 2 ** (failures - 1), LONGEST_PAUSE))
            else:
                if time.monotonic() - began < self._pause:
                    self._ended.wait(self._pause)  # the server closed the watch at once: do not ask it in a tight loop
        self.well = False

    def _list(self) -> None:
        pods, self._version = self._source.list(WORKERS)
        presences = [presence_of(pod) for pod in pods]
        whole = {presence.uid for presence in presences}
        with self._lock:
            for presence in self._seen.values():
                if presence.uid not in whole and not presence.gone:
                    # Deleted while no watch ran, and its last state was not taken yet.
                    presences.append(replace(presence, gone=True, ended=True, ready=False, trouble=""))
            self._seen |= {presence.uid: presence for presence in presences}
            self._whole = whole
        self._changed()

    def _watch(self) -> None:
        for what, pod in self._source.watch(WORKERS, self._version, WATCH):
            self._version = pod["metadata"]["resourceVersion"]
            if what == "BOOKMARK":
                continue
            presence = presence_of(pod, gone=what == "DELETED")
            with self._lock:
                self._seen[presence.uid] = presence
                if self._whole is not None:
                    self._whole.add(presence.uid)
            self._changed()
            if not self._kept:
                break
