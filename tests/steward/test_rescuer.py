"""What a dead worker held is given to others, and no living worker is robbed."""

from collections.abc import Callable
from uuid import UUID

import pytest

from carafe.jobs import Client, State
from carafe.steward import Steward
from carafe.steward.rescuer import GAP, ROUNDS
from tests.jobs.by_hand import ByHand, row_of
from tests.jobs.kinds import Fail, Greet
from tests.steward.conftest import announce, beat
from tests.steward.processes import Child
from tests.waiting import eventually

Hinted = Callable[[], list[UUID]]


async def test_a_silent_worker_loses_its_jobs_after_so_many_rounds(
    carafe_client: Client, steward: Steward, worker: ByHand, hinted: Hinted
) -> None:
    await announce(worker)
    jobs = await carafe_client.enqueue_many([Greet(name="Ada"), Greet(name="waits")])
    claims = await worker.claim(jobs[0].id)

    for _ in range(ROUNDS):
        await steward.rescuer.round()
        assert (await carafe_client.get(jobs[0].id)).state is State.RUNNING
    await steward.rescuer.round()

    record = await carafe_client.get(jobs[0].id)
    assert (record.state, record.attempt, record.worker) == (State.QUEUED, 1, None)
    assert (record.attempts[0].cause, record.attempts[0].worker) == ("worker lost", "by hand")
    assert hinted().count(jobs[0].id) == 2
    assert hinted().count(jobs[1].id) == 1
    # The worker comes back: what it held is no longer its own, and it has to announce itself anew.
    assert "beat" not in await beat(worker)
    before = await row_of(carafe_client.database, jobs[0].id)
    await worker.succeed(claims[0])
    assert await row_of(carafe_client.database, jobs[0].id) == before


async def test_a_worker_that_beats_is_never_lost(carafe_client: Client, steward: Steward, worker: ByHand) -> None:
    await announce(worker)
    job = await carafe_client.enqueue(Greet(name="Ada"))
    await worker.claim(job.id)

    for round_number in range(4 * ROUNDS):
        await steward.rescuer.round()
        if round_number % ROUNDS == ROUNDS - 1:
            assert "beat" in await beat(worker)

    assert (await carafe_client.get(job.id)).state is State.RUNNING
    assert steward.rescuer.rescued == 0


async def test_a_job_that_spent_its_last_attempt_so_is_dead(carafe_client: Client, steward: Steward, worker: ByHand) -> None:
    await announce(worker)
    job = await carafe_client.enqueue(Fail())
    for _ in range(2):
        [claim] = await worker.claim(job.id)
        await worker.fail(claim)
        await carafe_client.retry(job.id)
    await worker.claim(job.id)

    for _ in range(ROUNDS + 1):
        await steward.rescuer.round()

    record = await carafe_client.get(job.id)
    assert (record.state, record.attempt) == (State.DEAD, 3)
    assert "worker lost: by hand: no beat since " in str(record.error)
    assert [attempt.cause for attempt in record.attempts] == ["error", "error", "worker lost"]


async def test_a_gap_in_the_rounds_begins_the_count_anew(carafe_client: Client, steward: Steward, worker: ByHand) -> None:
    await announce(worker)
    job = await carafe_client.enqueue(Greet(name="Ada"))
    await worker.claim(job.id)

    for _ in range(2):
        for _ in range(ROUNDS):
            await steward.rescuer.round()
        steward.rescuer._last -= 2 * GAP  # as after an outage, which has silenced everybody
    await steward.rescuer.round()

    assert (await carafe_client.get(job.id)).state is State.RUNNING
    for _ in range(ROUNDS):
        await steward.rescuer.round()
    assert (await carafe_client.get(job.id)).state is State.QUEUED


async def test_only_what_may_have_been_running_is_suspected_and_one_of_several_is_not_charged(
    carafe_client: Client, steward: Steward, worker: ByHand, hinted: Hinted
) -> None:
    await announce(worker, concurrency=2)
    jobs = [job.id for job in await carafe_client.enqueue_many([Fail()] * 4)]
    # By the order of the claims, not of their ids.
    for job in reversed(jobs):
        await worker.claim(job)
    await say_lost(worker)

    await steward.rescuer.round()

    for job in jobs:
        record, row = await carafe_client.get(job), await row_of(carafe_client.database, job)
        assert (record.state, record.attempt, record.releases, record.attempts) == (State.QUEUED, 0, 1, ())
        assert row["suspect"] is (job in jobs[2:])
        assert hinted().count(job) == 2


