"""A pod that passes connections on to the web Service: what a test posts goes through the Service, as a client's would.

A forward to this pod (`kubectl port-forward`) outlives every rollout of the web Deployment, where one to a Service sticks
to a single pod. It knows no HTTP and retries nothing, so that it hides no failure.

    python -m tests.cluster.relay LISTEN-PORT HOST PORT
"""

import asyncio
import sys


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
        writer.write_eof()
    except OSError:
        writer.close()


async def relay(port: int, host: str, to_port: int) -> None:
    """Serve for ever."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            inner, outer = await asyncio.open_connection(host, to_port)
        except OSError:
            writer.close()
            return
        try:
            await asyncio.gather(_copy(reader, outer), _copy(inner, writer))
        finally:
            outer.close()
            writer.close()

    server = await asyncio.start_server(connected, "0.0.0.0", port)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(relay(int(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
