"""Reads and writes a job's place in a trace as the text that the column `trace` holds. Does not need OpenTelemetry.

The text is a W3C ``traceparent`` (https://www.w3.org/TR/trace-context/), which names the span in which the job was enqueued.
If there is a ``tracestate``, it follows after a space. In the tracestate, Carafe's own entry ``carafe=SPAN`` names the span
of the last attempt, so that the next attempt can link to it.
"""

import re
from typing import NamedTuple

MEMBER = "carafe"
"""The key of the entry that Carafe adds to a tracestate."""

MAX_STATE = 512
"""The maximum number of characters of a tracestate. If it would be longer, entries are dropped from its end, as the W3C
recommends."""

_FORM = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-[^ ]*)?(?: (.*))?", re.DOTALL)


class Trace(NamedTuple):
    """A place in a trace: the trace's and the span's id in lower-case hex, whether the trace is sampled, and the tracestate
    ('' for none)."""

    trace_id: str
    span_id: str
    sampled: bool
    state: str = ""

    @property
    def text(self) -> str:
        """This place as the text that the column `trace` holds."""
        parent = f"00-{self.trace_id}-{self.span_id}-{'01' if self.sampled else '00'}"
        return f"{parent} {self.state}" if self.state else parent

    @property
    def last_attempt(self) -> str | None:
        """The id of the last attempt's span, or None if no attempt was traced."""
        for entry in self.state.split(","):
            key, _, value = entry.strip().partition("=")
            if key == MEMBER and re.fullmatch(r"[0-9a-f]{16}", value):
                return value
        return None

    def after(self, span_id: str) -> "Trace":
        """Returns a copy of this place in which `span_id` names the span of the last attempt."""
        others = [entry.strip() for entry in self.state.split(",")]
        entries = [f"{MEMBER}={span_id}", *(entry for entry in others if entry and not entry.startswith(f"{MEMBER}="))]
        while len(",".join(entries)) > MAX_STATE:
            entries.pop()
        return self._replace(state=",".join(entries))


def parse(text: str | None) -> Trace | None:
    """Returns the place in a trace that `text` names, if it is a traceparent, with or without a space and a tracestate after
    it. Returns None for any other text."""
    found = _FORM.fullmatch(text) if text else None
    if found is None:
        return None
    version, trace_id, span_id, flags, rest, state = found.groups()
    if version == "ff" or (version == "00" and rest) or not int(trace_id, 16) or not int(span_id, 16):
        return None
    return Trace(trace_id, span_id, bool(int(flags, 16) & 1), _printable(state or ""))


def _printable(state: str) -> str:
    return state if len(state) <= MAX_STATE and state.isascii() and state.isprintable() else ""


def trace_url(template: str | None, trace: str | None) -> str | None:
    """Returns the URL at which people can look at a job's trace, made from `template` (the setting TRACE_URL_TEMPLATE).
    Returns None if there is no template, or if the trace is not sampled."""
    place = parse(trace)
    return template.replace("{trace_id}", place.trace_id) if template and place is not None and place.sampled else None
