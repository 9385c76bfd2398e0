"""The keys that may be in Redis without a time to live; docs/redis-keys.md explains each."""

from fnmatch import fnmatchcase
from typing import Any

DOCUMENTED = (
    "default",
    "_kombu.binding.*",
    "_kombu.binding_permanent.*",
    "_kombu.binding_deadlines",
)


def undocumented(connection: Any) -> dict[str, int]:
    """The keys that have no time to live and are not documented, each with it (-1)."""
    found = {key: connection.ttl(key) for key in connection.scan_iter()}
    return {
        key: ttl for key, ttl in found.items() if ttl == -1 and not any(fnmatchcase(key, pattern) for pattern in DOCUMENTED)
    }
