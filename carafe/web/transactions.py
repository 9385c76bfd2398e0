"""The application's own transaction, in which it also enqueues: one commit for its rows and its jobs."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncSession

from carafe.database import DISCONNECTED
from carafe.jobs import Client, OutcomeUnknown, Unavailable

_UNREACHABLE: tuple[type[BaseException], ...] = (PoolTimeout, *DISCONNECTED)


@asynccontextmanager
async def transaction(client: Client) -> AsyncIterator[AsyncSession]:
    """A session that commits at the end of the block and rolls back on any error.

    ``await client.enqueue(job, session=session)`` inside it makes the job part of the commit.
    Raises `Unavailable` when Postgres cannot be reached, `OutcomeUnknown` when it is lost while committing. An OSError
    or TimeoutError of the block counts as Postgres's: keep other input and output out of it.
    """
    async with client.database.sessions()() as session:
        try:
            yield session
        except _UNREACHABLE as error:
            raise Unavailable(error) from error
        except DBAPIError as error:
            if error.connection_invalidated:
                raise Unavailable(error) from error
            raise
        try:
            await session.commit()
        except DISCONNECTED as error:
            raise OutcomeUnknown(error) from error
        except DBAPIError as error:
            if error.connection_invalidated:
                raise OutcomeUnknown(error) from error
            raise
