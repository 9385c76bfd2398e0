"""Decides which failures belong to the same group: those with the same kind, error class and message. The varying parts of
the message (numbers, ids, addresses, quotes) do not count.

The rules have a version. A new version starts new groups; the groups of old rows are never changed.
"""

import hashlib
import re

VERSION = 1

_RULES = (
    (re.compile(r"\b[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\b"), "<id>"),
    (re.compile(r"\b\d{1,3}(\.\d{1,3}){3}(:\d+)?\b"), "<address>"),
    (re.compile(r"0x[0-9a-fA-F]+"), "<address>"),
    (re.compile(r"\b[0-9a-fA-F]{16,}\b"), "<id>"),
    (re.compile(r"'[^'\n]{0,500}'|\"[^\"\n]{0,500}\"|`[^`\n]{0,500}`"), "<text>"),
    (re.compile(r"\d+(\.\d+)?"), "<n>"),
)


def normalized(message: str) -> str:
    """The first line of a message with all varying parts replaced by placeholders, at most 300 characters."""
    line = message.strip().split("\n", 1)[0][:2000]
    for pattern, placeholder in _RULES:
        line = pattern.sub(placeholder, line)
    return line[:300]


def fingerprint(kind: str, error_class: str, message: str) -> str:
    """The name of the group that a failure belongs to: ``v1:`` and 16 hex digits."""
    digest = hashlib.sha256(f"{kind}\n{error_class}\n{normalized(message)}".encode()).hexdigest()
    return f"v{VERSION}:{digest[:16]}"
