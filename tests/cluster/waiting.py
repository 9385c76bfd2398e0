"""Waiting for a cluster: a condition is asked again until it holds, or the deadline passes; or watched for a while.

Deadlines are generous: they say when a test has failed, not how fast the cluster is. The report has the measured times.
"""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

INTERVAL = 0.5
"""Seconds between two looks."""


def until(what: str, check: Callable[[], T], within: float, *, every: float = INTERVAL) -> T:
    """The first true value of `check`, asked until `within` seconds are over. Its AssertionErrors count as not yet.

    Raises AssertionError at the deadline, with `what` and the last value.
    """
    deadline = time.monotonic() + within
    while True:
        last: object
        try:
            value = check()
            if value:
                return value
            last = value
        except AssertionError as not_yet:
            last = not_yet
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within:g} s: {what}; last: {last!r}")
        time.sleep(every)


def watch(seconds: float, look: Callable[[], T], *, every: float = 2.0) -> list[T]:
    """What `look` saw again and again for this many seconds: for what must not happen in a while, or must last."""
    seen = [look()]
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        time.sleep(every)
        seen.append(look())
    return seen