async def test_one_that_was_running_alone_is_charged(carafe_client: Client, steward: Steward, worker: ByHand) -> None:
    await announce(worker, concurrency=1)
    jobs = [job.id for job in await carafe_client.enqueue_many([Fail()] * 2)]
    for job in jobs:
        await worker.claim(job)
    await say_lost(worker)

    await steward.rescuer.round()

    alone, waiting = [await carafe_client.get(job) for job in jobs]
    assert (alone.attempt, [attempt.cause for attempt in alone.attempts]) == (1, ["worker lost"])
    assert (waiting.attempt, waiting.releases) == (0, 1)


async def test_what_was_never_begun_and_is_unwanted_ends_for_nothing(
    carafe_client: Client, steward: Steward, worker: ByHand
) -> None:
    await announce(worker, concurrency=1)
    begun, waiting = [job.id for job in await carafe_client.enqueue_many([Fail()] * 2)]
    for job in (begun, waiting):
        await worker.claim(job)
        await carafe_client.cancel(job)
    await say_lost(worker)

    await steward.rescuer.round()

    records = [await carafe_client.get(job) for job in (begun, waiting)]
    assert [record.state for record in records] == [State.CANCELLED] * 2
    assert [(record.attempt, len(record.attempts)) for record in records] == [(1, 1), (0, 0)]


@pytest.mark.parametrize("state", ["stopped", "lost"])
async def test_a_worker_that_has_ended_with_a_job_in_hand_is_rescued_at_once(
    carafe_client: Client, steward: Steward, worker: ByHand, state: str
) -> None:
    await announce(worker)
    job = await carafe_client.enqueue(Greet(name="Ada"))
    await worker.claim(job.id)
    await say_lost(worker, state)

    await steward.rescuer.round()

    assert (await carafe_client.get(job.id)).state is State.QUEUED
    assert (await carafe_client.get(job.id)).attempts[0].error == "worker lost: by hand: its process has ended"


async def test_a_worker_whose_process_is_gone_is_rescued_at_once(
    carafe_client: Client, steward: Steward, worker: ByHand, child: Child
) -> None:
    await announce(worker, incarnation=child.incarnation)
    job = await carafe_client.enqueue(Greet(name="Ada"))
    await worker.claim(job.id)
    await steward.rescuer.round()
    assert (await carafe_client.get(job.id)).state is State.RUNNING

    child.kill()
    await eventually(child.is_zombie)
    await steward.rescuer.round()

    record = await carafe_client.get(job.id)
    assert (record.state, record.attempt) == (State.QUEUED, 1)
    assert record.attempts[0].error == "worker lost: by hand: its process is gone"


async def test_a_worker_of_the_same_pod_declares_its_predecessors_lost(
    carafe_client: Client, steward: Steward, worker: ByHand
) -> None:
    elsewhere, next_door, successor = (ByHand(carafe_client.database) for _ in range(3))
    held: dict[ByHand, UUID] = {}
    places = {worker: "pod 1 ", next_door: "pod 11 ", elsewhere: ""}
    for one, pod in places.items():
        await announce(one, incarnation=f"{pod}7 100", pod=pod)
        held[one] = (await carafe_client.enqueue(Greet(name="Ada"))).id
        await one.claim(held[one])

    await announce(successor, incarnation="pod 1 7 200", pod="pod 1 ")
    await steward.rescuer.round()

    states = {one: (await carafe_client.get(job)).state for one, job in held.items()}
    assert states == {worker: State.QUEUED, next_door: State.RUNNING, elsewhere: State.RUNNING}
    assert "beat" not in await beat(worker)
    assert all(["beat" in await beat(one) for one in (next_door, elsewhere, successor)])


async def test_outside_a_pod_nobody_has_predecessors(carafe_client: Client, worker: ByHand) -> None:
    await announce(worker, incarnation="pod 1 7 100", pod="pod 1 ")

    await announce(ByHand(carafe_client.database), incarnation="x", pod="")

    assert "beat" in await beat(worker)


async def test_a_lost_worker_comes_back_by_announcing_itself(carafe_client: Client, worker: ByHand) -> None:
    await announce(worker)
    await say_lost(worker)
    assert "beat" not in await beat(worker)

    await announce(worker)

    assert "beat" in await beat(worker)


async def test_a_lost_worker_is_not_lost_again(carafe_client: Client, steward: Steward, worker: ByHand) -> None:
    await announce(worker)
    job = await carafe_client.enqueue(Greet(name="Ada"))
    await worker.claim(job.id)
    for _ in range(3 * ROUNDS):
        await steward.rescuer.round()

    assert steward.rescuer.rescued == 1
    assert (await carafe_client.get(job.id)).attempt == 1


async def say_lost(worker: ByHand, state: str = "lost") -> None:
    """The worker's row says that it has ended; what it held is still under its name."""
    async with worker.database.connection() as connection:
        await connection.execute("update carafe.workers set state = $2, stopped_at = now() where id = $1", worker.id, state)
