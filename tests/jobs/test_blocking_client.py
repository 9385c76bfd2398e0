"""What holds for `Client` holds for `SyncClient`: these tests of the one are run on the other's connections too."""

import inspect
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from carafe import Client, SyncClient
from carafe.client.driving import finished
from tests.jobs import test_acting, test_enqueue, test_idempotency, test_reading
from tests.jobs.kinds import Greet

NOT_HERE = {
    "test_a_job_that_is_claimed_meanwhile_is_asked_to_stop": "two calls at once, which here need two threads",
    "test_an_enqueue_that_stores_nothing_new_is_not_written_down": "an AsyncSession, which a SyncClient refuses",
    "test_of_repeats_in_sessions_of_ones_own_one_stores_row_and_job": "an AsyncSession, which a SyncClient refuses",
}

for module in (test_acting, test_enqueue, test_idempotency, test_reading):
    globals().update(
        {name: test for name, test in vars(module).items() if name.startswith("test_") and name not in NOT_HERE}
    )


class Driven:
    """A `Client`, whose coroutines are driven as a `SyncClient` drives them: one that suspends fails."""

    def __init__(self, client: Client) -> None:
        vars(self)["_client"] = client

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._client, name, value)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._client, name)
        if not inspect.iscoroutinefunction(found):
            return found

        async def call(*given: Any, **named: Any) -> Any:
            return finished(found(*given, **named))

        return call


@pytest.fixture
def sync_client(carafe_database_url: str, carafe_redis_url: str, carafe_modules: None) -> Iterator[SyncClient]:
    with SyncClient.connect(database_url=carafe_database_url, redis_url=carafe_redis_url) as client:
        yield client


@pytest.fixture
def carafe_client(sync_client: SyncClient) -> Driven:
    return Driven(sync_client._client)


def test_where_a_job_is_can_be_asked_without_an_event_loop(sync_client: SyncClient, carafe_database_url: str) -> None:
    job_id = sync_client.enqueue(Greet(name="Ada")).id
    with psycopg.connect(carafe_database_url) as connection:
        connection.execute(
            "update carafe.jobs set state = 'running', fence = 1, worker = gen_random_uuid(), started_at = now()"
            " where id = %s",
            [job_id],
        )
    # Nobody answers for this worker, so the client waits between its looks.
    assert sync_client.stack(job_id, timeout=0.5).answered_at is None


def test_a_kind_can_be_paused_and_resumed_without_an_event_loop(sync_client: SyncClient) -> None:
    kind = Greet.job_options.kind
    assert sync_client.pause_kind(kind, reason="a fix is under way").paused_at is not None
    sync_client.enqueue(Greet(name="Ada"))
    assert [(one.kind, one.held) for one in sync_client.paused_kinds()] == [(kind, 1)]
    assert not sync_client.resume_kind(kind).unchanged
    assert sync_client.paused_kinds() == []
