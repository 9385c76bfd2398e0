"""Enqueueing on a DB-API connection of the caller's own, in its transaction."""

import sqlite3
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg.rows import dict_row, namedtuple_row

from carafe import IdempotencyConflict, InvalidOption, JobNotFound, NewJob, SyncClient
from carafe.store.audit import Actor
from tests.jobs.kinds import Greet

Hinted = Callable[[], list[UUID]]


@pytest.fixture(params=["tuples", "dictionaries", "named tuples, own cursors"])
def connection(request: pytest.FixtureRequest, carafe_database_url: str) -> Iterator["psycopg.Connection[Any]"]:
    """The caller's connection, with rows as the caller likes them."""
    connection: psycopg.Connection[Any] = psycopg.connect(carafe_database_url)
    if request.param == "dictionaries":
        connection.row_factory = dict_row
    elif request.param != "tuples":
        connection.row_factory = namedtuple_row
        connection.cursor_factory = psycopg.RawCursor
    with connection:
        yield connection


def test_the_job_is_part_of_the_transaction_and_hinted_after_its_commit(
    carafe_sync_client: SyncClient, connection: "psycopg.Connection[Any]", hinted: Hinted
) -> None:
    client = carafe_sync_client
    with client.transaction(connection):
        connection.execute("create table orders (id int)")
        accepted = client.enqueue(Greet(name="100% Ada"), connection=connection, by=Actor("ada", "api"))
        bulk = client.enqueue_many([Greet(name="1"), NewJob(Greet(name="2"), delay=60)], connection=connection)
        with pytest.raises(JobNotFound):
            client.get(accepted.id)
        assert hinted() == []

    assert client.get(accepted.id).args == {"name": "100% Ada"}
    assert hinted() == [accepted.id, bulk[0].id]
    assert connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE


def test_an_error_leaves_neither_job_nor_hint(
    carafe_sync_client: SyncClient, connection: "psycopg.Connection[Any]", hinted: Hinted
) -> None:
    client = carafe_sync_client

    def lose() -> None:
        with client.transaction(connection):
            client.enqueue(Greet(name="lost"), connection=connection)
            connection.execute("insert into nowhere values (1)")

    with pytest.raises(psycopg.errors.UndefinedTable):
        lose()
    with client.transaction(connection):
        pass

    assert not client.find().jobs
    assert hinted() == []


def test_a_commit_of_the_callers_own_leaves_the_hint_to_the_steward(
    carafe_sync_client: SyncClient, connection: "psycopg.Connection[Any]", hinted: Hinted
) -> None:
    with connection.transaction():
        accepted = carafe_sync_client.enqueue(Greet(name="Ada"), connection=connection)
    carafe_sync_client.enqueue(Greet(name="lost"), connection=connection)
    connection.rollback()

    assert [job.id for job in carafe_sync_client.find().jobs] == [accepted.id]
    assert hinted() == []


def test_unique_and_idempotency_keys_work_on_a_connection(
    carafe_sync_client: SyncClient, connection: "psycopg.Connection[Any]"
) -> None:
    client = carafe_sync_client
    outside = client.enqueue(Greet(name="Ada"), unique_key="u")
    with client.transaction(connection):
        inside = client.enqueue(Greet(name="Ada"), unique_key="u", connection=connection)
        new = client.enqueue(Greet(name="a"), idempotency_key="i", connection=connection)
    with client.transaction(connection):
        again = client.enqueue(Greet(name="a"), idempotency_key="i", connection=connection)
        with pytest.raises(IdempotencyConflict):
            client.enqueue(Greet(name="b"), idempotency_key="i", connection=connection)

    assert (inside.id, inside.existing) == (outside.id, True)
    assert (again.id, again.replayed) == (new.id, True)


def test_what_is_no_connection_is_refused_before_anything_is_stored(
    carafe_sync_client: SyncClient, carafe_database_url: str
) -> None:
    client = carafe_sync_client
    with psycopg.connect(carafe_database_url, autocommit=True) as by_itself:
        for wrong, words in (
            (5, "must be a DB-API connection to Postgres .got int"),
            (sqlite3.connect(":memory:"), "must be of psycopg, psycopg2 or another driver .* .got .*Connection"),
            (object.__new__(psycopg.AsyncConnection), "must not be an asynchronous one"),
            (by_itself, "is in autocommit mode, outside a transaction: begin one, or leave connection= out"),
        ):
            with pytest.raises(InvalidOption, match=f"connection: {words}"):
                client.enqueue(Greet(name="lost"), connection=wrong)
            with pytest.raises(InvalidOption, match=f"connection: {words}"), client.transaction(wrong):
                pass
        with by_itself.transaction():
            client.enqueue(Greet(name="kept"), connection=by_itself)
        with by_itself.transaction(), pytest.raises(InvalidOption, match="give session or connection, not both"):
            client.enqueue(Greet(name="lost"), connection=by_itself, session=object())  # type: ignore[arg-type]

    assert [job.args["name"] for job in client.find().jobs] == ["kept"]
