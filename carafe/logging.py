"""Logs: JSON or text, one line an event, the same for this library, Celery, uvicorn, alembic and SQLAlchemy.

Guarantees: every line goes to one stream (standard error unless told otherwise) with `timestamp` (ISO, UTC), `level`,
`event` and `logger`; nothing in a value makes a second line, or reaches a terminal as an escape sequence in text.
Must never: log a job's arguments or result, a URL with its query, a token or a password.

`configure_logging` replaces what was configured before, so that calling it again is harmless. The lines of jobs take
a faster way, `carafe.job_log`, and look the same.
"""

import asyncio
import contextlib
import json
import logging
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any, TextIO

import orjson
import structlog

from carafe.job_log import JobLog, level_text
from carafe.plain_text import indented, one_line
from carafe.settings import Settings

# Libraries that say at INFO what an operator wants to read only when looking for a fault.
_QUIET = (
    "alembic",  # its steps are told by carafe migrate
    "amqp",
    "asyncio",
    "celery",
    "httpcore",
    "httpx",
    "kombu",
    "kubernetes",
    "sqlalchemy",
    "urllib3",
    "uvicorn.error",
)


def configure_logging(settings: Settings, stream: TextIO | None = None) -> None:
    """Sends every log line of this process to `stream` (standard error), in the format and level of `settings`.

    Start uvicorn with `log_config=None` and Celery with `worker_hijack_root_logger=False`, or they undo it.
    """
    stream = stream if stream is not None else sys.stderr
    level = logging.getLevelNamesMapping()[settings.log_level]
    annotate: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="timestamp"),
        structlog.processors.StackInfoRenderer(),
    ]
    render: list[structlog.typing.Processor] = [_whose, structlog.processors.format_exc_info, _without_secrets]
    render += [_in_order, _json] if settings.log_format == "json" else [_Text(colours=stream.isatty())]

    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=annotate,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render],
        )
    )
    handler.addFilter(_FailedRequests())
    root = logging.getLogger()
    for old in root.handlers[:]:
        if old.__class__.__module__.partition(".")[0] != "_pytest":  # a test's caplog stays
            root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level)
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(level, logging.WARNING))
    for name in ("uvicorn", "uvicorn.access", "celery", "celery.task", "celery.redirected"):
        other = logging.getLogger(name)
        other.handlers.clear()
        other.propagate = True
    # Made at INFO by uvicorn whatever the outcome; the filter lets failures through, as errors.
    logging.getLogger("uvicorn.access").setLevel(logging.INFO)
    logging.captureWarnings(True)

    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.PositionalArgumentsFormatter(),
            *annotate,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        # Module-level loggers exist before the settings are read, and tests configure more than once.
        cache_logger_on_first_use=False,
    )
    for name, meant in settings.misspelled:
        get_logger(__name__).warning(f"{name} in the environment is no setting, and is ignored: did you mean {meant}?")


_sources: dict[str, Callable[[], Mapping[str, Any]]] = {}


def annotate(name: str, source: Callable[[], Mapping[str, Any]]) -> None:
    """Give every line what `source` says of the code that logs it: asked for each line, in the context that logs it.

    A later source of the same `name` takes the place of an earlier one. What a line says itself stands.
    """
    _sources[name] = source


_hides: Callable[[], Callable[[Any], Any] | None] | None = None


def hide(source: Callable[[], Callable[[Any], Any] | None]) -> None:
    """Let no line show what `source` hides: asked for each line, in the context that logs it, for a function that gives any
    value of the line without it; None: nothing is hidden there. A later source takes the place of an earlier one."""
    global _hides
    _hides = source


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """The logger of a module: `log = get_logger(__name__)`, then `log.info("lease taken", holder=…)`."""
    logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return logger


def open_job_log(settings: Settings, stream: TextIO | None = None) -> JobLog:
    """The log of jobs, on the stream and in the format that `configure_logging` uses."""
    return JobLog(stream if stream is not None else sys.stderr, settings.log_format, settings.log_level)


FAILURES = 5
"""Lines about failed requests of one status in `FAILURES_TIME`; the others are counted."""

FAILURES_TIME = 10.0
"""Seconds."""


class _FailedRequests:
    """Of uvicorn's access lines only those of requests that the server failed, without their query. A flood of them (anybody
    can ask again and again while Postgres is away) is a few lines and, `FAILURES_TIME` after the first, their number."""

    def __init__(self) -> None:
        self._lines: Counter[int] = Counter()
        self._until: dict[int, float] = {}

    def __call__(self, record: logging.LogRecord) -> bool:
        if record.name != "uvicorn.access":
            return True
        match record.args:
            case (_, method, path, _, int(status)) if status >= 500:
                if self._is_one_too_many(status):
                    return False
                record.levelno, record.levelname = logging.ERROR, "ERROR"
                record.msg, record.args = "request failed: %s %s answered %s", (method, str(path).partition("?")[0], status)
                return True
        return False

    def _is_one_too_many(self, status: int) -> bool:
        now = time.monotonic()
        if now >= self._until.get(status, now):
            self._tell(status)
            self._until[status] = now + FAILURES_TIME
        self._lines[status] += 1
        if self._lines[status] == FAILURES + 1:
            with contextlib.suppress(RuntimeError):  # no loop: told before the next line
                asyncio.get_running_loop().call_later(FAILURES_TIME, self._tell, status)
        return self._lines[status] > FAILURES

    def _tell(self, status: int) -> None:
        more = self._lines.pop(status, 0) - FAILURES
        if more > 0:
            get_logger(__name__).error(f"{more:,} more requests failed: answered {status}")


def _whose(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """What the sources of `annotate` say. Here, where the line is rendered: what others keep of it has none."""
    for source in _sources.values():
        for key, value in source().items():
            event.setdefault(key, value)
    return event


def _without_secrets(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    hidden = None if _hides is None else _hides()
    return event if hidden is None else {key: hidden(value) for key, value in event.items()}


def _in_order(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """The keys that every line has come first, so that raw JSON can be read by eye."""
    first = {key: event.pop(key) for key in ("timestamp", "level", "event", "logger") if key in event}
    return {**first, **event}


def _json(_: Any, __: str, event: MutableMapping[str, Any]) -> str:
    try:
        return orjson.dumps(event, default=repr, option=orjson.OPT_NON_STR_KEYS).decode()
    except TypeError:  # half a surrogate pair, or a number beyond 64 bits
        return json.dumps({str(key): value for key, value in event.items()}, default=repr)


class _Text:
    """One aligned line for people, in local time; a traceback follows on lines of its own, indented.

    What handlers log comes this way too: it can neither steer the terminal nor forge a line.
    """

    def __init__(self, colours: bool) -> None:
        self._colours = colours

    def __call__(self, _: Any, __: str, event: MutableMapping[str, Any]) -> str:
        now = time.time()
        clock = time.strftime("%H:%M:%S", time.localtime(now))
        level = level_text(str(event.pop("level", "info")), self._colours)
        words = event.pop("event", "")
        trace = "".join(f"\n{indented(_text(event.pop(key)))}" for key in ("stack", "exception") if event.get(key))
        rest = "".join(f" {key}={_text(value)}" for key, value in event.items() if key not in ("timestamp", "logger"))
        return f"{clock}.{int(now % 1 * 1000):03d} {level} {one_line(_text(words) + rest)}{trace}"


def _text(value: Any) -> str:
    """Any value as text; one that cannot say what it is must not cost the line."""
    try:
        return str(value)
    except Exception as error:
        return f"<{type(value).__name__} that cannot be shown: {type(error).__name__}>"
