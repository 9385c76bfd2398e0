"""The loggers of this library's modules. They are used like structlog's.

Guarantees: logging never raises. The application's code runs in the same process and can break its log (a logging handler or
a structlog processor that raises, a closed stream). Carafe's code that logs a line must continue nevertheless, above all
while a worker drains. A line that cannot be logged goes to standard error instead, at most one a second.
"""

import os
import sys
import threading
import time
from typing import Any

import structlog

EVERY = 1.0
"""The minimum number of seconds between two lines that go to standard error because the log is broken."""

_last = [float("-inf")]


class Logger:
    """Passes log lines on to structlog. What counts is structlog's configuration at the time when a line is logged, not when
    the logger is made."""

    __slots__ = ("_log", "_name")

    def __init__(self, name: str) -> None:
        self._name = name
        self._log: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)

    def debug(self, event: str, **values: Any) -> None:
        """See structlog."""
        self._say("debug", event, values)

    def info(self, event: str, **values: Any) -> None:
        """See structlog."""
        self._say("info", event, values)

    def warning(self, event: str, **values: Any) -> None:
        """See structlog."""
        self._say("warning", event, values)

    def error(self, event: str, **values: Any) -> None:
        """See structlog."""
        self._say("error", event, values)

    def critical(self, event: str, **values: Any) -> None:
        """See structlog."""
        self._say("critical", event, values)

    def exception(self, event: str, **values: Any) -> None:
        """See structlog."""
        self._say("error", event, {"exc_info": True, **values})

    def _say(self, level: str, event: str, values: dict[str, Any]) -> None:
        try:
            getattr(self._log, level)(event, **values)
        except BaseException as error:
            # Ctrl-C can interrupt the main thread anywhere, here too. The log has not failed then.
            if type(error) is KeyboardInterrupt and threading.current_thread() is threading.main_thread():
                raise
            _past_the_log(level, self._name, event, error)


def _past_the_log(level: str, name: str, event: str, error: BaseException) -> None:
    try:
        now = time.monotonic()
        if now - _last[0] < EVERY:
            return
        _last[0] = now
        line = f"{level} {name}: {event} (the log is broken: {type(error).__name__})\n"
        os.write(sys.__stderr__.fileno() if sys.__stderr__ is not None else 2, line.encode("utf-8", "backslashreplace"))
    except BaseException:
        pass  # nobody is left to tell


def get_logger(name: str) -> Logger:
    """The logger for a module of this library: `log = get_logger(__name__)`, then `log.info("lease taken", holder=…)`."""
    return Logger(name)
