"""Logs: JSON or text, one line for each event, in the same form for this library, Celery, uvicorn, alembic and SQLAlchemy.

Guarantees: every line goes to one stream (standard error by default) with `timestamp` (ISO, UTC), `level`, `event` and
`logger`. No value can start a new line, or send an escape sequence to a terminal.
Must never: log a job's arguments or result, a URL with its query, a token or a password.

`configure_logging` replaces the earlier configuration, so that calling it again is harmless. Lines about jobs are written by
`carafe.telemetry.job_log`, which is faster, and look the same.
"""

import asyncio
import contextlib
import json
import logging
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TextIO

import orjson
import structlog

from carafe.plain_text import indented, one_line
from carafe.settings.sources import as_ignored
from carafe.telemetry.job_log import LEVELS, JobLog, level_text
from carafe.telemetry.loggers import get_logger

if TYPE_CHECKING:
    from carafe.settings.settings import Settings

# Libraries whose INFO lines an operator only wants to read when looking for a fault.
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


@dataclass(frozen=True, slots=True)
class LogSettings:
    """The settings that the log needs. A process that needs no other settings uses this class, because importing all
    settings would take a tenth of its start-up time."""

    log_level: str
    log_format: str
    misspelled: tuple[tuple[str, str], ...] = ()


def configure_logging(settings: "Settings | LogSettings", stream: TextIO | None = None) -> None:
    """Sends every log line of this process to `stream` (by default standard error), in the format and from the level that
    `settings` say.

    Start uvicorn with `log_config=None` and Celery with `worker_hijack_root_logger=False`, because otherwise they replace
    this configuration with their own.
    """
    stream = stream if stream is not None else sys.stderr
    level = logging.getLevelNamesMapping()[settings.log_level]
    annotate: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        _beside,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="timestamp"),
        structlog.processors.StackInfoRenderer(),
    ]
    render: list[structlog.typing.Processor] = [_whose, structlog.processors.format_exc_info, _without_secrets]
    render += [_in_order, _json] if settings.log_format == "json" else [_Text(colours=stream.isatty())]

    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        _Formatter(
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
        get_logger(__name__).warning(as_ignored(name, meant))


_sources: dict[str, Callable[[], Mapping[str, Any]]] = {}


def annotate(name: str, source: Callable[[], Mapping[str, Any]]) -> None:
    """Add the values that `source` returns to every log line. `source` is called for each line, in the context of the code
    that logs it.

    A later source with the same `name` replaces an earlier one. If the line itself already has a value with the same key,
    the line's value is kept.
    """
    _sources[name] = source


_hides: Callable[[], Callable[[Any], Any] | None] | None = None


def hide(source: Callable[[], Callable[[Any], Any] | None]) -> None:
    """Hide texts, such as secrets, in every log line. `source` is called for each line, in the context of the code that logs
    it. It returns None if there is nothing to hide. Otherwise it returns a function, which is called with each name and
    value of the line and returns it with the secrets hidden. A later source replaces an earlier one."""
    global _hides
    _hides = source


def open_job_log(settings: "Settings", stream: TextIO | None = None) -> JobLog:
    """Returns a new job log, which writes to the stream and in the format that `configure_logging` uses."""
    return JobLog(stream if stream is not None else sys.stderr, settings.log_format, settings.log_level)


FAILURES = 5
"""The maximum number of lines about failed requests with one status in `FAILURES_TIME` seconds. Further ones are only
counted."""

FAILURES_TIME = 10.0
"""Seconds in which at most `FAILURES` lines about failed requests with one status are written."""


class _FailedRequests:
    """A log filter for uvicorn's access lines. It passes only lines about requests that failed by the server's fault, and
    removes the query from them. A flood of such lines (clients may repeat requests while Postgres is away) is reduced to a
    few lines and, `FAILURES_TIME` seconds after the first, one line with the number of the others."""

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


class _Formatter(structlog.stdlib.ProcessorFormatter):
    """Renders a record without its values if they cannot be rendered (``"%d"`` with a text, for example). `logging` itself
    would then write the values to standard error as they are, secrets and line breaks included."""

    def format(self, record: logging.LogRecord) -> str:
        try:
            return super().format(record)
        except Exception as error:
            said = repr(record.msg) if type(record.msg) is str else "a line"
            at = f"{record.pathname}:{record.lineno}"
            words = f"{said} (its values cannot be shown: {type(error).__name__}, at {at})"
            bare = {"name": record.name, "levelno": record.levelno, "levelname": record.levelname, "msg": words}
            return super().format(logging.makeLogRecord(bare))


_OF_EVERY_RECORD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}

_OF_EVERY_LINE = ("timestamp", "level", "logger")


_READ_BY = frozenset({*_OF_EVERY_LINE, "event", "exception", "stack"})
"""The names by which readers and renderers find the parts of a line."""


def _beside(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Adds a record's extra values. A value that is named like a field of every line (``level``) is shown as ``level_``, so
    that no line can say something false about itself."""
    for name in _OF_EVERY_LINE:
        if name in event:
            event[f"{name}_"] = event.pop(name)
    record = event.get("_record")
    if record is not None:
        for name, value in vars(record).items():
            if name not in _OF_EVERY_RECORD:
                event[f"{name}_" if name in event or name in _OF_EVERY_LINE else name] = value
    return event


def _whose(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Adds the values that the sources given to `annotate` return. This happens only when a line is rendered. So log records
    stay unchanged if other code has kept them."""
    for source in _sources.values():
        for key, value in source().items():
            event.setdefault(key, value)
    return event


def _without_secrets(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    hidden = None if _hides is None else _hides()
    if hidden is None:
        return event
    shown: dict[str, Any] = {}
    for name, value in event.items():
        # A secret may be a word by which every line is read: "event", "warning".
        if name in _READ_BY:
            shown[name] = value if name == "timestamp" or (name == "level" and value in LEVELS) else hidden(value)
        else:
            shown[hidden(str(name))] = hidden(value)
    return shown


def _in_order(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Moves the keys that every line has to the front, so that people can read the raw JSON."""
    first = {key: event.pop(key) for key in ("timestamp", "level", "event", "logger") if key in event}
    return {**first, **event}


def _json(_: Any, __: str, event: MutableMapping[str, Any]) -> str:
    try:
        return orjson.dumps(event, default=repr, option=orjson.OPT_NON_STR_KEYS).decode()
    except TypeError:  # half a surrogate pair, or a number beyond 64 bits
        return json.dumps({str(key): value for key, value in event.items()}, default=repr)


class _Text:
    """Renders an event as one aligned line for people, in local time. A traceback follows on lines of its own, indented.

    Handlers' log lines are rendered here too, so values are escaped: they can neither control the terminal nor forge a line.
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
    """Returns any value as text. If ``str`` raises, returns a phrase that says so, and the line is still logged."""
    try:
        return str(value)
    except Exception as error:
        return f"<{type(value).__name__} that cannot be shown: {type(error).__name__}>"
