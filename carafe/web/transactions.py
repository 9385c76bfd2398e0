"""The application's own transaction, in which it also enqueues: one commit for its rows and its jobs."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NoReturn

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from carafe.database import DISCONNECTED, meaning
from carafe.errors import Busy
from carafe.jobs import Client

FAULTS: tuple[type[BaseException], ...] = (*DISCONNECTED, SQLAlchemyError)


@asynccontextmanager
async def transaction(client: Client) -> AsyncIterator[AsyncSession]:
    """A session that commits at the end of the block and rolls back on any error.

    ``await client.enqueue(job, session=session)`` inside it makes the job part of the commit.
    Raises `Unavailable` when Postgres cannot be used, `Busy` when others were in the way for too long, `OutcomeUnknown`
    when it is lost while committing. An OSError or TimeoutError of the block counts as Postgres's: keep other input and
    output out of it.
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
        client.database.doubt(error)
    raise found from error
