"""A heartbeat compares the jobs that a worker holds with the rows in Postgres, in both directions (docs/design rule 9)."""

from collections.abc import Callable
from uuid import UUID

import pytest

from carafe import Client, State
from carafe.steward.statements import RESCUE
from tests.jobs.by_hand import ByHand, run
from tests.jobs.kinds import Fail, Greet
from tests.steward.conftest import announce, beat


@pytest.fixture(autouse=True)
async def announced(worker: ByHand) -> None:
    await announce(worker)


async def test_when_both_agree_there_is_nothing_to_say(carafe_client: Client, worker: ByHand) -> None:
    jobs = [job.id for job in await carafe_client.enqueue_many([Greet(name="Ada")] * 3)]
    claims = await worker.claim(*jobs[:2])

    assert await beat(worker, *claims) == {"beat": {(worker.id, None)}}


async def test_a_claim_whose_reply_was_lost_is_unheld_and_goes_back(
    carafe_client: Client, worker: ByHand, hinted: Callable[[], list[UUID]]
) -> None:
    held, lost, under_way = [job.id for job in await carafe_client.enqueue_many([Greet(name="Ada")] * 3)]
    claims = {claim.id: claim for claim in await worker.claim(held, lost, under_way)}

    found = await beat(worker, claims[held], claiming=[under_way])

    assert found["unheld"] == {(lost, claims[lost].fence)}
    assert "lost" not in found
    rows = await worker.ledger.hand_back([lost])
    assert [(row["id"], row["state"]) for row in rows] == [(lost, "queued")]
    record = await carafe_client.get(lost)
    assert (record.state, record.attempt, record.releases) == (State.QUEUED, 0, 0)
    assert "unheld" not in await beat(worker, claims[held], claiming=[under_way])


async def test_what_was_claimed_since_the_beat_before_may_still_be_on_its_way(carafe_client: Client, worker: ByHand) -> None:
    job = await carafe_client.enqueue(Greet(name="Ada"))
    [claim] = await worker.claim(job.id)

    assert "unheld" not in await beat(worker, since=claim.row["started_at"])


async def test_only_the_workers_own_rows_are_handed_back(carafe_client: Client, worker: ByHand) -> None:
    job = await carafe_client.enqueue(Greet(name="Ada"))
    await worker.claim(job.id)

    assert await ByHand(carafe_client.database).ledger.hand_back([job.id]) == []

    assert (await carafe_client.get(job.id)).state is State.RUNNING


async def test_what_is_handed_back_and_unwanted_ends_cancelled(carafe_client: Client, worker: ByHand) -> None:
    job = await carafe_client.enqueue(Greet(name="Ada"))
    await worker.claim(job.id)
    await carafe_client.cancel(job.id)

    [row] = await worker.ledger.hand_back([job.id])

    assert (row["state"], row["hinted_at"]) == ("cancelled", None)
    record = await carafe_client.get(job.id)
    assert (record.state, record.attempt) == (State.CANCELLED, 0)


@pytest.mark.parametrize("how", ["rescued", "claimed elsewhere", "claimed again", "ended"])
async def test_what_is_no_longer_its_own_is_lost(carafe_client: Client, worker: ByHand, how: str) -> None:
    job = (await carafe_client.enqueue(Fail())).id
    [claim] = await worker.claim(job)
    other = ByHand(carafe_client.database)
    match how:
        case "rescued":
            await run(worker.database, RESCUE, worker=worker.id, worker_name="", error="", fingerprint="", free_releases=10)
            await announce(worker)
        case "claimed elsewhere":
            await worker.release(claim)
            await other.claim(job)
        case "claimed again":
            await worker.release(claim)
            await worker.claim(job)
        case "ended":
            await worker.succeed(claim)

    found = await beat(worker, claim)

    assert found == {"beat": {(worker.id, None)}, "lost": {(job, claim.fence)}}


async def test_somebody_wants_a_running_job_cancelled(carafe_client: Client, worker: ByHand) -> None:
    one, another = [job.id for job in await carafe_client.enqueue_many([Greet(name="Ada")] * 2)]
    claims = {claim.id: claim for claim in await worker.claim(one, another)}
    other = ByHand(carafe_client.database)
    await announce(other)
    await carafe_client.cancel(one)

    found = await beat(worker, *claims.values())

    assert found == {"beat": {(worker.id, None)}, "cancel": {(one, claims[one].fence)}}
    assert "cancel" not in await beat(other)
