"""An option of a job is declared once, and all code that reads, stores and shows options uses that declaration."""

import inspect
from collections.abc import Callable
from dataclasses import fields
from datetime import UTC, date, datetime, timedelta
from typing import Any, get_type_hints
from uuid import UUID

import orjson
import pytest
import sqlalchemy.ext.asyncio
import sqlalchemy.orm
from sqlalchemy import text

from carafe import (
    Actor,
    BulkInvalid,
    Client,
    InvalidOption,
    Job,
    JobFilter,
    JobRecord,
    Limits,
    NewJob,
    Settings,
    SyncClient,
)
from carafe.cli.commands import enqueue
from carafe.jobs.options import CLASS_OPTIONS, ENQUEUE_OPTIONS, OF_ONE_JOB, STORED, JobOptions
from carafe.store.columns import LISTS
from carafe.store.enqueueing import prepare_one, sample
from carafe.store.statement import statement, with_columns
from carafe.web.models import EnqueueRequest, KindModel
from tests.jobs.kinds import Greet

ADA = Greet(name="Ada")


def test_every_reader_has_every_option() -> None:
    assert set(CLASS_OPTIONS) == {field.name for field in fields(JobOptions)} - {"kind", "version"}
    assert set(CLASS_OPTIONS) <= set(KindModel.model_fields)
    assert set(ENQUEUE_OPTIONS) == set(EnqueueRequest.model_fields) - {"kind", "args"}
    assert set(OF_ONE_JOB) <= {field.name for field in fields(JobRecord)}
    assert all(name == option.column for name, option in OF_ONE_JOB.items())
    assert set(ENQUEUE_OPTIONS) <= set(inspect.signature(enqueue).parameters)


def test_a_client_takes_the_options_by_name_and_type() -> None:
    for client in (Client, SyncClient):
        assert "options" in get_type_hints(client.enqueue, localns=vars(sqlalchemy.ext.asyncio) | vars(sqlalchemy.orm))
    with pytest.raises(TypeError, match="there is no option unique; the options are run_at, delay"):
        NewJob(ADA, unique="x")  # type: ignore[call-arg]


def test_what_the_class_leaves_open_the_limits_say() -> None:
    limits = Limits(timeout=7.0, max_retries=2)
    assert limits.resolve(JobOptions("a", 1)).items() >= {"timeout": 7.0, "max_retries": 2}.items()
    assert limits.resolve(JobOptions("a", 1, timeout=1.5)).items() >= {"timeout": 1.5, "max_retries": 2}.items()
    assert limits.resolve(JobOptions("a", 1)).keys() == CLASS_OPTIONS.keys()
    assert Limits.of(Settings()) == Limits()


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"timeout": 0}, "timeout: must be above 0 and at most 604800 seconds"),
        ({"timeout": timedelta(days=8)}, "timeout: must be above 0 and at most 604800 seconds"),
        ({"timeout": "5m"}, r"timeout: must be seconds: a number or a timedelta \(got '5m'\)"),
        ({"max_retries": -1}, "max_retries: must be from 0 to 1000"),
        ({"max_retries": 1.5}, "max_retries: must be from 0 to 1000"),
    ],
)
def test_a_class_option_out_of_range_is_refused_where_it_stands(options: dict[str, Any], fault: str) -> None:
    with pytest.raises(TypeError, match=f"Refused: {fault}"):
        type("Refused", (Job,), {}, kind="options.refused", **options)


def test_the_row_is_the_same_in_whatever_order_options_are_given() -> None:
    one = prepare_one(NewJob(ADA, delay=5, unique_key="k"), Limits(), idempotency_key="i")
    other = prepare_one(NewJob(ADA, unique_key="k", delay=5, run_at=None), Limits(), idempotency_key="i")
    assert one.digest == other.digest
    assert one.rows[0].partition(",")[2] == other.rows[0].partition(",")[2]
    with pytest.raises(InvalidOption, match="delay: give run_at or delay, not both"):
        prepare_one(NewJob(ADA, delay="soon", run_at="now"), Limits())  # type: ignore[arg-type]


REPORT_ID = UUID(int=1)
AnyFilter: Any = JobFilter
AnyNew: Any = NewJob


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"run_at": "2031-01-01T00:00:00Z"}, "run_at: must be a datetime with a time zone (got '2031-01-01T00:00:00Z')"),
        ({"run_at": date(2031, 1, 1)}, "run_at: must be a datetime with a time zone (got datetime.date(2031, 1, 1))"),
        ({"unique_key": REPORT_ID}, "unique_key: must be a text (got an object of UUID)"),
        ({"unique_key": 5}, "unique_key: must be a text (got 5)"),
        ({"unique_key": b"k"}, "unique_key: must be a text (got b'k')"),
        ({"idempotency_key": REPORT_ID}, "idempotency_key: must be a text (got an object of UUID)"),
        ({"trace": 5}, "trace: must be a text (got 5)"),
        ({"trace": "\0"}, "trace: must be text (it holds a NUL character"),
        ({"created_by": "\0"}, "created_by: must be text (it holds a NUL character"),
        ({"idempotency_key": "k", "scope": 5}, "scope: must be a text (got 5)"),
        ({"by": "me"}, 'by: must be an Actor, as in Actor("ada", "api") (got \'me\')'),
    ],
)
async def test_a_value_of_another_type_is_refused_in_words(
    carafe_client: Client, options: dict[str, Any], fault: str
) -> None:
    with pytest.raises(InvalidOption) as refused:
        await carafe_client.enqueue(ADA, **options)

    assert str(refused.value).startswith(fault)


