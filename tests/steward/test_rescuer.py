"""What a dead worker held is given to others, and no living worker is robbed."""

from collections.abc import Callable
from uuid import UUID

from carafe.jobs import Client, State
from carafe.jobs.statements import WORKER_BEAT
from carafe.steward import Steward
from carafe.steward.rescuer import ROUNDS
from tests.jobs.by_hand import ByHand, row_of, run
from tests.jobs.kinds import Fail, Greet
from tests.steward.conftest import announce

Hinted = Callable[[], list[UUID]]


async def beat(worker: ByHand) -> bool:
    """One heartbeat; False when the worker was declared lost."""
    return bool(await run(worker.database, WORKER_BEAT, id=worker.id, state="running"))


async def test_a_silent_worker_loses_its_jobs_after_so_many_rounds(
    carafe_client: Client, steward: Steward, worker: ByHand, hinted: Hinted
) -> None:
    await announce(worker)
    jobs = await carafe_client.enqueue_many([Greet(name="Ada"), Fail(), Greet(name="waits")])
    claims = await worker.claim(jobs[0].id, jobs[1].id)

    for _ in range(ROUNDS):
        await steward.rescuer.round()
        assert (await carafe_client.get(jobs[0].id)).state is State.RUNNING
    await steward.rescuer.round()

    for job in jobs[:2]:
        record = await carafe_client.get(job.id)
        assert (record.state, record.attempt, record.worker) == (State.QUEUED, 1, None)
        assert (record.attempts[0].cause, record.attempts[0].worker) == ("worker lost", "by hand")
        assert hinted().count(job.id) == 2
    assert hinted().count(jobs[2].id) == 1
    # The worker comes back: what it held is no longer its own.
    assert not await beat(worker)
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
            assert await beat(worker)

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
    assert "worker lost: by hand was last heard of at" in str(record.error)
    assert [attempt.cause for attempt in record.attempts] == ["error", "error", "worker lost"]


async def test_a_worker_that_said_goodbye_with_a_job_in_hand_is_rescued_at_once(
    carafe_client: Client, steward: Steward, worker: ByHand
) -> None:
    await announce(worker)
    job = await carafe_client.enqueue(Greet(name="Ada"))
    await worker.claim(job.id)
    async with carafe_client.database.connection() as connection:
        await connection.execute("update carafe.workers set state = 'stopped', stopped_at = now()")

    await steward.rescuer.round()

    assert (await carafe_client.get(job.id)).state is State.QUEUED


async def test_a_lost_worker_is_not_lost_again(carafe_client: Client, steward: Steward, worker: ByHand) -> None:
    await announce(worker)
    job = await carafe_client.enqueue(Greet(name="Ada"))
    await worker.claim(job.id)
    for _ in range(3 * ROUNDS):
        await steward.rescuer.round()

    assert steward.rescuer.rescued == 1
    assert (await carafe_client.get(job.id)).attempt == 1
