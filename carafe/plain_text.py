"""Makes text from jobs, handlers and people safe for a terminal, a text log or a page.

Guarantees: control characters, escape sequences, bidirectional marks and lone surrogates are always escaped, and a line
break in a value never starts a second line.
"""

import re

_STEERS = re.compile(
    r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


def one_line(text: str) -> str:
    """`text` on one line. Characters that are not printable are escaped as in Python (``\\n``, ``\\x1b``, ``\\u202e``)."""
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def indented(text: str, indent: str = "    ") -> str:
    """`text` (such as a traceback) with every line escaped and indented, so that no line looks like a new log entry."""
    return "\n".join(indent + one_line(line.expandtabs(4)) for line in text.splitlines())


def visible(text: str) -> str:
    """Returns `text`, which is JSON or part of a page, with those characters escaped as in JSON (``\\u202e``) that would
    control a terminal, turn the text around them, or could not be shown. Line breaks and tabs stay."""
    return text if text.isprintable() else _STEERS.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
