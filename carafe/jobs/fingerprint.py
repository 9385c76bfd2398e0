"""What makes two failures the same: kind, error class and message without what varies (numbers, ids, addresses, quotes).

The rules are versioned: a change of them starts new groups, it never re-labels old rows.
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
    """The first line of a message with everything that varies replaced, at most 300 characters."""
    line = message.strip().split("\n", 1)[0][:2000]
    for pattern, placeholder in _RULES:
        line = pattern.sub(placeholder, line)
    return line[:300]


def fingerprint(kind: str, error_class: str, message: str) -> str:
    """The group of a failure: ``v1:`` and 16 hex digits."""
    digest = hashlib.sha256(f"{kind}\n{error_class}\n{normalized(message)}".encode()).hexdigest()
    return f"v{VERSION}:{digest[:16]}"
