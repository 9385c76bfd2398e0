"""The same from Django, Flask or a script: `SyncClient` has the methods of `Client`, without `await`."""

from carafe import Context, Job, State, SyncClient, handler, testing


class Index(Job, kind="tutorial.index"):
    page: str


@handler(Index)
async def index(job: Index, ctx: Context) -> str:
    return f"indexed {job.page}"


def test_a_synchronous_client_enqueues_and_follows(carafe_sync_client: SyncClient) -> None:
    with testing.inline(carafe_sync_client):
        accepted = carafe_sync_client.enqueue(Index(page="/about"))
        record = carafe_sync_client.wait(accepted.id, timeout=10)

    assert record.state is State.SUCCEEDED
    assert record.result == "indexed /about"


def test_what_was_enqueued_can_be_looked_at_before_it_runs(carafe_sync_client: SyncClient) -> None:
    with testing.manual(carafe_sync_client) as jobs:
        carafe_sync_client.enqueue(Index(page="/about"))

        jobs.assert_enqueued(Index, page="/about")
        assert [record.result for record in jobs.drain()] == ["indexed /about"]
