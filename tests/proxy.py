"""A TCP proxy between a client and a real server, for faults that only a network has: cuts, silence, refusal.

It runs on the test's own loop, and cuts at a place in the conversation, never at a time.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal
from urllib.parse import urlsplit, urlunsplit

Cut = Literal["before", "after"]


class Proxy:
    """Listens on 127.0.0.1 and forwards to `host`:`port`. `url` is a server's URL by way of this proxy."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        assert parts.port is not None
        self._parts, self._host, self._port = parts, parts.hostname, parts.port
        self._server: asyncio.Server | None = None
        self._listening = 0
        self._connections: set[asyncio.Task[None]] = set()
        self._cut: tuple[Cut, bytes] | None = None
        self._silent = False
        self.accepted = 0
        self.cut = asyncio.Event()

    @property
    def url(self) -> str:
        """The server's URL, by way of this proxy."""
        login = self._parts.netloc.rpartition("@")
        return urlunsplit(self._parts._replace(netloc=f"{login[0]}{login[1]}127.0.0.1:{self._listening}"))

    async def listen(self) -> None:
        """Accept connections, on the same port as before."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._listening)
        self._listening = self._server.sockets[0].getsockname()[1]

    async def refuse(self) -> None:
        """End all connections and accept no others."""
        assert self._server is not None
        self._server.close()
        await self.hang_up()
        await self._server.wait_closed()

    async def hang_up(self) -> None:
        """End all connections."""
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    def fall_silent(self, silent: bool = True) -> None:
        """Accept connections and forward nothing from now on."""
        self._silent = silent

    def cut_at(self, what: bytes, when: Cut) -> None:
        """End the connection on which the client next sends `what`: before the server gets it, or after it has answered,
        with the answer lost. `cut` is set then."""
        self._cut = (when, what)
        self.cut.clear()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        server_writer: asyncio.StreamWriter | None = None
        try:
            server_reader, server_writer = await asyncio.open_connection(self._host, self._port)
            lost = asyncio.Event()  # the answer that comes next
            up = asyncio.create_task(self._forward(reader, server_writer, lost))
            down = asyncio.create_task(self._answer(server_reader, writer, lost))
            _, unfinished = await asyncio.wait([up, down], return_when=asyncio.FIRST_COMPLETED)
            for half in unfinished:
                half.cancel()
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            self._connections.discard(task)
            for stream in (writer, server_writer):
                if stream is not None:
                    stream.transport.abort()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, lost: asyncio.Event) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                while self._silent:
                    await asyncio.Event().wait()
                if self._cut is not None and self._cut[1] in data:
                    when, self._cut = self._cut[0], None
                    if when == "before":
                        self.cut.set()
                        return
                    lost.set()
                writer.write(data)
                await writer.drain()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, lost: asyncio.Event) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                if lost.is_set():
                    self.cut.set()
                    return
                writer.write(data)
                await writer.drain()


@asynccontextmanager
async def proxy_to(url: str) -> AsyncIterator[Proxy]:
    """A listening proxy."""
    proxy = Proxy(url)
    await proxy.listen()
    try:
        yield proxy
    finally:
        await proxy.refuse()
