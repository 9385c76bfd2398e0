"""The network between a process and a server: a TCP proxy on a port of its own, which can be cut, stalled, slowed, or told
to lose the reply to something the server has done.

Each process reaches each server through a link of its own, so that any two can be parted. All links live on one loop in
one thread; their methods may be called from any thread.
"""

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable, Coroutine
from typing import Any

HOST = "127.0.0.1"
_CHUNK = 65_536
_IDLE = b"Z\x00\x00\x00\x05I"
"""Postgres's ReadyForQuery outside of a transaction: whatever came before it is committed."""


class Link:
    """One way from one process to one server. Made by `Network.link`."""

    def __init__(self, name: str, upstream: Callable[[], int], committed: bytes | None) -> None:
        self.name = name
        self.port = 0
        self.listener: asyncio.Server | None = None
        self._upstream, self._committed = upstream, committed
        self._loop = asyncio.get_running_loop()
        self._open = asyncio.Event()
        self._open.set()
        self._is_cut = False
        self._delay = 0.0
        self._lose = 0
        self.lost = 0
        self._writers: set[asyncio.StreamWriter] = set()

    # -- from any thread

    def cut(self) -> None:
        """End every connection, and every new one at once, until `heal`."""
        self._loop.call_soon_threadsafe(self._cut)

    def stall(self) -> None:
        """Pass nothing on, both ways, until `heal`: a black hole, whose packets are sent again after it."""
        self._loop.call_soon_threadsafe(self._open.clear)

    def slow(self, delay: float) -> None:
        """Keep each piece back for this many seconds."""
        self._loop.call_soon_threadsafe(setattr, self, "_delay", delay)

    def lose_replies(self, count: int) -> None:
        """Swallow the next `count` replies to what the server has done (committed), and end their connections."""
        self._loop.call_soon_threadsafe(setattr, self, "_lose", count)

    def heal(self) -> None:
        """Let everything through again."""

        def heal() -> None:
            self._is_cut, self._delay, self._lose = False, 0.0, 0
            self._open.set()

        self._loop.call_soon_threadsafe(heal)

    # -- on the loop

    def _cut(self) -> None:
        self._is_cut = True
        for writer in self._writers:
            writer.transport.abort()

    def end(self) -> None:
        """End every connection and take no more."""
        if self.listener is not None:
            self.listener.close()
        self._cut()
        self._open.set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One client connection, to its end."""
        far: asyncio.StreamWriter | None = None
        self._writers.add(writer)
        try:
            await self._open.wait()
            if self._is_cut:
                return
            far_reader, far = await asyncio.open_connection(HOST, self._upstream())
            self._writers.add(far)
            pumps = [
                asyncio.create_task(self._pump(reader, far, replies=False)),
                asyncio.create_task(self._pump(far_reader, writer, replies=True)),
            ]
            try:
                await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for pump in pumps:
                    pump.cancel()
                await asyncio.gather(*pumps, return_exceptions=True)
        except OSError:
            pass  # the server is down: the client sees its connection end
        finally:
            for end in (writer, far):
                if end is not None:
                    self._writers.discard(end)
                    end.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, replies: bool) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(_CHUNK):
                if self._delay:
                    await asyncio.sleep(self._delay)
                await self._open.wait()
                if replies and self._lose and (self._committed is None or self._committed in data):
                    self._lose -= 1
                    self.lost += 1
                    return
                writer.write(data)
                await writer.drain()


class Network:
    """All links, on a loop and thread of their own. A context manager."""

    def __init__(self) -> None:
        self.links: dict[tuple[str, str], Link] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="chaos network", daemon=True)

    def __enter__(self) -> "Network":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        # Closed without having been opened: what stopped the opening is the error that counts.
        if self._thread.is_alive():
            asyncio.run_coroutine_threadsafe(self._end_connections(), self._loop).result(5)
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(5)
        self._loop.close()

    async def _end_connections(self) -> None:
        # A task that outlives its loop is reported in whatever test runs when it is collected.
        for link in self.links.values():
            link.end()
        if serving := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(serving, timeout=2)

    def _run(self, coroutine: Coroutine[Any, Any, Link]) -> Link:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(10)

    def link(self, process: str, server: str, upstream: Callable[[], int]) -> Link:
        """A new link from `process` to `server` ("postgres" or "redis"), whose port `upstream` tells at each connection."""

        async def make() -> Link:
            link = Link(f"{process}-{server}", upstream, _IDLE if server == "postgres" else None)
            listener = socket.create_server((HOST, 0), backlog=256)
            link.listener = await asyncio.start_server(link.serve, sock=listener)
            link.port = listener.getsockname()[1]
            return link

        self.links[process, server] = link = self._run(make())
        return link

    def heal(self) -> None:
        """Heal every link."""
        for link in self.links.values():
            link.heal()
