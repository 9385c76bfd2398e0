"""A fault: the system gives this worker no threads for handlers, until Redis has the key ``threads``.

Named in HANDLER_MODULES by the test that wants it.
"""

import os
import threading

from redis import Redis

_start = threading.Thread.start


def start(self: threading.Thread) -> None:
    """Start, unless it is a handler's, or a spare child's."""
    if self.name.startswith(("carafe handler", "carafe spare child")):
        with Redis.from_url(os.environ["REDIS_URL"]) as redis:
            if not redis.exists(f"threads: {self.name.rstrip(' 0123456789')}"):
                raise RuntimeError("can't start new thread")
    _start(self)


threading.Thread.start = start  # type: ignore[method-assign]
