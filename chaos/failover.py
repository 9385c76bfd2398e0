"""A Postgres that is demoted and comes back, as managed ones do: sessions stay open, answer, and may not write.

After `demote` nothing may be written. After `promote` only connections made from then on may: those that were open stay on
what is, for them, a demoted server, until they are ended. For a moment between the two everybody may write.
"""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

READ_ONLY = "default_transaction_read_only"


@asynccontextmanager
async def _operator(url: str) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    connection = await asyncpg.connect(url, timeout=10, server_settings={"application_name": "chaos operator"})
    try:
        yield connection
    finally:
        await connection.close(timeout=2)


async def demote(url: str) -> None:
    """From now on no session may write, whether it is open or new."""
    async with _operator(url) as connection:
        await connection.execute(f"alter system set {READ_ONLY} = on")
        await connection.execute("select pg_reload_conf()")
    await _until_new_ones_are(url, "on")


async def promote(url: str) -> None:
    """From now on new connections may write, and those that are open now may not. The server must be this machine's."""
    async with _operator(url) as connection:
        old = [
            row["pid"]
            for row in await connection.fetch(
                "select pid from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid()"
            )
        ]
        await connection.execute(f"alter system reset {READ_ONLY}")
        await connection.execute("select pg_reload_conf()")
        await _until_new_ones_are(url, "off")
        # Connections are made from the postmaster's settings; those that are open read the file when they alone are told.
        await connection.execute(f"alter system set {READ_ONLY} = on")
        for pid in old:
            try:
                os.kill(pid, signal.SIGHUP)
            except ProcessLookupError:
                continue


async def forget(url: str) -> None:
    """Nothing of this is left in the server's file, for the day on which it is read again."""
    async with _operator(url) as connection:
        await connection.execute(f"alter system reset {READ_ONLY}")


async def recover(url: str) -> None:
    """Everybody may write again."""
    await forget(url)
    async with _operator(url) as connection:
        await connection.execute("select pg_reload_conf()")
    await _until_new_ones_are(url, "off")


async def _until_new_ones_are(url: str, wanted: str) -> None:
    for _ in range(500):
        async with _operator(url) as connection:
            if await connection.fetchval(f"show {READ_ONLY}") == wanted:
                return
        await asyncio.sleep(0.02)
    raise TimeoutError(f"{READ_ONLY} is not {wanted} after 10 s")
