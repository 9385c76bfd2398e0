"""Large bodies, few at a time: what they take of the process while they arrive and while they are worked on.

A body over `LARGE` bytes is read only while there is `ROOM` for it beside the others (a single one may be larger), and
worked on, in a thread, while fewer than `AT_ONCE` others are. Who waits for either longer than `PATIENCE`, or would be one
of more than `WAITING`, is told to come again. Small ones know nothing of this.

Room is waited for in one queue and the turn in another: who waits for their turn has room already, and would wait in vain
behind somebody who wants it. Used on one loop only.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

from starlette.requests import Request

T = TypeVar("T")

LARGE = 65_536
"""Bytes from which on a body is large."""

ROOM = 8_388_608
"""Bytes of large bodies that are held at once."""

AT_ONCE = 2
"""Large bodies that are worked on at once, from reading what they say to the end of the request."""

WAITING = 32
"""Requests that may wait for room, and as many for their turn."""

PATIENCE = 5.0
"""Seconds that each of them may."""

RETRY_AFTER = 2
"""Seconds after which who was refused may come again."""


class TooBusy(Exception):
    """There is no room, or no turn, for a large body within `PATIENCE`."""

    def __init__(self) -> None:
        super().__init__("too many large requests at once; nothing was stored, try again in a moment")


class TooLarge(Exception):
    """A body has more bytes than it may."""


class LargeBodies:
    """The room for large bodies of one application, and their turns."""

    def __init__(self) -> None:
        self._held = 0
        self._working = 0
        self._for_room = _Queue()
        self._for_a_turn = _Queue()

    @asynccontextmanager
    async def place(self) -> AsyncIterator["Place"]:
        """What one request holds; nothing at first, and nothing after the block. Raises `TooBusy` from its methods."""
        place = Place(self)
        try:
            yield place
        finally:
            place.leave()

    def fits(self, more: int, own: int) -> bool:
        """Whether there is room now for `more` bytes, for somebody who has `own` already."""
        return self._held == own or self._held + more <= ROOM

    def hold(self, size: int) -> None:
        """Take room, or give back (below 0)."""
        self._held += size
        if size < 0:
            self._for_room.look()

    async def room(self, taken: Callable[[], bool]) -> None:
        """Wait until `taken` has taken room (it says so). Raises `TooBusy`."""
        await self._for_room.wait(taken)

    def idle(self) -> bool:
        """Whether one more may be worked on."""
        return self._working < AT_ONCE

    def work(self, change: int) -> None:
        """One more, or one less (-1), is worked on."""
        self._working += change
        if change < 0:
            self._for_a_turn.look()

    async def turn(self, taken: Callable[[], bool]) -> None:
        """Wait until `taken` has taken its turn (it says so). Raises `TooBusy`."""
        await self._for_a_turn.wait(taken)


class _Queue:
    """Who waits for one thing, in order."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[Callable[[], bool], asyncio.Future[None]]] = deque()

    async def wait(self, taken: Callable[[], bool]) -> None:
        """Wait until `taken` has taken what it wants (it says so). Raises `TooBusy`."""
        if not self._waiting and taken():
            return
        if len(self._waiting) >= WAITING:
            raise TooBusy
        granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (taken, granted)
        self._waiting.append(entry)
        try:
            async with asyncio.timeout(PATIENCE):
                await granted
        except TimeoutError:
            if not granted.done() or granted.cancelled():
                raise TooBusy from None
        finally:
            if entry in self._waiting:
                self._waiting.remove(entry)
                self.look()

    def look(self) -> None:
        """There is more of it: whether the first can have what it wants."""
        # Not past the first that cannot have what it wants: a large one would starve behind the small.
        while self._waiting and not self._waiting[0][1].done() and self._waiting[0][0]():
            self._waiting.popleft()[1].set_result(None)


class Place:
    """What one request holds of the room, and whether it has its turn."""

    def __init__(self, bodies: LargeBodies) -> None:
        self._bodies = bodies
        self._size = 0
        self._works = False

    async def read(self, request: Request, limit: int) -> bytes:
        """The request's body. Raises `TooLarge` for one of more than `limit` bytes, and `TooBusy`."""
        declared = request.headers.get("content-length", "")
        if declared.isdecimal():
            # Longer numbers are not looked at: Python refuses to read them.
            if len(declared) > 15 or int(declared) > limit:
                raise TooLarge
            await self.announce(int(declared))
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > limit:
                raise TooLarge
            self.grow(len(body))
        return bytes(body)

    async def announce(self, size: int) -> None:
        """A body of `size` bytes will come. Waits for room. Raises `TooBusy`."""
        if size > max(self._size, LARGE):
            await self._bodies.room(lambda: self._take(size))

    def grow(self, size: int) -> None:
        """The body has `size` bytes by now. Raises `TooBusy` at once: who waits while holding room may wait for ever."""
        if size > max(self._size, LARGE) and not self._take(size):
            raise TooBusy

    async def work(self, size: int, do: Callable[[], T]) -> T:
        """What `do` returns: in a thread for a large body, once it is its turn. Raises `TooBusy`."""
        if size <= LARGE:
            return do()
        if not self._works:
            await self._bodies.turn(self._begin)
        return await asyncio.to_thread(do)

    def leave(self) -> None:
        """Give all back."""
        size, self._size = self._size, 0
        works, self._works = self._works, False
        if size:
            self._bodies.hold(-size)
        if works:
            self._bodies.work(-1)

    def _take(self, size: int) -> bool:
        more = size - self._size
        if not self._bodies.fits(more, self._size):
            return False
        self._size = size
        self._bodies.hold(more)
        return True

    def _begin(self) -> bool:
        if not self._bodies.idle():
            return False
        self._works = True
        self._bodies.work(+1)
        return True
