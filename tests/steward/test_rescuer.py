"""The jobs of a dead worker are given to other workers, and no living worker loses a job."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from carafe import Client, State
from carafe.kubernetes.presence import presence_of
from carafe.steward import Steward
from carafe.steward.cluster import pod_row
from carafe.steward.rescuer import GAP, ROUNDS, SURE
from carafe.steward.statements import PODS_REMEMBER
from tests.jobs.by_hand import ByHand, row_of, run
from tests.jobs.kinds import Fail, Greet
from tests.kubernetes.pods import COMPLETED, CREATING, ERROR, OOM, RUNNING, pod
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
    # The worker comes back: what it held is no longer its own, and it has to announce itself again.
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
        await carafe_client.run_now(job.id)
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
        assert (record.state, record.attempt, record.releases) == (State.QUEUED, 0, 1)
        assert record.started_at is None
        assert row["suspect"] is (job in jobs[2:])
        told = [(attempt.cause, attempt.attempt, attempt.summary) for attempt in record.attempts]
        lost = [("interrupted", 1, "its worker was lost, and no attempt is spent")]
        assert told == (lost if job in jobs[2:] else [])
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
    for one, place in places.items():
        await announce(one, incarnation=f"{place}7 100", pod=place)
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


# On Kubernetes

KNOWN = "out of memory: OOMKilled (exit code 137), pod 'carafe-worker-7d9c-x2x4k' on node 'kit'"


def at(state: dict[str, Any], seconds: float) -> dict[str, Any]:
    """The state of a container that ended this many seconds from now."""
    when = datetime.now(UTC) + timedelta(seconds=seconds)
    return {"terminated": {**state["terminated"], "finishedAt": when.strftime("%Y-%m-%dT%H:%M:%SZ")}}


async def tell(client: Client, seen: dict[str, Any], *, gone: bool = False) -> None:
    """The cluster says this of a pod now."""
    await run(
        client.database, PODS_REMEMBER, pods=json.dumps([pod_row(presence_of(seen, gone=gone))], default=datetime.isoformat)
    )


async def in_pod(client: Client, worker: ByHand, uid: str = "u1") -> UUID:
    """The worker runs in a pod, and has a job in hand."""
    await announce(worker, incarnation=f"pod {uid} 7 100", pod=f"pod {uid} ")
    await tell(client, pod(RUNNING, uid=uid))
    job = await client.enqueue(Greet(name="Ada"))
    await worker.claim(job.id)
    return job.id


def just_now(seen: dict[str, Any]) -> dict[str, Any]:
    """The pod, whose container has ended just now if it has."""
    for container in seen["status"].get("containerStatuses", []):
        for which in ("state", "lastState"):
            if "terminated" in container[which]:
                container[which] = at(container[which], 0)
    return seen


@pytest.mark.parametrize(
    ("seen", "gone", "error"),
    [
        (pod(OOM, uid="u1"), False, KNOWN),
        (pod(CREATING, OOM, uid="u1", restarts=1), False, KNOWN),
        (pod(RUNNING, OOM, uid="u1", restarts=1), False, KNOWN),
        (pod(OOM, uid="u1"), True, KNOWN),
        (pod(RUNNING, uid="u1"), True, "Deleted, pod 'carafe-worker-7d9c-x2x4k' on node 'kit'"),
        (
            pod(None, uid="u1", phase="Failed", reason="Evicted", message="The node was low on resource: memory."),
            False,
            "Evicted: The node was low on resource: memory., pod 'carafe-worker-7d9c-x2x4k' on node 'kit'",
        ),
    ],
)
async def test_a_worker_whose_pod_is_known_to_have_ended_is_rescued_at_once_with_the_cause(
    carafe_client: Client, steward: Steward, worker: ByHand, seen: dict[str, Any], gone: bool, error: str
) -> None:
    job = await in_pod(carafe_client, worker)
    await steward.rescuer.round()
    await tell(carafe_client, just_now(seen), gone=gone)

    for _ in range(SURE):
        assert (await carafe_client.get(job)).state is State.RUNNING
        await steward.rescuer.round()

    record = await carafe_client.get(job)
    assert (record.state, record.attempt) == (State.QUEUED, 1)
    assert record.attempts[0].error == f"worker lost: by hand: {error}"


@pytest.mark.parametrize(
    ("seen", "gone"), [(pod(OOM, uid="u1"), False), (pod(RUNNING, uid="u1"), True), (pod(ERROR, uid="u1"), True)]
)
async def test_one_that_beats_is_robbed_of_nothing_whatever_is_said_of_its_pod(
    carafe_client: Client, steward: Steward, worker: ByHand, seen: dict[str, Any], gone: bool
) -> None:
    job = await in_pod(carafe_client, worker)
    await tell(carafe_client, just_now(seen), gone=gone)

    for _ in range(2 * ROUNDS):
        await steward.rescuer.round()
        assert "beat" in await beat(worker)

    assert (await carafe_client.get(job)).state is State.RUNNING


async def test_a_death_of_a_predecessor_is_not_ones_own(carafe_client: Client, steward: Steward, worker: ByHand) -> None:
    await tell(carafe_client, pod(at(OOM, -60), uid="u1"))
    await tell(carafe_client, pod(RUNNING, at(OOM, -60), uid="u1", restarts=1))
    job = await in_pod(carafe_client, worker)
    await tell(carafe_client, pod(RUNNING, at(OOM, -60), uid="u1", restarts=1))

    for _ in range(ROUNDS):
        await steward.rescuer.round()
        assert (await carafe_client.get(job)).state is State.RUNNING
    await steward.rescuer.round()

    # Then it is lost because it is silent, and nobody knows why.
    assert "no beat since" in str((await carafe_client.get(job)).attempts[0].error)


async def test_a_successor_waits_out_what_was_said_before_it_began(
    carafe_client: Client, steward: Steward, worker: ByHand
) -> None:
    await tell(carafe_client, pod(CREATING, at(OOM, -60), uid="u1", restarts=1))
    await announce(worker, incarnation="pod u1 7 200", pod="pod u1 ")
    job = await carafe_client.enqueue(Greet(name="Ada"))
    await worker.claim(job.id)

    for _ in range(ROUNDS):
        await steward.rescuer.round()

    assert (await carafe_client.get(job.id)).state is State.RUNNING


async def test_a_silent_worker_says_what_is_known_of_its_death(
    carafe_client: Client, steward: Steward, worker: ByHand
) -> None:
    job = await in_pod(carafe_client, worker)
    await tell(carafe_client, pod(RUNNING, at(OOM, 0), uid="u1", restarts=1))
    async with carafe_client.database.connection() as connection:
        await connection.execute("update carafe.pods set death_seen_at = now() - interval '10 minutes'")

    for _ in range(ROUNDS + 1):
        await steward.rescuer.round()

    assert (await carafe_client.get(job)).attempts[0].error == f"worker lost: by hand: {KNOWN}"


async def test_when_a_successor_has_declared_it_lost_the_cause_is_waited_for(
    carafe_client: Client, steward: Steward, worker: ByHand
) -> None:
    job = await in_pod(carafe_client, worker)
    await announce(ByHand(carafe_client.database), incarnation="pod u1 7 200", pod="pod u1 ")
    await steward.rescuer.round()
    assert (await carafe_client.get(job)).state is State.RUNNING

    await tell(carafe_client, pod(RUNNING, at(OOM, 0), uid="u1", restarts=1))
    await steward.rescuer.round()

    assert (await carafe_client.get(job)).attempts[0].error == f"worker lost: by hand: {KNOWN}"


async def test_but_not_for_long_nor_where_nobody_watches(carafe_client: Client, steward: Steward, worker: ByHand) -> None:
    job = await in_pod(carafe_client, worker)
    other = ByHand(carafe_client.database)
    unwatched = await in_pod(carafe_client, other, uid="u2")
    async with carafe_client.database.connection() as connection:
        await connection.execute("update carafe.pods set confirmed_at = now() - interval '1 minute' where uid = 'u2'")
    for uid in ("u1", "u2"):
        await announce(ByHand(carafe_client.database), incarnation=f"pod {uid} 7 200", pod=f"pod {uid} ")

    await steward.rescuer.round()
    assert (await carafe_client.get(unwatched)).state is State.QUEUED
    for _ in range(SURE):
        assert (await carafe_client.get(job)).state is State.RUNNING
        await steward.rescuer.round()

    assert (await carafe_client.get(job)).attempts[0].error == "worker lost: by hand: its process has ended"


async def test_deaths_of_one_cause_are_one_group(carafe_client: Client, steward: Steward) -> None:
    jobs: list[UUID] = []
    for number, state in enumerate([OOM, OOM, ERROR, COMPLETED]):
        worker = ByHand(carafe_client.database)
        await announce(worker, incarnation=f"pod u{number} 7 100", pod=f"pod u{number} ")
        job = await carafe_client.enqueue(Fail())
        for _ in range(2):
            [claim] = await worker.claim(job.id)
            await worker.fail(claim)
            await carafe_client.run_now(job.id)
        await worker.claim(job.id)
        await tell(carafe_client, just_now(pod(state, uid=f"u{number}", name=f"worker-{number}")))
        jobs.append(job.id)

    for _ in range(SURE + 1):
        await steward.rescuer.round()

    prints = [(await row_of(carafe_client.database, job))["error_fingerprint"] for job in jobs]
    assert prints[0] == prints[1]
    assert len(set(prints)) == 3
