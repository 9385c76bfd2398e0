"""Imitates a Redis in a state that the tests cannot bring about in a real one: it answers every command with that state's
error. Otherwise it is a proxy to the real one."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.proxy import Proxy

GREETINGS = (b"AUTH", b"CLIENT", b"SELECT")
"""What a server lets pass also while it refuses everything else."""


class Refusing(Proxy):
    """`says`: the error that connections from now on get, as Redis words it; None: they reach the real one."""

    says: str | None = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.says is None:
            await super()._serve(reader, writer)
            return
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            while line := await reader.readline():
                words = [await self._word(reader) for _ in range(int(line[1:]))]
                answer = "+OK" if words[0].upper() in GREETINGS else f"-{self.says}"
                writer.write(f"{answer}\r\n".encode())
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._connections.discard(task)
            writer.transport.abort()

    async def _word(self, reader: asyncio.StreamReader) -> bytes:
        size = int((await reader.readline())[1:])
        return (await reader.readexactly(size + 2))[:-2]


@asynccontextmanager
async def refusing(url: str) -> AsyncIterator[Refusing]:
    """One that listens."""
    proxy = Refusing(url)
    await proxy.listen()
    try:
        yield proxy
    finally:
        with contextlib.suppress(OSError):
            await proxy.refuse()
