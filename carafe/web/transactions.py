"""A database transaction for an application's routes, in which jobs are enqueued too: one commit stores rows and jobs."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NoReturn

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from carafe import Client
from carafe.errors import Busy
from carafe.store.database import DISCONNECTED, meaning

FAULTS: tuple[type[BaseException], ...] = (*DISCONNECTED, SQLAlchemyError)


@asynccontextmanager
async def transaction(client: Client) -> AsyncIterator[AsyncSession]:
    """Yields a session that commits at the end of the block and rolls back on any error.

    ``await client.enqueue(job, session=session)`` inside the block makes the job part of the commit.

    Raises `Unavailable` when Postgres cannot be used, `Busy` when other transactions hold a lock for too long, and
    `OutcomeUnknown` when the connection is lost during the commit. An OSError or TimeoutError inside the block is treated as
    an error of Postgres, so do no other input or output there.
    """
    client.database.require()
    async with client.database.sessions()() as session:
        try:
            yield session
        except FAULTS as error:
            _raise(client, error, commits=False)
        try:
            await session.commit()
        except FAULTS as error:
            _raise(client, error, commits=True)


def _raise(client: Client, error: BaseException, *, commits: bool) -> NoReturn:
    found = meaning(error, commits=commits)
    if found is None:
        raise error
    client.acceptance.refused(found)
    if not isinstance(found, Busy):
        client.database.mark_suspect(error)
    raise found from error
