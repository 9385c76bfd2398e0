"""Follows the pods of workers in a thread: lists them once, then hears of every change.

Guarantees: what `take` gives is complete after a while whatever happens (a list is made again when the API server has
forgotten where we were, and now and then anyway); it holds one entry a pod at most, however long nobody takes.
Must never: raise into who takes, or go on when nobody has asked for `keep` seconds.
"""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, Protocol

import structlog

from carafe.kubernetes.presence import Presence, presence_of
from carafe.kubernetes.refusals import Expired, NotInstalled, NotPermitted, refused_pause, words_for_off

log = structlog.stdlib.get_logger("carafe.kubernetes")

WORKERS = "app.kubernetes.io/component=worker"
"""The label of the pods that are followed."""

WATCH = 20
"""Seconds of one watch; then it goes on from where it was."""

LIST_AGAIN = 300.0
"""Seconds after which everything is listed again."""

PAUSE, LONGEST_PAUSE = 1.0, 10.0
"""Seconds until the API server is asked again after it was away: at first, and at most."""


class Source(Protocol):
    """Where pods come from; see `carafe.kubernetes.api.Api`. Called from the following thread."""

    def list(self, labels: str) -> tuple[list[Any], str]:
        """Pods, and the version to watch from."""
        ...

    def watch(self, labels: str, version: str, seconds: int) -> Iterator[tuple[str, Any]]:
        """Changes since then."""
        ...


class PodWatch:
    """The pods of one namespace. `changed` is called from the thread whenever there is something to take."""

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
        """Whether the API server answers: then what was taken is all there is to know."""
        self.off = False
        """Whether the client is not installed: then nothing is ever known."""

    def keep(self, seconds: float) -> None:
        """Follow for so many seconds from now on, unless asked again."""
        self._until = time.monotonic() + seconds
        if not self.off and (self._thread is None or not self._thread.is_alive()):
            self._ended.clear()
            self._thread = threading.Thread(target=self._follow, name="carafe pods", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Stop following, at the next change or pause."""
        self._until = 0.0
        self._ended.set()

    def take(self) -> tuple[list[Presence], set[str] | None]:
        """What has changed since the last call; and when everything was listed meanwhile, the UIDs of all there are."""
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
                log.info("causes of deaths and missing pods stay unknown", why=words_for_off(error))
            except NotPermitted as error:
                if not refusals:
                    log.info("causes of deaths and missing pods stay unknown", why=words_for_off(error))
                # From the list on: a version alone does not tell whether we may.
                self.well, refusals, self._version = False, refusals + 1, ""
                self._ended.wait(refused_pause(refusals) * self._pause / PAUSE)
            except Exception as error:
                # The API server is away, restarting, overloaded: nothing is lost, since it knows where we were.
                if self.well or not failures:
                    log.info("pods are not watched, trying again", error=f"{type(error).__name__}: {error}"[:300])
                self.well, failures = False, failures + 1
                self._ended.wait(min(self._pause * 2 ** (failures - 1), LONGEST_PAUSE))
            else:
                if time.monotonic() - began < self._pause:
                    self._ended.wait(self._pause)  # a server that hangs up at once is not to be asked without end
        self.well = False

    def _list(self) -> None:
        pods, self._version = self._source.list(WORKERS)
        presences = [presence_of(pod) for pod in pods]
        whole = {presence.uid for presence in presences}
        with self._lock:
            for presence in self._seen.values():
                if presence.uid not in whole and not presence.gone:
                    # Deleted while nobody listened; what was seen of it last is still to be taken.
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
