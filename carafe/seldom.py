"""Runs a check less often when it becomes expensive: the check may take a fixed share of all time, and no more.

Such checks scan an index, and how long that takes is not always known beforehand. The scan passes the entries of deleted
rows until a vacuum removes these, and a single transaction left open anywhere in the server prevents every vacuum from
removing them.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Seldom:
    """Says when a check is due again. `share`: the share of all time that the checks may take, from 0 to 1. `longest`: the
    maximum number of seconds between two checks."""

    def __init__(self, share: float, longest: float) -> None:
        self._share, self._longest = share, longest
        self._next = 0.0

    def due(self) -> bool:
        """Whether the check is due now."""
        return time.monotonic() >= self._next

    def at_once(self) -> None:
        """Make the next check due now, however long the last one took."""
        self._next = 0.0

    @contextmanager
    def look(self) -> Iterator[None]:
        """Run a check in this block. How long it takes decides when the next check is due, even when the check raises an
        error."""
        began = time.monotonic()
        try:
            yield
        finally:
            now = time.monotonic()
            took = now - began
            # A check that takes up to `share` of a second never has to wait: a caller that asks every second checks every
            # time.
            self._next = now + min(self._longest, took / self._share) if took > self._share else 0.0
