"""The log lines of jobs: one for every start and one for every end. (`carafe.engine.completions` has a table that names the
event for each kind of end.)

A worker writes two lines for each job, tens of thousands a second, so they do not go through structlog. Each logging method
appends one tuple, or nothing if the log level excludes the line; `flush` then renders all pending lines and writes them
together. The lines look like those of `carafe.telemetry.logging`.
Guarantees: no line is lost when one thread appends while another flushes; a broken log stream never makes a job fail.
Must never: log a job's arguments or result.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TextIO

import orjson

from carafe.plain_text import one_line

Format = Literal["json", "text"]
Level = Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]

_SEVERITY = {"DEBUG": 10, "INFO": 20, "WARNING": 30, "ERROR": 40, "CRITICAL": 50}

LEVELS = frozenset(map(str.lower, _SEVERITY))
"""The names of the levels, as lines show them."""

_COLOURS = {"debug": 2, "info": 32, "warning": 33, "error": 31, "critical": 31}


@dataclass(frozen=True, slots=True, eq=False)
class Event:
    """The event that a log line reports, and its level. Make one object for each event and reuse it: renderers compare
    events by identity."""

    words: str
    level: Level


STARTED = Event("job started", "INFO")
COMPLETED = Event("job completed", "INFO")

# time (UNIX, s), event, job id, kind, attempt, duration (s), error or reason, delay (s), trace id
_Line = tuple[float, Event, object, str, int, float | None, str | None, float | None, str | None]


class JobLog:
    """Collects the lines of jobs and writes them to `stream` in batches.

    `job_id` is a UUID or its text; durations and delays are seconds; `error` is `Class: message`, without a traceback;
    `trace` is the trace's id, where there is one.
    A line below `level` is not logged, and costs one comparison.
    """

    def __init__(self, stream: TextIO, format: Format = "text", level: Level = "INFO") -> None:  # noqa: A002
        self._stream = stream
        self._render = _Json() if format == "json" else _Text(colours=stream.isatty())
        self._pending: list[_Line] = []
        self._least = _SEVERITY[level]
        self._info = self._least <= _SEVERITY["INFO"]

    def started(self, job_id: object, kind: str, attempt: int, trace: str | None = None) -> None:
        """Log that an attempt has begun. The first attempt is number 1."""
        if self._info:
            self._pending.append((time.time(), STARTED, job_id, kind, attempt, None, None, None, trace))

    def completed(self, job_id: object, kind: str, attempt: int, duration: float, trace: str | None = None) -> None:
        """Log that the job succeeded."""
        if self._info:
            self._pending.append((time.time(), COMPLETED, job_id, kind, attempt, duration, None, None, trace))

    def ended(
        self,
        event: Event,
        job_id: object,
        kind: str,
        attempt: int,
        duration: float | None = None,
        error: str | None = None,
        delay: float | None = None,
        trace: str | None = None,
    ) -> None:
        """Log that the attempt has ended in another way than `completed` logs. `delay` is the seconds until the job runs
        again, if it does."""
        if self._least <= _SEVERITY[event.level]:
            self._pending.append((time.time(), event, job_id, kind, attempt, duration, error, delay, trace))

    def flush(self) -> int:
        """Writes the pending lines with one write, and returns how many there were.

        Call it from one thread at a time. If the stream is closed or broken, the lines are lost and nothing is raised.
        """
        count = len(self._pending)
        if not count:
            return 0
        # Both steps are atomic, and other threads only append behind `count`: no line is lost between the steps.
        lines = self._pending[:count]
        del self._pending[:count]
        text = self._render(lines)
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):
            pass
        return count


class _Clock:
    """Renders a UNIX time, given in whole seconds, as text. Remembers the last text, since many lines in a row have the same
    second."""

    def __init__(self, form: str, local: bool) -> None:
        self._form = form
        self._convert = time.localtime if local else time.gmtime
        self._second = -1
        self._text = ""

    def __call__(self, second: int) -> str:
        if second != self._second:
            self._second = second
            self._text = time.strftime(self._form, self._convert(second))
        return self._text


class _Heads(dict[Event, str]):
    """A dictionary from each event to the part that all its log lines have in common. That part is rendered when it is first
    needed."""

    def __init__(self, render: Callable[[Event], str]) -> None:
        super().__init__()
        self._render = render

    def __missing__(self, event: Event) -> str:
        head = self[event] = self._render(event)
        return head


class _Json:
    """Renders each line as a JSON object, with the same keys in the same order as `carafe.telemetry.logging`."""

    def __init__(self) -> None:
        self._clock = _Clock("%Y-%m-%dT%H:%M:%S", local=False)
        self._heads = _Heads(lambda event: f'Z","level":"{event.level.lower()}","event":"{event.words}","job_id":"')
        self._kinds: dict[str, str] = {}

    def __call__(self, lines: list[_Line]) -> str:
        rendered: list[str] = []
        heads, kinds, clock = self._heads, self._kinds, self._clock
        for at, event, job_id, kind, attempt, duration, error, delay, trace in lines:
            second = int(at)
            quoted = kinds.get(kind)
            if quoted is None:
                quoted = kinds[kind] = f'","kind":{_quoted(kind)},"attempt":'
            tail = f',"duration":{duration:.6f}' if duration is not None else ""
            if delay is not None:
                tail += f',"delay":{delay:.3f}'
            if error is not None:
                tail += f',"error":{_quoted(error)}'
            if trace is not None:
                tail += f',"trace_id":"{trace}"'
            micros = int((at - second) * 1_000_000)
            rendered.append(f'{{"timestamp":"{clock(second)}.{micros:06d}{heads[event]}{job_id}{quoted}{attempt}{tail}}}\n')
        return "".join(rendered)


class _Text:
    """Renders each line as aligned text for people, in local time."""

    def __init__(self, colours: bool) -> None:
        self._clock = _Clock("%H:%M:%S", local=True)
        self._heads = _Heads(lambda event: f"{level_text(event.level, colours)} {event.words:<13}")

    def __call__(self, lines: list[_Line]) -> str:
        rendered: list[str] = []
        for at, event, job_id, kind, attempt, duration, error, delay, trace in lines:
            second = int(at)
            tail = f" duration={duration:.3f}s" if duration is not None else ""
            if delay is not None:
                tail += f" delay={delay:.1f}s"
            if error is not None:
                tail += f" error={one_line(error)}"
            if trace is not None:
                tail += f" trace_id={one_line(trace)}"
            millis = int((at - second) * 1_000)
            rendered.append(
                f"{self._clock(second)}.{millis:03d} {self._heads[event]} {one_line(kind)} "
                f"job_id={job_id} attempt={attempt}{tail}\n"
            )
        return "".join(rendered)


def level_text(level: str, colours: bool) -> str:
    """A level as text lines show it: on one line, padded, and with `colours` coloured for a terminal."""
    padded = f"{one_line(level.lower()):<8}"
    return f"\x1b[{_COLOURS.get(level.lower(), 0)}m{padded}\x1b[0m" if colours else padded


def _quoted(text: str) -> str:
    """Returns `text` as a JSON string. A lone surrogate, which cannot be encoded in UTF-8, becomes a question mark."""
    return orjson.dumps(text.encode("utf-8", "replace").decode()).decode()
