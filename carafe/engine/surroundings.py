"""What handlers can set for the whole process and the engine needs as it was: looked at by the engine's tick, and put back.

A lowered recursion limit, Python's garbage collection, the standard descriptors (a closed one would be given to the next
connection, and log lines would be written into it), the log's handlers and level. What belongs to the application (the
current folder, the environment, ``sys.stdout``) is left as a handler has made it; the engine does not rest on it.
Must never: raise, or cost more than a few system calls a tick.
"""

import gc
import logging
import os
import sys

import structlog

from carafe.engine.captured_logs import Capture
from carafe.texts import class_name

log = structlog.stdlib.get_logger("carafe.engine")

STANDARD = (0, 1, 2)


class Surroundings:
    """As they were when the engine started."""

    def remember(self) -> None:
        """From now on they stay so."""
        root = logging.getLogger()
        self._recursion_limit = sys.getrecursionlimit()
        self._collects = gc.isenabled()
        self._handlers = [handler for handler in root.handlers if _is_ours(handler)]
        self._level, self._disabled = root.level, logging.root.manager.disable
        self._files = {number: found for number in STANDARD if (found := _file(number)) is not None}
        # Out of reach of what closes or replaces the standard ones.
        self._kept = {number: os.dup(number) for number in self._files}

    def forget(self) -> None:
        """Give back what was kept."""
        for number in self._kept.values():
            os.close(number)
        self._kept = {}

    def restore(self) -> None:
        """Put back what is no longer as it was, and say so."""
        changed = []
        try:
            if sys.getrecursionlimit() < self._recursion_limit:
                sys.setrecursionlimit(self._recursion_limit)
                changed.append("the recursion limit")
            if self._collects and not gc.isenabled():
                gc.enable()
                changed.append("garbage collection")
            for number, kept in self._kept.items():
                if _file(number) != self._files[number]:
                    os.dup2(kept, number, inheritable=True)
                    changed.append(f"descriptor {number}")
            if self._log_has_changed():
                changed.append("the log's configuration")
        except BaseException as error:
            log.warning("what a handler has changed cannot be put back", error=class_name(error))
        if changed:
            log.warning("a handler has changed what belongs to the whole process: put back", what=changed)

    def _log_has_changed(self) -> bool:
        root = logging.getLogger()
        missing = [handler for handler in self._handlers if handler not in root.handlers]
        changed = bool(missing) or root.level != self._level or logging.root.manager.disable != self._disabled
        if changed:
            root.handlers += missing
            root.setLevel(self._level)
            logging.disable(self._disabled)
        for handler in self._handlers:
            # Its stream may have been closed as an object: the descriptor is there, so that a new one writes on.
            stream = getattr(handler, "stream", None)
            if isinstance(handler, logging.StreamHandler) and getattr(stream, "closed", False) and 2 in self._kept:
                handler.stream = os.fdopen(os.dup(self._kept[2]), "w", errors="backslashreplace")
                changed = True
        return changed


def _is_ours(handler: logging.Handler) -> bool:
    """What `configure_logging` has made, and what captures the lines of jobs."""
    return isinstance(handler, Capture) or isinstance(handler.formatter, structlog.stdlib.ProcessorFormatter)


def _file(number: int) -> tuple[int, int] | None:
    """What is behind a descriptor; None when it is closed."""
    try:
        found = os.fstat(number)
    except OSError:
        return None
    return found.st_dev, found.st_ino
