"""The log lines of jobs: one for every start, completion, retry, failure, cancel, snooze and release.

A worker writes two of them a job, tens of thousands a second, so they take a way of their own: a method appends one
tuple (or returns at once when the level leaves the line out), and `flush` renders what is pending and writes it at
once. The lines look like those of `carafe.logging`.
Guarantees: no line is lost between two threads, one appending while the other flushes; a broken log stream never
reaches the job.
Must never: log a job's arguments or result.
"""

import time
from typing import Literal, TextIO

import orjson

from carafe.plain_text import one_line

Format = Literal["json", "text"]
Level = Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]

_SEVERITY = {"DEBUG": 10, "INFO": 20, "WARNING": 30, "ERROR": 40, "CRITICAL": 50}

_COLOURS = {"debug": 2, "info": 32, "warning": 33, "error": 31, "critical": 31}

# What each method's lines are called, and their level.
_EVENTS: dict[str, tuple[str, Level]] = {
    "started": ("job started", "INFO"),
    "completed": ("job completed", "INFO"),
    "retried": ("job retried", "WARNING"),
    "failed": ("job failed", "ERROR"),
    "cancelled": ("job cancelled", "INFO"),
    "snoozed": ("job snoozed", "INFO"),
    "released": ("job released", "INFO"),
}

# time (UNIX, s), event, job id, kind, attempt, duration (s), error or reason, delay (s), trace id
_Line = tuple[float, str, object, str, int, float | None, str | None, float | None, str | None]


class JobLog:
    """Collects the lines of jobs and writes them to `stream` in batches.

    `job_id` is a UUID or its text; durations and delays are seconds; `error` is `Class: message`, without a traceback;
    `trace` is the trace's id, where there is one.
    Lines below `level` cost one comparison.
    """

    def __init__(self, stream: TextIO, format: Format = "text", level: Level = "INFO") -> None:  # noqa: A002
        self._stream = stream
        self._render = _Json() if format == "json" else _Text(colours=stream.isatty())
        self._pending: list[_Line] = []
        least = _SEVERITY[level]
        self._info = least <= _SEVERITY["INFO"]
        self._warning = least <= _SEVERITY["WARNING"]
        self._error = least <= _SEVERITY["ERROR"]

    def started(self, job_id: object, kind: str, attempt: int, trace: str | None = None) -> None:
        """An attempt begins; the first is 1."""
        if self._info:
            self._pending.append((time.time(), "started", job_id, kind, attempt, None, None, None, trace))

    def completed(self, job_id: object, kind: str, attempt: int, duration: float, trace: str | None = None) -> None:
        """The job succeeded."""
        if self._info:
            self._pending.append((time.time(), "completed", job_id, kind, attempt, duration, None, None, trace))

    def retried(
        self,
        job_id: object,
        kind: str,
        attempt: int,
        duration: float,
        error: str,
        delay: float,
        trace: str | None = None,
    ) -> None:
        """The attempt failed and another follows after `delay`."""
        if self._warning:
            self._pending.append((time.time(), "retried", job_id, kind, attempt, duration, error, delay, trace))

    def failed(self, job_id: object, kind: str, attempt: int, duration: float, error: str, trace: str | None = None) -> None:
        """The job is dead: no attempt is left, or it was discarded."""
        if self._error:
            self._pending.append((time.time(), "failed", job_id, kind, attempt, duration, error, None, trace))

    def cancelled(
        self,
        job_id: object,
        kind: str,
        attempt: int,
        duration: float | None = None,
        reason: str | None = None,
        trace: str | None = None,
    ) -> None:
        """The job was cancelled, by its handler or from outside."""
        if self._info:
            self._pending.append((time.time(), "cancelled", job_id, kind, attempt, duration, reason, None, trace))

    def snoozed(
        self, job_id: object, kind: str, attempt: int, duration: float, delay: float, trace: str | None = None
    ) -> None:
        """The handler put the job off by `delay`; no attempt was spent."""
        if self._info:
            self._pending.append((time.time(), "snoozed", job_id, kind, attempt, duration, None, delay, trace))

    def released(
        self,
        job_id: object,
        kind: str,
        attempt: int,
        duration: float | None = None,
        reason: str | None = None,
        trace: str | None = None,
    ) -> None:
        """The job went back to the queue, for instance at drain; no attempt was spent."""
        if self._info:
            self._pending.append((time.time(), "released", job_id, kind, attempt, duration, reason, None, trace))

    def flush(self) -> int:
        """Writes the pending lines with one write, and returns how many there were.

        Call it from one thread at a time. A stream that is closed or broken loses the lines, not the jobs.
        """
        count = len(self._pending)
        if not count:
            return 0
        # Two steps, each atomic, and appending threads only ever add behind `count`: nothing falls between.
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
    """Renders the date of a UNIX time once a second; only the fraction is new for each line."""

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


class _Json:
    """One JSON object a line, with the keys of `carafe.logging`'s lines in the same order."""

    def __init__(self) -> None:
        self._clock = _Clock("%Y-%m-%dT%H:%M:%S", local=False)
        self._heads = {
            event: f'Z","level":"{level.lower()}","event":"{words}","job_id":"' for event, (words, level) in _EVENTS.items()
        }
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
    """One aligned line for people, in local time."""

    def __init__(self, colours: bool) -> None:
        self._clock = _Clock("%H:%M:%S", local=True)
        self._heads = {event: f"{level_text(level, colours)} {words:<13}" for event, (words, level) in _EVENTS.items()}

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
    """A level as text lines show it: padded, in colour for a terminal."""
    padded = f"{level.lower():<8}"
    return f"\x1b[{_COLOURS.get(level.lower(), 0)}m{padded}\x1b[0m" if colours else padded


def _quoted(text: str) -> str:
    """`text` as a JSON string; half a surrogate pair, which UTF-8 cannot carry, becomes a question mark."""
    return orjson.dumps(text.encode("utf-8", "replace").decode()).decode()
