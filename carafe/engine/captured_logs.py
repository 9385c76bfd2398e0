"""Captures what handlers log: a logging handler that knows, by a context variable, for which claim the code runs that logs.

Guarantees: a job that logs nothing pays for one context variable; a claim keeps its last lines and bytes
(`carafe.jobs.job_logs`), whatever is logged; lines that come after the claim's end are nobody's. What is captured is what
the logger's level lets through, from coroutines, from the threads of plain functions and of ``asyncio.to_thread``, and from
child processes; threads that a handler starts by itself carry no context, and their lines go to the worker's log alone.
Must never: raise into a handler, or wait for anything but the moment that another thread needs to append a line.
"""

import logging
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

from carafe.engine.slot import Claim
from carafe.jobs.job_logs import MAX_BYTES, MAX_LINES, Chunk
from carafe.texts import class_name, clean, text_of, traceback_of

running: ContextVar[Claim | None] = ContextVar("carafe claim", default=None)
"""The claim whose handler runs in this context. Each attempt has one of its own; it is never taken back: `Claim.over`."""

MAX_TEXT = 8_192
"""Characters of one line that are kept."""

_OF_EVERY_RECORD = {*vars(logging.makeLogRecord({})), "message", "asctime", "taskName"}

# What structlog's processors add beside the event and its own values, or what is shown apart.
_SHOWN_APART = {"event", "timestamp", "level", "logger", "exc_info", "exception", "stack", "stack_info"}


class Tail:
    """The last lines of one claim. `add` from any thread, the rest from the engine's loop."""

    __slots__ = ("_forgotten_below", "_lines", "_lock", "_number", "_size", "_stored", "over")

    def __init__(self) -> None:
        self._lines: deque[tuple[int, datetime, str, str, int]] = deque()
        self._lock = threading.Lock()
        self._number = self._size = 0
        self._stored = 0
        self._forgotten_below = 0
        self.over = False
        """The claim has ended: what comes now is not its own."""

    @property
    def size(self) -> int:
        """Bytes that are kept."""
        return self._size

    def add(self, at: float, level: str, text: str) -> None:
        """A line; `at` in seconds since 1970, the text free of what Postgres cannot store."""
        size = len(text.encode())
        moment = datetime.fromtimestamp(at, UTC)
        with self._lock:
            if self.over:
                return
            self._number += 1
            self._lines.append((self._number, moment, level, text, size))
            self._size += size
            while self._size > MAX_BYTES or len(self._lines) > MAX_LINES:
                self._size -= self._lines.popleft()[4]

    def chunk(self, claim: Claim, *, failed: bool = False) -> Chunk | None:
        """What is not stored yet (of a failed claim all, since it moves to where failures are kept); None: nothing."""
        with self._lock:
            lines = list(self._lines)
            last = self._number
        anew = failed and self._stored > 0
        fresh = [line[:4] for line in lines if anew or line[0] > self._stored]
        if not fresh:
            return None
        kept_from = last + 1 if anew else lines[0][0]
        forgets = self._stored > 0 and kept_from > self._forgotten_below + 1
        return Chunk(claim.id, claim.fence, claim.attempt, failed, fresh, kept_from if forgets else None)

    def stored(self, chunk: Chunk) -> None:
        """The chunk has been written."""
        self._stored = chunk.lines[-1][0]
        if chunk.kept_from is not None:
            self._forgotten_below = chunk.kept_from - 1


class Capture(logging.Handler):
    """The logging handler of one engine: on the root logger from `install` to `remove`."""

    def install(self) -> None:
        """Begin to capture."""
        logging.getLogger().addHandler(self)

    def remove(self) -> None:
        """Capture nothing more."""
        logging.getLogger().removeHandler(self)

    def handle(self, record: logging.LogRecord) -> bool:
        """Without the lock that every other handler takes: most records are no job's."""
        claim = running.get()
        if claim is not None and not claim.over:
            add(claim, *line_of(record))
        return claim is not None


class Sending(logging.Handler):
    """The handler inside a child process: everything that is logged there is the job's, and goes to the parent at once,
    since the last lines before a crash are the ones that are looked for."""

    def __init__(self, send: Callable[[float, str, str], None]) -> None:
        super().__init__()
        self._send = send

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._send(*line_of(record))
        except Exception:  # the parent is gone, or memory is short: nobody to tell
            pass


def log_context() -> dict[str, Any]:
    """What a line of the worker's log says of the job whose code logs it (`carafe.logging.annotate`)."""
    claim = running.get()
    if claim is None or claim.over:
        return {}
    return {"job_id": str(claim.id), "kind": claim.kind, "attempt": claim.attempt}


def log_hides() -> Callable[[Any], Any] | None:
    """What a line of the worker's log must not show of the job whose code logs it (`carafe.logging.hide`)."""
    claim = running.get()
    return None if claim is None or claim.hiding is None else claim.hiding.value


def add(claim: Claim, at: float, level: str, text: str) -> None:
    """A line for a claim; the tail is made with its first line."""
    if claim.hiding is not None:
        text = claim.hiding.text(text)
    tail = claim.tail
    if tail is None:
        with _making:
            tail = claim.tail = claim.tail or Tail()
    tail.add(at, level, text)


_making = threading.Lock()


def line_of(record: logging.LogRecord) -> tuple[float, str, str]:
    """Time, level and text of a record: the message, what came with it as ``name=value``, the traceback. Never raises."""
    try:
        text = _text_of(record)
    except BaseException as error:
        said = repr(record.msg) if type(record.msg) is str else text_of(record.msg, MAX_TEXT)
        text = f"{said} (its values cannot be shown: {class_name(error)})"
    at, level = record.created, record.levelname
    return at if type(at) is float else time.time(), text_of(level, 50).lower(), clean(text, MAX_TEXT)


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
    """A traceback from what `exc_info` may be: an exception, the three of `sys.exc_info`, or that there is one."""
    if error is True:
        return traceback.format_exc().rstrip()
    if isinstance(error, tuple):
        error = error[1]
    return traceback_of(error).rstrip() if issubclass(type(error), BaseException) else ""
