"""The texts that say why Postgres cannot be used name the problem and the setting, and never a password."""

import asyncio

import asyncpg
import pytest

from carafe.errors import Busy, OutcomeUnknown, Unavailable
from carafe.postgres_away import details, words
from carafe.postgres_url import NotWritable, connect
from carafe.store.database import Refused


async def test_the_host_and_the_drivers_own_sentence_are_in_the_details() -> None:
    with pytest.raises(OSError, match="Connect call failed") as raised:
        await connect("postgresql://ana:hunter2@127.0.0.1:1/x")
    error = Unavailable(raised.value)
    assert str(error) == "the database cannot be reached; nothing was changed, try again"
    assert "Connect call failed" in details(error)
    assert "(DATABASE_URL, host 127.0.0.1:1)" in details(error)
    assert "hunter2" not in details(error)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (asyncpg.DiskFullError("x"), "is full: no space is left on its disk"),
        (NotWritable(), "does not accept writes: it is a standby, or read-only"),
        (asyncpg.LockNotAvailableError("x"), "is locked: another session has held a lock that this needs for too long"),
        (ConnectionError("rejected SSL upgrade"), "cannot be reached"),
        (TimeoutError(), "has not answered in time"),
    ],
)
def test_each_error_has_its_words_whatever_it_is_wrapped_in(error: Exception, said: str) -> None:
    assert words(error) == words(Unavailable(error)) == words(Busy(Unavailable(error))) == said
    assert str(Unavailable(error)).startswith(f"the database {said};")


async def test_a_deadline_is_not_told_as_a_cancellation() -> None:
    with pytest.raises(TimeoutError) as raised:
        async with asyncio.timeout(0):
            await asyncio.Event().wait()
    assert details(Unavailable(raised.value)) == "TimeoutError"


def test_a_refused_connection_says_what_is_wrong_with_it() -> None:
    error = Refused("x")
    error.__cause__ = asyncpg.InvalidPasswordError("x")
    assert words(error) == "does not accept the user and password of DATABASE_URL"


def test_an_answer_that_did_not_come_is_not_called_a_lost_connection() -> None:
    assert "has not answered in time at the commit" in str(OutcomeUnknown(TimeoutError()))
    assert "the connection was lost at the commit" in str(OutcomeUnknown(ConnectionResetError()))
