"""The same from Django, Flask or a script: `SyncClient` has the methods of `Client`, without `await`."""

from collections.abc import Iterator
from dataclasses import dataclass

import psycopg
from sqlalchemy import text

from carafe import Context, Job, State, SyncClient, SyncContext, handler, testing, worker_lifespan


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


# A handler can be a plain function, too. What its worker's jobs share is made once, in a worker lifespan, and closed when
# the worker has drained. Its own writes and the end of its job are one commit, as for an `async def`.


class Book(Job, kind="tutorial.book_plainly"):
    invoice: int


@dataclass
class Rates:
    of_exchange: int
    closed: bool = False


made: list[Rates] = []


@worker_lifespan
def rates() -> Iterator[Rates]:
    made.append(Rates(of_exchange=100))
    yield made[-1]
    made[-1].closed = True


@handler(Book)
def book(job: Book, ctx: SyncContext) -> None:
    cents = job.invoice * ctx.lifespan(rates).of_exchange
    with ctx.transaction() as session:  # a SQLAlchemy Session
        session.execute(text("insert into booked (cents) values (:cents)"), {"cents": cents})
        ctx.result = list(session.scalars(text("select cents from booked order by cents")))


def test_a_plain_function_shares_what_its_worker_made_and_commits_with_its_job(
    carafe_sync_client: SyncClient, carafe_database_url: str
) -> None:
    with psycopg.connect(carafe_database_url) as connection:
        connection.execute("create table booked (cents int)")
    with testing.manual(carafe_sync_client) as jobs:
        carafe_sync_client.enqueue_many([Book(invoice=1), Book(invoice=2)])
        records = jobs.drain()

    assert [record.result for record in records] == [[100], [100, 200]]
    assert made[-1] == Rates(of_exchange=100, closed=True)
