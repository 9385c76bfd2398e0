"""Keeps the last lines that the handler of a claim has logged, until they are stored in Postgres."""

import threading
from collections import deque
from datetime import UTC, datetime
from uuid import UUID

from carafe.store.job_logs import MAX_BYTES, MAX_LINES, Chunk


class Tail:
    """The last lines of one claim. `add` may be called from any thread, the other methods from the engine's loop."""

    __slots__ = ("_forgotten_below", "_lines", "_lock", "_number", "_size", "_stored", "over")

    def __init__(self) -> None:
        self._lines: deque[tuple[int, datetime, str, str, int]] = deque()
        self._lock = threading.Lock()
        self._number = self._size = 0
        self._stored = 0
        self._forgotten_below = 0
        self.over = False
        """Whether the claim has ended. Lines that are logged later do not belong to the claim, and are not added."""

    @property
    def size(self) -> int:
        """The bytes of the lines that are kept."""
        return self._size

    def add(self, at: float, level: str, text: str) -> None:
        """Add a line. `at` is in seconds since 1970. The text must not contain characters that Postgres cannot store."""
        size = len(text.encode())
        moment = datetime.fromtimestamp(at, UTC)
        with self._lock:
            if self.over:
                return
            self._number += 1
            self._lines.append((self._number, moment, level, text, size))
            self._size += size
            while self._size > MAX_BYTES or len(self._lines) > MAX_LINES:
                self._size -= self._lines.popleft()[4]

    def chunk(self, job_id: UUID, fence: int, attempt: int, *, failed: bool = False) -> Chunk | None:
        """Returns the lines that are not stored yet, or None if there are none. If the claim has failed (`failed`), returns
        all kept lines, since they are stored again with the failed attempts."""
        with self._lock:
            lines = list(self._lines)
            last = self._number
        again = failed and self._stored > 0
        fresh = [line[:4] for line in lines if again or line[0] > self._stored]
        if not fresh:
            return None
        kept_from = last + 1 if again else lines[0][0]
        forgets = self._stored > 0 and kept_from > self._forgotten_below + 1
        return Chunk(job_id, fence, attempt, failed, fresh, kept_from if forgets else None)

    def stored(self, chunk: Chunk) -> None:
        """Record that the chunk has been written."""
        self._stored = chunk.lines[-1][0]
        if chunk.kept_from is not None:
            self._forgotten_below = chunk.kept_from - 1