async def test_a_bulk_names_every_fault_by_its_index(carafe_client: Client) -> None:
    faulty: Any = [ADA, AnyNew(ADA, delay=-1), AnyNew(ADA, run_at="now"), AnyNew(ADA, unique_key=REPORT_ID), "no job"]
    with pytest.raises(BulkInvalid) as refused:
        await carafe_client.enqueue_many(faulty)

    assert [index for index, _ in refused.value.errors] == [1, 2, 3, 4]
    assert len((await carafe_client.find()).jobs) == 0


def test_an_actor_has_a_name_and_came_from_somewhere() -> None:
    for given, fault in ((("me", "nowhere"), "via: must be one of"), ((5, "api"), "name: "), (("\0", "api"), "name: ")):
        with pytest.raises(InvalidOption, match=fault):
            Actor(*given)


@pytest.mark.parametrize(
    ("call", "option"),
    [
        (lambda client: client.find(kind=5), "kind"),
        (lambda client: client.find(limit="5"), "limit"),
        (lambda client: client.find(limit=True), "limit"),
        (lambda client: client.find(since="x"), "since"),
        (lambda client: client.find(until=datetime.now(UTC).replace(tzinfo=None)), "until"),
        (lambda client: client.find("dead"), "wanted"),
        (lambda client: client.find(AnyFilter(worker=5)), "worker"),
        (lambda client: client.find(AnyFilter(argument="x")), "args"),
        (lambda client: client.find(AnyFilter(resolved="yes")), "resolved"),
        (lambda client: client.cancel(REPORT_ID, reason=5), "reason"),
        (lambda client: client.cancel(REPORT_ID, by="me"), "by"),
        (lambda client: client.edit_and_run("x", {}), "job_id"),
        (lambda client: client.drain_worker("x"), "worker_id"),
        (lambda client: client.bulk("x"), "bulk_id"),
        (lambda client: client.bulks("5"), "limit"),
        (lambda client: client.pause_bulk(REPORT_ID, by="me"), "by"),
        (lambda client: client.start_bulk("retry", JobFilter(), by=None), "by"),
        (lambda client: client.start_bulk("retry", JobFilter(), rate="5", by=Actor("me", "api")), "rate"),
        (lambda client: client.pause(5), "queue"),
        (lambda client: client.pause(by="me"), "by"),
    ],
)
async def test_every_call_says_which_of_its_values_has_another_type(
    carafe_client: Client, call: Callable[[Any], Any], option: str
) -> None:
    with pytest.raises(InvalidOption) as refused:
        await call(carafe_client)

    assert refused.value.option == option


def test_a_row_names_what_the_statement_reads() -> None:
    _, row = sample("options.sample")
    said = set(orjson.loads(row))
    assert {option.column for option in CLASS_OPTIONS.values()} <= said
    read = {column.partition(" ")[0] for column in LISTS["given_options"]}
    assert said - {"id", "kind", "args", "secrets", "version"} <= read


async def test_the_lists_are_all_columns_of_both_tables(carafe_client: Client) -> None:
    """A column that a migration adds and no list has would be lost when a job ends."""
    async with carafe_client.database.connection() as connection:
        rows = await connection.fetch(
            "select table_name, column_name from information_schema.columns where table_schema = 'carafe' "
            "and table_name in ('jobs', 'jobs_ended')"
        )
    live, ended = ({row["column_name"] for row in rows if row["table_name"] == table} for table in ("jobs", "jobs_ended"))
    assert set(LISTS["job"]) == live & ended
    assert {option.column for option in STORED.values()} <= live & ended


def test_a_list_is_written_out_and_an_unknown_one_names_its_file() -> None:
    assert with_columns("select {options}", "here").startswith("select timeout, max_attempts, ")
    assert with_columns("select {j.options}", "here").startswith("select j.timeout, j.max_attempts, ")
    assert with_columns("select '{}'", "here") == "select '{}'"
    with pytest.raises(ValueError, match=r"here: \{carred\} is not a list of columns; the lists are carried, .*"):
        with_columns("select {carred}", "here")
    assert "{" not in text(statement("finish", "carafe.store").text).text
