"""Leadership: one row in Postgres, taken and renewed on Postgres's clock.

Works behind a transaction pooler (no session state). Two leaders for a moment are harmless, since every service locks the
rows it moves; so losing the lease is noticed at the next renewal, not enforced.
"""

import time
from typing import cast
from uuid import UUID

from carafe.database import Database
from carafe.incarnation import incarnation, known_gone
from carafe.jobs.moves import Connection
from carafe.jobs.statements import LEASE, LEASE_HOLDER, LEASE_RELEASE

RENEW = 3.0
"""Seconds between renewals."""

EXPIRE = 10.0
"""Seconds after which an unrenewed lease can be taken by another."""


class Lease:
    """A named lease, as one process sees it."""

    def __init__(self, database: Database, name: str, holder: UUID, holder_name: str) -> None:
        self._database, self._name, self._holder, self._holder_name = database, name, holder, holder_name
        self._incarnation = incarnation()
        self._valid_until = 0.0

    @property
    def held(self) -> bool:
        """Whether this process leads, by its own clock and with a margin: it stops before another can start."""
        return time.monotonic() < self._valid_until

    async def renew(self) -> bool:
        """Take or renew it; whether it is ours now. Raises what the database raises.

        Nobody waits for a holder whose process is known to be gone (see carafe.incarnation).
        """
        began = time.monotonic()
        async with self._database.connection() as connection:
            term = await self._take(connection)
            if term is None:
                holder = await connection.fetchrow(LEASE_HOLDER.positional, *LEASE_HOLDER.arguments(name=self._name))
                if holder is not None and known_gone(holder["incarnation"]):
                    await self._end(connection, holder["holder"])
                    term = await self._take(connection)
        self._valid_until = began + EXPIRE - 1 if term is not None else 0.0
        return term is not None

    async def release(self) -> None:
        """Give it up, so that another need not wait for its expiry."""
        if self.held:
            self._valid_until = 0.0
            async with self._database.connection() as connection:
                await self._end(connection, self._holder)

    async def _take(self, connection: Connection) -> int | None:
        arguments = LEASE.arguments(
            name=self._name,
            holder=self._holder,
            holder_name=self._holder_name,
            incarnation=self._incarnation,
            ttl=EXPIRE,
        )
        return cast(int | None, await connection.fetchval(LEASE.positional, *arguments))

    async def _end(self, connection: Connection, holder: UUID) -> None:
        await connection.execute(LEASE_RELEASE.positional, *LEASE_RELEASE.arguments(name=self._name, holder=holder))
