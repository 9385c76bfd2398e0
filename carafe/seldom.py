"""Looks that can become dear, taken less often then: each may take a share of the time, and no more.

What an index scan costs is not always known beforehand: it passes the entries of rows that are gone until a vacuum takes
them away, and a transaction that is left open anywhere in the server holds back every vacuum.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Seldom:
    """When the next look is due. `share`: of the time that looks may take; `longest`: seconds between two at most."""

    def __init__(self, share: float, longest: float) -> None:
        self._share, self._longest = share, longest
        self._next = 0.0

    def due(self) -> bool:
        """Whether to look now."""
        return time.monotonic() >= self._next

    def at_once(self) -> None:
        """There is a reason to look: the next look is due, whatever the last one took."""
        self._next = 0.0

    @contextmanager
    def look(self) -> Iterator[None]:
        """Times a look, however it ends, and says by that when the next is due."""
        began = time.monotonic()
        try:
            yield
        finally:
            now = time.monotonic()
            took = now - began
            # A look of up to `share` of a second never waits for its turn: what asks every second asks every time.
            self._next = now + min(self._longest, took / self._share) if took > self._share else 0.0
