"""Captures what job handlers log. A context variable says to which claim the running code belongs, and a logging handler
reads it.

It captures the records that the logger's level lets through, from coroutines, from the threads of plain functions, of
``asyncio.to_thread`` and of ``loop.run_in_executor``, and from child processes. Threads that a handler starts by itself have
no context: their lines only go to the worker's log, and the secrets of all running jobs are removed from them.
Guarantees: a job that logs nothing pays for one context variable; a claim keeps only its last lines, within the limits of
`carafe.store.job_logs`; lines that are logged after the claim's end belong to no job.
Must never: raise into a handler, or wait for anything but the moment in which another thread appends a line.
"""

import logging
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING, Any

from carafe.engine.claim import Claim
from carafe.engine.log_tail import Tail
from carafe.plain_text import one_line
from carafe.texts import class_name, clean, text_of, traceback_of

if TYPE_CHECKING:
    from carafe.jobs.hiding import Hiding

running: ContextVar[Claim | None] = ContextVar("carafe claim", default=None)
"""The claim whose handler runs in this context. Each attempt has a context of its own. The variable is not reset when the
attempt ends. Instead, `Claim.over` is then True."""

MAX_TEXT = 8_192
"""The maximum number of characters of one line that are kept."""

_OF_EVERY_RECORD = {*vars(logging.makeLogRecord({})), "message", "asctime", "taskName"}

# What structlog's processors add beside the event and its own values, or what is shown apart.
_SHOWN_APART = {"event", "timestamp", "level", "logger", "exc_info", "exception", "stack", "stack_info"}


class Capture(logging.Handler):
    """The logging handler of one engine. `install` attaches it to the root logger, and `remove` detaches it."""

    def install(self) -> None:
        """Begin to capture log records."""
        logging.getLogger().addHandler(self)

    def remove(self) -> None:
        """Capture no more log records."""
        logging.getLogger().removeHandler(self)

    def handle(self, record: logging.LogRecord) -> bool:
        """Add the record to the claim of the code that logs it. Returns whether there is such a claim. Takes no lock, unlike
        other logging handlers, since most records belong to no job."""
        claim = running.get()
        if claim is not None and not claim.over:
            add(claim, *line_of(record))
        return claim is not None


class Sending(logging.Handler):
    """The logging handler inside a child process, where every record belongs to the child's only job. It sends each line to
    the parent process at once, since the last lines before a crash are the most useful."""

    def __init__(self, send: Callable[[float, str, str], None]) -> None:
        super().__init__()
        self._send = send

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._send(*line_of(record))
        except Exception:  # the parent is gone, or memory is short: nobody to tell
            pass


def log_context() -> dict[str, Any]:
    """Returns the fields about the running job that are added to a line of the worker's log. Returns an empty dictionary if
    the code that logs belongs to no job. This is a source for `carafe.telemetry.logging.annotate`."""
    claim = running.get()
    if claim is None or claim.over:
        return {}
    return {"job_id": str(claim.id), "kind": claim.kind, "attempt": claim.attempt}


def log_hides(others: Callable[[], Iterable[Claim]]) -> Callable[[Any], Any] | None:
    """Returns the function that removes secrets from the values of a log line: those of the job whose code logs the line.
    Returns None when there are none. If that job is not known, for example in a thread that a handler has started, the code
    may belong to any running job; `others` returns the claims of the running jobs. Used by
    `carafe.telemetry.logging.hide`."""
    claim = running.get()
    if claim is not None:
        return None if claim.hiding is None else claim.hiding.value
    hidings = [hiding for other in others() if (hiding := other.hiding) is not None]
    return partial(_without_all, hidings) if hidings else None


def _without_all(hidings: "Sequence[Hiding]", value: Any) -> Any:
    for hiding in hidings:
        value = hiding.value(value)
    return value


def add(claim: Claim, at: float, level: str, text: str) -> None:
    """Add a line to the log of a claim. The job's secrets are removed from the line. `at` is in seconds since 1970."""
    if claim.hiding is not None:
        level, text = claim.hiding.text(level), claim.hiding.text(text)
    tail = claim.tail
    if tail is None:
        with _making:
            tail = claim.tail = claim.tail or Tail()
    tail.add(at, level, text)


_making = threading.Lock()


def line_of(record: logging.LogRecord) -> tuple[float, str, str]:
    """Returns the time (seconds since 1970), the level and the text of a log record. The text has the message, the extra
    values as ``name=value``, the traceback and the stack. Never raises."""
    try:
        text = _text_of(record)
    except BaseException as error:
        said = repr(record.msg) if type(record.msg) is str else text_of(record.msg, MAX_TEXT)
        text = f"{said} (its values cannot be shown: {class_name(error)})"
    at, level = record.created, record.levelname
    return at if type(at) is float else time.time(), one_line(text_of(level, 50).lower()), clean(text, MAX_TEXT)


def _text_of(record: logging.LogRecord) -> str:
    values: dict[str, Any]
    if isinstance(record.msg, dict):  # structlog's, on its way to the formatter
        event = record.msg
        words, values = text_of(event.get("event", ""), MAX_TEXT), {k: v for k, v in event.items() if k not in _SHOWN_APART}
        error = event.get("exc_info") or record.exc_info
        stack = event.get("stack") or record.stack_info
    else:
        words, error, stack = record.getMessage(), record.exc_info, record.stack_info
        values = {k: v for k, v in vars(record).items() if k not in _OF_EVERY_RECORD and not k.startswith("_")}
    text = words + "".join(f" {text_of(name, 200)}={text_of(value, MAX_TEXT)}" for name, value in values.items())
    trace = _trace(error)
    return "\n".join(part for part in (text, trace, stack) if part)


def _trace(error: Any) -> str:
    """Returns the traceback for a log record's `exc_info`, which is an exception, the tuple of `sys.exc_info`, or True for
    the current exception. Returns an empty text for any other value."""
    if error is True:
        return traceback.format_exc().rstrip()
    if isinstance(error, tuple):
        error = error[1]
    return traceback_of(error).rstrip() if issubclass(type(error), BaseException) else ""
