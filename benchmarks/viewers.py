"""Open overviews, as many as wanted, in a process of their own: `python -m benchmarks.viewers URL COUNT`.

Each follows the stream on one connection and fetches on another what it says has changed, as static/live.js does: the
counters each time, the charts every 15 s. On bare sockets, because a browser's work is done on its own machine. Prints
``watching`` when all streams are open. Ends when its input closes, with a line of how many fragments were fetched; exit
code 1 when a stream ended or a fragment was refused.
"""

import asyncio
import sys
import time
from urllib.parse import urlsplit

NOW = "/?range=1h&fragment=now"
CHARTS = "/?range=1h&fragment=charts"

CHARTS_EVERY = 15.0
"""Seconds, as the page of the last hour says."""

Pipes = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Viewer:
    """One open page."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self.fetched = 0

    async def open(self) -> Pipes:
        """Its stream, answered."""
        reader, writer = await asyncio.open_connection(self._host, self._port)
        head = await self._ask(reader, writer, "/events?topics=overview", "text/event-stream")
        if not head.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(f"the stream was refused: {head.splitlines()[0].decode()}")
        return reader, writer

    async def watch(self, events: Pipes) -> None:
        """Fetch whatever changes. Raises ``RuntimeError`` when the stream ends or a fragment is refused."""
        pipes = await asyncio.open_connection(self._host, self._port)
        drawn = time.monotonic()
        async for line in events[0]:
            if not line.startswith(b"data: overview"):
                continue
            await self._fetch(pipes, NOW)
            if time.monotonic() - drawn >= CHARTS_EVERY:
                drawn = time.monotonic()
                await self._fetch(pipes, CHARTS)
        raise RuntimeError("the stream ended")

    async def _fetch(self, pipes: Pipes, path: str) -> None:
        head = await self._ask(*pipes, path, "text/html")
        length = next((part for part in head.split(b"\r\n") if part.lower().startswith(b"content-length:")), None)
        if not head.startswith(b"HTTP/1.1 200") or length is None:
            raise RuntimeError(f"{path} was refused: {head.splitlines()[0].decode()}")
        await pipes[0].readexactly(int(length.split(b":")[1]))
        self.fetched += 1

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str, accept: str) -> bytes:
        writer.write(
            f"GET {path} HTTP/1.1\r\nHost: {self._host}:{self._port}\r\nAccept: {accept}\r\n"
            f"Accept-Encoding: gzip\r\nX-Fragment: 1\r\n\r\n".encode()
        )
        return await reader.readuntil(b"\r\n\r\n")


async def _closed() -> None:
    """Until the input of this process is closed."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    await reader.read()


async def _main(url: str, count: int) -> int:
    where = urlsplit(url)
    viewers = [Viewer(where.hostname or "127.0.0.1", where.port or 80) for _ in range(count)]
    opened = await asyncio.gather(*(viewer.open() for viewer in viewers))
    watching = [asyncio.ensure_future(viewer.watch(pipes)) for viewer, pipes in zip(viewers, opened, strict=True)]
    print("watching", flush=True)
    over = asyncio.ensure_future(_closed())
    await asyncio.wait([over, *watching], return_when=asyncio.FIRST_COMPLETED)
    gone = [task.exception() for task in watching if task.done()]
    print(f"{sum(viewer.fetched for viewer in viewers)} fragments", flush=True)
    if gone:
        print(f"{len(gone)} of {count} viewers gave up: {gone[0]!r}", file=sys.stderr)
    for task in (over, *watching):
        task.cancel()
    return int(bool(gone))


if __name__ == "__main__":
    sys.exit(asyncio.run(_main(sys.argv[1], int(sys.argv[2]))))
