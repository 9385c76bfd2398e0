"""Makes text from jobs, handlers and people safe for a terminal or a text log.

Guarantees: control characters, escape sequences, bidirectional marks and lone surrogates are always escaped, and a line
break in a value never starts a second line.
"""

import re

_STEERS = re.compile(r"[\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def one_line(text: str) -> str:
    """`text` on one line. Characters that are not printable are escaped as in Python (``\\n``, ``\\x1b``, ``\\u202e``)."""
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def indented(text: str, indent: str = "    ") -> str:
    """`text` (such as a traceback) with every line escaped and indented, so that no line looks like a new log entry."""
    return "\n".join(indent + one_line(line.expandtabs(4)) for line in text.splitlines())


def json_for_terminals(text: str) -> str:
    """Returns `text`, which is JSON, with those characters escaped that JSON allows but that could control a terminal."""
    return _STEERS.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
