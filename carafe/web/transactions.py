"""The application's own transaction, in which it also enqueues: one commit for its rows and its jobs."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from carafe.database import DISCONNECTED, lost
from carafe.jobs import Client, OutcomeUnknown, Unavailable


@asynccontextmanager
async def transaction(client: Client) -> AsyncIterator[AsyncSession]:
    """A session that commits at the end of the block and rolls back on any error.

    ``await client.enqueue(job, session=session)`` inside it makes the job part of the commit.
    Raises `Unavailable` when Postgres cannot be reached, `OutcomeUnknown` when it is lost while committing. An OSError
    or TimeoutError of the block counts as Postgres's: keep other input and output out of it.
    """
    client.database.require()
    async with client.database.sessions()() as session:
        try:
            yield session
        except DISCONNECTED as error:
            client.database.doubt(error)
            raise Unavailable(error) from error
        except SQLAlchemyError as error:
            if lost(error):
                client.database.doubt(error)
                raise Unavailable(error) from error
            raise
        try:
            await session.commit()
        except DISCONNECTED as error:
            raise OutcomeUnknown(error) from error
        except SQLAlchemyError as error:
            if lost(error):
                raise OutcomeUnknown(error) from error
            raise
