"""Where a job's trace stands: the text of the column `trace`, and what the dashboard makes of it. Nothing but text.

The text is a W3C ``traceparent`` (https://www.w3.org/TR/trace-context/), which names the span that enqueued the job, and
after a blank its ``tracestate``, if there is one. In the latter our own entry, ``carafe=SPAN``, names the last attempt, so
that the next one can point at it.
"""

import re
from typing import NamedTuple

MEMBER = "carafe"
"""The key of our entry in a tracestate."""

MAX_STATE = 512
"""Characters of a tracestate at most; entries at its end are given up first, as the recommendation has it."""

_FORM = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-[^ ]*)?(?: (.*))?", re.DOTALL)


class Trace(NamedTuple):
    """A place in a trace: ids in lower-case hex, whether spans of it are kept, and the tracestate ('' for none)."""

    trace_id: str
    span_id: str
    sampled: bool
    state: str = ""

    @property
    def text(self) -> str:
        """As the column has it."""
        parent = f"00-{self.trace_id}-{self.span_id}-{'01' if self.sampled else '00'}"
        return f"{parent} {self.state}" if self.state else parent

    @property
    def last_attempt(self) -> str | None:
        """The span of the attempt before, if one was traced."""
        for entry in self.state.split(","):
            key, _, value = entry.strip().partition("=")
            if key == MEMBER and re.fullmatch(r"[0-9a-f]{16}", value):
                return value
        return None

    def after(self, span_id: str) -> "Trace":
        """The same once the attempt of that span has ended."""
        others = [entry.strip() for entry in self.state.split(",")]
        entries = [f"{MEMBER}={span_id}", *(entry for entry in others if entry and not entry.startswith(f"{MEMBER}="))]
        while len(",".join(entries)) > MAX_STATE:
            entries.pop()
        return self._replace(state=",".join(entries))


def parse(text: str | None) -> Trace | None:
    """What the text says; None for what is no traceparent."""
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
    """Where a job's trace can be seen, by TRACE_URL_TEMPLATE; None without a template, and for a job whose trace is not
    kept."""
    place = parse(trace)
    return template.replace("{trace_id}", place.trace_id) if template and place is not None and place.sampled else None
