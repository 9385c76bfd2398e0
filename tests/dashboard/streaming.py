"""Reading a stream of server-sent events."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx


@dataclass(frozen=True)
class Event:
    """One event; a comment has the event ""."""

    event: str
    data: str


class Reader:
    """Events of one stream, in order."""

    def __init__(self, answer: httpx.Response) -> None:
        self.answer = answer
        self._lines = answer.aiter_lines()

    async def next(self) -> Event | None:
        """The next event; None when the stream has ended."""
        name, data = "", ""
        async for line in self._lines:
            if line.startswith(":"):
                data = line[1:].strip()
            elif line.startswith("event: "):
                name = line.removeprefix("event: ")
            elif line.startswith("data: "):
                data = line.removeprefix("data: ")
            elif not line and (name or data):
                return Event(name, data)
        return None

    async def until(self, event: str, data: str | None = None) -> Event:
        """The next event of this name (with this data), whatever comes before it.

        Raises AssertionError when the stream ends without, TimeoutError after 30 s.
        """
        async with asyncio.timeout(30):
            while True:
                found = await self.next()
                assert found is not None, f"the stream ended without {event} {data or ''}"
                if found.event == event and data in (None, found.data):
                    return found


@asynccontextmanager
async def following(http: httpx.AsyncClient, topics: str, root: str = "", **headers: str) -> AsyncIterator[Reader]:
    """A stream of these topics, open for the time of the block."""
    async with http.stream("GET", f"{root}/events?topics={topics}", headers=headers) as answer:
        yield Reader(answer)
