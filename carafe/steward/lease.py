"""The lease that makes one process the leader: a row in Postgres that this process must renew before it expires, by
Postgres's clock.

A lease needs no session state, so it works behind a transaction pooler. Two leaders for a moment are harmless, since every
service locks the rows that it changes. So it is enough that a leader notices the loss of its lease at the next renewal.
"""

import time
from typing import cast
from uuid import UUID

from carafe.process.incarnation import incarnation, known_gone
from carafe.steward.statements import LEASE, LEASE_HOLDER, LEASE_RELEASE
from carafe.store.database import Connection, Database

RENEW = 3.0
"""Seconds between two renewals of the lease."""

EXPIRE = 10.0
"""Seconds without a renewal after which another process can take the lease."""


class Lease:
    """One process's view of one lease, which has a name. Says whether the process holds the lease, and takes, renews and
    releases it."""

    def __init__(self, database: Database, name: str, holder: UUID, holder_name: str) -> None:
        self._database, self._name, self._holder, self._holder_name = database, name, holder, holder_name
        self._incarnation = incarnation()
        self._valid_until = 0.0

    @property
    def held(self) -> bool:
        """Whether this process holds the lease. This is judged by the process's own clock and with a margin, so that it
        becomes False before another process can take the lease.
        """
        return time.monotonic() < self._valid_until

    async def renew(self) -> bool:
        """Take or renew the lease. Returns whether this process holds it now. Raises what the database raises. If the
        process of the present holder has certainly ended (see carafe.process.incarnation), takes the lease without waiting
        for its expiry.
        """
        began = time.monotonic()
        async with self._database.connection() as connection:
            term = await self._take(connection)
            if term is None:
                holder = await LEASE_HOLDER.fetchrow(connection, name=self._name)
                if holder is not None and known_gone(holder["incarnation"]):
                    await self._end(connection, holder["holder"])
                    term = await self._take(connection)
        self._valid_until = began + EXPIRE - 1 if term is not None else 0.0
        return term is not None

    async def release(self) -> None:
        """Release the lease if this process holds it, so that no other process need wait for its expiry."""
        if self.held:
            self._valid_until = 0.0
            async with self._database.connection() as connection:
                await self._end(connection, self._holder)

    async def _take(self, connection: Connection) -> int | None:
        return cast(
            int | None,
            await LEASE.fetchval(
                connection,
                name=self._name,
                holder=self._holder,
                holder_name=self._holder_name,
                incarnation=self._incarnation,
                ttl=EXPIRE,
            ),
        )

    async def _end(self, connection: Connection, holder: UUID) -> None:
        await LEASE_RELEASE.execute(connection, name=self._name, holder=holder)
