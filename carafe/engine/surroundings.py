"""Restores process-wide state that handlers can change and the engine relies on. Each tick of the engine checks it.

It restores Python's own settings (`SETTINGS`), garbage collection, the limits of the process, and the file descriptors of
standard input, output and error. (If a handler closed one of these, the next connection would get its number, and log lines
would be written into that connection.) Of logging, it restores the handlers, the level, the loggers and structlog's
configuration. It does not restore what belongs to the application (the current folder, the environment, ``sys.stdout``,
filters of warnings, the locale) or to a debugger (trace and profile functions): the engine does not rely on that.
Must never: raise, or cost more than a few system calls a tick.
"""

import contextlib
import gc
import logging
import os
import resource
import sys
import threading
from collections.abc import Callable
from typing import Any

import structlog

from carafe.engine.captured_logs import Capture
from carafe.telemetry.loggers import get_logger
from carafe.texts import class_name

log = get_logger("carafe.engine")

STANDARD = (0, 1, 2)

Setting = tuple[str, Callable[[], Any], Callable[[Any], Any], Callable[[Any, Any], bool]]
"""A setting: its name, the functions that read and set it, and a function that gets the value now and the value before, and
returns whether the value now is worse."""


def _makes_none(factory: Any, before: Any) -> bool:
    """Returns whether a factory of log records was replaced by one that makes no log records."""
    if factory is before:
        return False
    try:
        return not isinstance(factory("carafe", logging.INFO, __file__, 1, "", (), None), logging.LogRecord)
    except BaseException:
        return True


SETTINGS: tuple[Setting, ...] = (
    ("the recursion limit", sys.getrecursionlimit, sys.setrecursionlimit, lambda now, before: now < before),
    ("how often threads take turns", sys.getswitchinterval, sys.setswitchinterval, lambda now, before: now > before * 2),
    ("the size of a thread's stack", threading.stack_size, threading.stack_size, lambda now, before: now != before),
    ("how log records are made", logging.getLogRecordFactory, logging.setLogRecordFactory, _makes_none),
    ("what garbage collection keeps", gc.get_debug, gc.set_debug, lambda now, before: now != before),
    ("how often garbage is collected", gc.get_threshold, lambda it: gc.set_threshold(*it), lambda now, before: not now[0]),
)

LIMITS = {
    "the limit of open files": resource.RLIMIT_NOFILE,
    "the limit of memory": resource.RLIMIT_AS,
}


class Surroundings:
    """The process-wide state as it was when the engine started. Used on the engine's loop."""

    def remember(self) -> None:
        """Record the present state, for `restore`."""
        root = logging.getLogger()
        self._settings = [read() for _, read, _, _ in SETTINGS]
        self._collects = gc.isenabled()
        self._limits = {number: resource.getrlimit(number) for number in LIMITS.values()}
        self._handlers = [handler for handler in root.handlers if _is_ours(handler)]
        self._made = [(handler.level, handler.formatter, handler.filters[:]) for handler in self._handlers]
        self._level, self._disabled = root.level, logging.root.manager.disable
        self._structlog = structlog.get_config()
        self._files = {number: found for number in STANDARD if (found := _file(number)) is not None}
        # Out of reach of what closes or replaces the standard ones.
        self._kept = {number: os.dup(number) for number in self._files}

    def forget(self) -> None:
        """Close the copies of descriptors that `remember` made."""
        for number in self._kept.values():
            os.close(number)
        self._kept = {}

    def restore(self) -> None:
        """Restore what has changed since `remember` was called, and log which parts of the state were restored."""
        changed: list[str] = []
        for look in (self._look_at_python, self._look_at_limits, self._look_at_descriptors, self._look_at_log):
            try:
                look(changed)
            except BaseException as error:
                log.warning("state of the whole process that a handler changed cannot be restored", error=class_name(error))
        if changed:
            log.warning("a handler has changed state of the whole process: restored", what=changed)

    def _look_at_python(self, changed: list[str]) -> None:
        for (what, read, put, worse), before in zip(SETTINGS, self._settings, strict=True):
            if worse(read(), before):
                put(before)
                changed.append(what)
        if self._collects and not gc.isenabled():
            gc.enable()
            changed.append("garbage collection")

    def _look_at_limits(self, changed: list[str]) -> None:
        for what, number in LIMITS.items():
            now, before = resource.getrlimit(number), self._limits[number]
            if now == before:
                continue
            # A process that may not raise the hard limit raises the soft one up to it.
            with contextlib.suppress(ValueError, OSError):
                resource.setrlimit(number, (before[0], max(now[1], before[1], key=_unbounded_last)))
            if resource.getrlimit(number) == now:
                with contextlib.suppress(ValueError, OSError):
                    resource.setrlimit(number, (now[1], now[1]))
            if resource.getrlimit(number) != now:
                changed.append(what)

    def _look_at_descriptors(self, changed: list[str]) -> None:
        for number, kept in self._kept.items():
            if _file(number) != self._files[number]:
                os.dup2(kept, number, inheritable=True)
                changed.append(f"descriptor {number}")

    def _look_at_log(self, changed: list[str]) -> None:
        if self._log_has_changed():
            changed.append("the log's configuration")
        # structlog returns the objects that it was given. Another object means that somebody has configured it.
        config = structlog.get_config()
        if any(config[name] is not part for name, part in self._structlog.items()):
            structlog.configure(**self._structlog)
            changed.append("structlog's configuration")

    def _log_has_changed(self) -> bool:
        root = logging.getLogger()
        missing = [handler for handler in self._handlers if handler not in root.handlers]
        changed = bool(missing) or root.level != self._level or logging.root.manager.disable != self._disabled
        if changed:
            root.handlers += missing
            root.setLevel(self._level)
            logging.disable(self._disabled)
        for handler, (level, formatter, filters) in zip(self._handlers, self._made, strict=True):
            if (handler.level, handler.formatter, handler.filters) != (level, formatter, filters):
                handler.level, handler.formatter, handler.filters = level, formatter, filters[:]
                changed = True
            # Its stream may have been closed as an object: the descriptor is there, so that a new one writes on.
            stream = getattr(handler, "stream", None)
            if isinstance(handler, logging.StreamHandler) and getattr(stream, "closed", False) and 2 in self._kept:
                handler.stream = os.fdopen(os.dup(self._kept[2]), "w", errors="backslashreplace")
                changed = True
        # Reconfiguring logging disables all existing loggers by default.
        if logging.getLogger(OURS).disabled:
            for logger in list(logging.root.manager.loggerDict.values()):
                if isinstance(logger, logging.Logger):
                    logger.disabled = False
            changed = True
        return changed


OURS = "carafe.engine"
"""The name of one of Carafe's loggers. If this logger is disabled, other code has disabled all loggers."""


def _unbounded_last(limit: int) -> float:
    return float("inf") if limit == resource.RLIM_INFINITY else limit


def _is_ours(handler: logging.Handler) -> bool:
    """Returns whether Carafe made this logging handler, in `configure_logging` or to capture what jobs log."""
    return isinstance(handler, Capture) or isinstance(handler.formatter, structlog.stdlib.ProcessorFormatter)


def _file(number: int) -> tuple[int, int] | None:
    """Returns the device and the inode behind a descriptor; None when the descriptor is closed."""
    try:
        found = os.fstat(number)
    except OSError:
        return None
    return found.st_dev, found.st_ino
