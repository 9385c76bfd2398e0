"""The client for code without an event loop: the same names, the same answers."""

import threading
from collections.abc import Callable
from uuid import UUID

import pytest

from carafe import JobNotFound, NotAllowedInState, State, SyncClient, testing
from tests.jobs.kinds import Greet


def test_it_enqueues_reads_and_acts(carafe_sync_client: SyncClient, hinted: Callable[[], list[UUID]]) -> None:
    client = carafe_sync_client
    accepted = client.enqueue(Greet(name="Ada"), unique_key="k")
    bulk = client.enqueue_many([Greet(name="1"), Greet(name="2")])
    later = client.enqueue(Greet(name="later"), delay=60)

    assert client.enqueue(Greet(name="Ada"), unique_key="k").existing
    assert hinted() == [accepted.id, *(job.id for job in bulk)]
    assert len(client.find(states=[State.QUEUED], kind="tests.greet").jobs) == 3
    assert [(queue.name, queue.queued, queue.scheduled) for queue in client.queues()] == [("default", 3, 1)]
    assert client.cancel(accepted.id, reason="enough").error == "enough"
    assert client.run_now(later.id).state is State.QUEUED
    with pytest.raises(NotAllowedInState, match="is cancelled: it cannot be cancelled"):
        client.cancel(accepted.id)
    with pytest.raises(JobNotFound):
        client.get(UUID(int=1))


def test_waiting_follows_a_job_to_its_end(carafe_sync_client: SyncClient) -> None:
    accepted = carafe_sync_client.enqueue(Greet(name="Ada"))
    with pytest.raises(TimeoutError):
        carafe_sync_client.wait(accepted.id, timeout=0.05)

    with testing.manual(carafe_sync_client) as jobs:
        draining = threading.Thread(target=jobs.drain)
        draining.start()
        record = carafe_sync_client.wait(accepted.id, timeout=10)
        draining.join()

    assert (record.state, record.result) == (State.SUCCEEDED, "hello Ada")


def test_threads_share_it(carafe_sync_client: SyncClient) -> None:
    threads = [threading.Thread(target=carafe_sync_client.enqueue, args=(Greet(name=str(number)),)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(carafe_sync_client.find(limit=50).jobs) == 20


def test_it_cannot_be_used_after_its_end(carafe_database_url: str, carafe_redis_url: str) -> None:
    with SyncClient.connect(database_url=carafe_database_url, redis_url=carafe_redis_url) as client:
        client.enqueue(Greet(name="Ada"))

    with pytest.raises(RuntimeError):
        client.enqueue(Greet(name="Ada"))


def test_a_closed_client_says_so(carafe_database_url: str, carafe_redis_url: str) -> None:
    client = SyncClient.connect(database_url=carafe_database_url, redis_url=carafe_redis_url)
    client.close()
    client.close()

    for call in (lambda: client.enqueue(Greet(name="Ada")), lambda: client.get(UUID(int=1)), client.queues):
        with pytest.raises(RuntimeError, match="this SyncClient is closed: make another one"):
            call()
