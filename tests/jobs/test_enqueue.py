"""Enqueueing: one job, many jobs, a job for later, and at most one live job for a key."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from carafe import BulkInvalid, Client, InvalidOption, Job, Limits, NewJob, PayloadTooLarge, State
from carafe.store.enqueueing import prepare
from tests.jobs.by_hand import ByHand, count, row_of
from tests.jobs.kinds import Fail, Greet, Unhandled

Hinted = Callable[[], list[UUID]]


async def test_an_accepted_job_is_stored_queued_and_hinted(carafe_client: Client, hinted: Hinted) -> None:
    accepted = await carafe_client.enqueue(Greet(name="Ada"), created_by="a test")

    assert accepted.state is State.QUEUED
    assert not accepted.existing
    record = await carafe_client.get(accepted.id)
    assert (record.kind, record.state, record.args) == ("tests.greet", State.QUEUED, {"name": "Ada"})
    assert (record.attempt, record.max_attempts, record.timeout) == (0, 4, 300.0)
    assert record.created_by == "a test"
    assert hinted() == [accepted.id]


async def test_a_job_takes_its_options_from_its_class(carafe_client: Client) -> None:
    record = await carafe_client.get((await carafe_client.enqueue(Fail())).id)

    assert record.max_attempts == 3


async def test_ten_thousand_jobs_go_in_at_once_and_in_order(carafe_client: Client, hinted: Hinted) -> None:
    accepted = await carafe_client.enqueue_many(Greet(name=str(number)) for number in range(10_000))

    ids = [job.id for job in accepted]
    assert ids == sorted(set(ids))
    assert await count(carafe_client.database) == 10_000
    assert (await carafe_client.get(ids[4_321])).args == {"name": "4321"}
    assert hinted() == ids


async def test_an_empty_bulk_is_nothing(carafe_client: Client) -> None:
    assert await carafe_client.enqueue_many([]) == []


async def test_a_bulk_is_all_or_nothing_and_names_each_fault(carafe_client: Client, hinted: Hinted) -> None:
    jobs: list[Job | NewJob] = [
        Greet(name="fine"),
        Greet(name="x" * 300_000),
        NewJob(Greet(name="fine"), delay=-1),
        Greet(name="nul \0"),
        NewJob(Greet(name="fine"), unique_key=""),
    ]
    with pytest.raises(BulkInvalid) as raised:
        await carafe_client.enqueue_many(jobs)

    assert [(index, error.code) for index, error in raised.value.errors] == [
        (1, "payload-too-large"),
        (2, "invalid-option"),
        (3, "invalid-arguments"),
        (4, "invalid-option"),
    ]
    assert "4 of 5" in str(raised.value)
    assert await count(carafe_client.database) == 0
    assert hinted() == []


async def test_a_bulk_over_the_limit_is_refused_whole(carafe_client: Client) -> None:
    with pytest.raises(InvalidOption, match="at most 10000"):
        await carafe_client.enqueue_many([Unhandled()] * 10_001)

    assert await count(carafe_client.database) == 0


async def test_a_job_for_later_is_scheduled_and_not_hinted(carafe_client: Client, hinted: Hinted) -> None:
    moment = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=1)
    at = await carafe_client.enqueue(Greet(name="at"), run_at=moment)
    after = await carafe_client.enqueue(Greet(name="after"), delay=timedelta(minutes=2))

    assert (at.state, after.state) == (State.SCHEDULED, State.SCHEDULED)
    assert (await carafe_client.get(at.id)).due_at == moment
    record = await carafe_client.get(after.id)
    assert record.due_at - record.created_at == timedelta(minutes=2)
    assert hinted() == []


async def test_a_time_in_the_past_means_now(carafe_client: Client, hinted: Hinted) -> None:
    accepted = await carafe_client.enqueue(Greet(name="late"), run_at=datetime(2020, 1, 1, tzinfo=UTC))

    assert accepted.state is State.QUEUED
    record = await carafe_client.get(accepted.id)
    assert record.due_at == record.created_at
    assert hinted() == [accepted.id]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"run_at": datetime(2030, 1, 1)}, "time zone"),  # noqa: DTZ001
        ({"run_at": datetime(2030, 1, 1, tzinfo=UTC), "delay": 1}, "not both"),
        ({"run_at": datetime(9999, 12, 31, 23, 59, tzinfo=UTC)}, "ten years"),
        ({"delay": -1}, "0 seconds to ten years"),
        ({"delay": float("nan")}, "0 seconds to ten years"),
        ({"delay": float("inf")}, "0 seconds to ten years"),
        ({"unique_key": ""}, "1 to 500 printable"),
        ({"unique_key": "a\0b"}, "1 to 500 printable"),
        ({"unique_key": "k" * 501}, "1 to 500 printable"),
        ({"idempotency_key": "\n"}, "1 to 500 printable"),
    ],
)
async def test_options_that_cannot_be_are_refused(carafe_client: Client, options: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidOption, match=message):
        await carafe_client.enqueue(Greet(name="x"), **options)  # type: ignore[arg-type]

    assert await count(carafe_client.database) == 0


async def test_arguments_over_the_limit_are_refused_in_bytes(carafe_client: Client) -> None:
    carafe_client.limits = Limits(args_bytes=1_000)
    name = "é" * 494  # two bytes each, with {"name":""} exactly 999
    await carafe_client.enqueue(Greet(name=name))

    with pytest.raises(PayloadTooLarge, match=r"1,001 bytes of JSON; the limit is 1,000 \(JOB_ARGS_LIMIT\)"):
        await carafe_client.enqueue(Greet(name=name + "é"))


async def test_a_job_class_without_a_kind_cannot_be_enqueued(carafe_client: Client) -> None:
    class Parent(Job):
        pass

    with pytest.raises(InvalidOption, match="declares no kind"):
        await carafe_client.enqueue(Parent())


async def test_a_unique_key_has_one_live_job(carafe_client: Client, hinted: Hinted) -> None:
    first = await carafe_client.enqueue(Greet(name="first"), unique_key="report")
    second = await carafe_client.enqueue(Greet(name="second"), unique_key="report")

    assert (second.id, second.existing) == (first.id, True)
    assert (await carafe_client.get(first.id)).args == {"name": "first"}
    assert hinted() == [first.id]


async def test_of_fifty_callers_with_one_unique_key_one_gets_a_job(carafe_client: Client) -> None:
    answers = await asyncio.gather(
        *(carafe_client.enqueue(Greet(name=str(number)), unique_key="one") for number in range(50))
    )

    assert len({answer.id for answer in answers}) == 1
    assert sorted(answer.existing for answer in answers) == [False] + [True] * 49
    assert await count(carafe_client.database) == 1


async def test_bulks_that_share_unique_keys_do_not_deadlock(carafe_client: Client) -> None:
    keys = [f"key {number}" for number in range(50)]
    bulks = [[NewJob(Greet(name=key), unique_key=key) for key in order] for order in (keys, keys[::-1])] * 5

    answers = await asyncio.gather(*map(carafe_client.enqueue_many, bulks))

    holders = [
        {new.options["unique_key"]: answer.id for new, answer in zip(bulk, answered, strict=True)}
        for bulk, answered in zip(bulks, answers, strict=True)
    ]
    assert all(found == holders[0] for found in holders)
    assert await count(carafe_client.database) == 50


async def test_a_bulk_can_repeat_a_unique_key_of_its_own(carafe_client: Client) -> None:
    answers = await carafe_client.enqueue_many(
        [NewJob(Greet(name="a"), unique_key="k"), Greet(name="b"), NewJob(Greet(name="c"), unique_key="k")]
    )

    assert answers[0].id == answers[2].id
    assert [answer.existing for answer in answers] == [False, False, True]


async def test_a_unique_key_is_free_again_after_the_end(carafe_client: Client, worker: ByHand) -> None:
    first = await carafe_client.enqueue(Greet(name="first"), unique_key="report")
    [claim] = await worker.claim(first.id)
    assert (await carafe_client.enqueue(Greet(name="while it runs"), unique_key="report")).id == first.id
    await worker.succeed(claim)

    second = await carafe_client.enqueue(Greet(name="second"), unique_key="report")

    assert second.id != first.id
    assert not second.existing
    assert (await row_of(carafe_client.database, first.id))["state"] == "succeeded"


def test_ids_are_in_order_across_bulks_and_threads() -> None:
    first = prepare([Unhandled()] * 1_000, Limits()).ids
    second = prepare([Unhandled()] * 1_000, Limits()).ids

    assert first + second == sorted({*first, *second})
    assert {job_id.version for job_id in first} == {7}
