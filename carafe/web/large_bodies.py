"""Limits how many large request bodies a process holds in memory and processes at once. Small bodies are not limited here.

A body over `LARGE` bytes needs two things:

1. *room*: its bytes and those of the other large bodies must not exceed `ROOM` together (a single body may be larger);
2. a *turn*: at most `AT_ONCE` large bodies are processed at a time, in threads.

A request that waits for either longer than `PATIENCE`, or finds `WAITING` requests waiting already, is refused with
`TooBusy`.

Room and turns have separate queues. A request that waits for its turn holds room already; in a single queue it could stand
behind a request that waits for that very room, and neither would get on. Used on one event loop only.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

from starlette.requests import Request

T = TypeVar("T")

LARGE = 65_536
"""Bytes above which a body counts as large."""

ROOM = 8_388_608
"""The maximum number of bytes of large bodies that are held in memory at once."""

AT_ONCE = 2
"""How many large bodies are processed at once, each from parsing to the end of its request."""

WAITING = 32
"""How many requests may wait for room; as many more may wait for their turn."""

PATIENCE = 5.0
"""Seconds that a request may wait for room, and again for its turn."""

RETRY_AFTER = 2
"""Seconds after which a refused request may be repeated (the header Retry-After)."""


class TooBusy(Exception):
    """A large body got no room or no turn within `PATIENCE`, or too many requests are waiting already."""

    def __init__(self) -> None:
        super().__init__("too many large requests at once; nothing was stored, try again in a moment")


class TooLarge(Exception):
    """A body has more bytes than its limit."""


class LargeBodies:
    """The room and the turns for the large bodies of one application."""

    def __init__(self) -> None:
        self._held = 0
        self._working = 0
        self._for_room = _Queue()
        self._for_a_turn = _Queue()

    @asynccontextmanager
    async def place(self) -> AsyncIterator["Place"]:
        """Yields a `Place`, which tracks the room and the turn of one request. The end of the block gives both back."""
        place = Place(self)
        try:
            yield place
        finally:
            place.leave()

    def fits(self, more: int, own: int) -> bool:
        """Whether there is room now for `more` bytes, for a request that holds `own` bytes already."""
        return self._held == own or self._held + more <= ROOM

    def hold(self, size: int) -> None:
        """Take `size` bytes of room, or give them back if `size` is negative."""
        self._held += size
        if size < 0:
            self._for_room.look()

    async def room(self, taken: Callable[[], bool]) -> None:
        """Wait in the queue for room: calls `taken`, a function that tries to take the room, until it returns True. Raises
        `TooBusy` when the wait is too long, or too many requests are waiting already."""
        await self._for_room.wait(taken)

    def idle(self) -> bool:
        """Whether another large body may be processed now."""
        return self._working < AT_ONCE

    def work(self, change: int) -> None:
        """Count that one more large body (`change` 1), or one less (-1), is being processed."""
        self._working += change
        if change < 0:
            self._for_a_turn.look()

    async def turn(self, taken: Callable[[], bool]) -> None:
        """Wait in the queue for a turn: calls `taken`, a function that tries to take a turn, until it returns True. Raises
        `TooBusy` when the wait is too long, or too many requests are waiting already."""
        await self._for_a_turn.wait(taken)


class _Queue:
    """A queue of requests that wait for the same thing, served in order."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[Callable[[], bool], asyncio.Future[None]]] = deque()

    async def wait(self, taken: Callable[[], bool]) -> None:
        """Wait in the queue: calls `taken`, a function that tries to take what the request needs, until it returns True.
        Raises `TooBusy` when the wait is too long, or too many requests are waiting already."""
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
        """Let waiting requests take what they need, in order. Stops at the first request that needs more than is free.
        Called when room or a turn has become free."""
        # Later, smaller requests do not overtake that one: a large request would starve behind them.
        while self._waiting and not self._waiting[0][1].done() and self._waiting[0][0]():
            self._waiting.popleft()[1].set_result(None)


class Place:
    """The share of one request: how much room it holds, and whether it has a turn."""

    def __init__(self, bodies: LargeBodies) -> None:
        self._bodies = bodies
        self._size = 0
        self._works = False

    async def read(self, request: Request, limit: int) -> bytes:
        """Returns the request's body. Raises `TooLarge` above `limit` bytes, and `TooBusy` when there is no room."""
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
        """Wait for the room that a body of `size` bytes will need, before the body is read. Raises `TooBusy` when the wait
        is too long, or too many requests are waiting already."""
        if size > max(self._size, LARGE):
            await self._bodies.room(lambda: self._take(size))

    def grow(self, size: int) -> None:
        """Take more room for a body of which `size` bytes have arrived. Raises `TooBusy` at once, without waiting, if there
        is too little.

        Requests that wait for more room while they hold some could block each other forever.
        """
        if size > max(self._size, LARGE) and not self._take(size):
            raise TooBusy

    async def work(self, size: int, do: Callable[[], T]) -> T:
        """Runs `do` and returns its result. If the body is large, waits for a turn and runs `do` in a thread; raises
        `TooBusy` when the wait is too long, or too many requests are waiting already."""
        if size <= LARGE:
            return do()
        if not self._works:
            await self._bodies.turn(self._begin)
        return await asyncio.to_thread(do)

    def leave(self) -> None:
        """Give the room and the turn back."""
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
