"""Text from jobs, handlers and people on its way to a terminal or a text log: nothing in it is acted on.

Guarantees: no control character, escape sequence, bidirectional mark or half a surrogate pair leaves here as itself, and
nobody makes a second line by a line break.
"""

import re

_STEERS = re.compile(r"[\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def one_line(text: str) -> str:
    """`text` on one line: what is not printable is written as Python writes it (``\\n``, ``\\x1b``, ``\\u202e``)."""
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def indented(text: str, indent: str = "    ") -> str:
    """Each line of `text`, a traceback say, on a line of its own that no reader takes for the beginning of another entry."""
    return "\n".join(indent + one_line(line.expandtabs(4)) for line in text.splitlines())


def json_for_terminals(text: str) -> str:
    """JSON text with the characters escaped that JSON itself lets through and a terminal acts on."""
    return _STEERS.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
