"""Which actions are possible in each state: every action is tried in every state and compared with the transition table."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from uuid import UUID

import pytest

from carafe import Client, NotAllowedInState, State
from carafe.engine.claim import Claim
from carafe.jobs.states import TRANSITIONS, legal, mermaid
from carafe.steward.promoter import Promoter
from carafe.steward.statements import RESCUE
from tests.jobs.by_hand import ByHand, make_due, row_of, run
from tests.jobs.kinds import Fail, Greet

FREE = 2
"""Rescues that cost a job nothing, at most."""


class Scene:
    """A job that has been claimed once, in a given state."""

    def __init__(self, client: Client, worker: ByHand) -> None:
        self.client, self.worker = client, worker
        self.job_id: UUID
        self.claim: Claim

    async def set(self, state: State) -> None:
        self.job_id = (await self.client.enqueue(Greet(name="Ada"))).id
        [self.claim] = await self.worker.claim(self.job_id)
        match state:
            case State.SCHEDULED:
                await self.worker.snooze(self.claim)
            case State.QUEUED:
                await self.worker.release(self.claim)
            case State.RETRYING:
                await self.worker.fail(self.claim)
            case State.SUCCEEDED:
                await self.worker.succeed(self.claim)
            case State.DEAD:
                await self.worker.fail(self.claim, final=True)
            case State.CANCELLED:
                await self.worker.cancel(self.claim)
        assert await self.state() is state

    async def state(self) -> State:
        return (await self.client.get(self.job_id)).state

    async def promote(self) -> None:
        await make_due(self.client.database, self.job_id)
        await Promoter(self.client.database, self.client.queue).round()

    async def rescue(self) -> None:
        values = {"worker": self.worker.id, "worker_name": "by hand", "error": "worker lost", "fingerprint": "x"}
        await run(self.client.database, RESCUE, free_releases=FREE, **values)


ACTIONS: dict[str, Callable[[Scene], Awaitable[object]]] = {
    "claim": lambda scene: scene.worker.claim(scene.job_id),
    "return": lambda scene: scene.worker.succeed(scene.claim),
    "error": lambda scene: scene.worker.fail(scene.claim),
    "discard": lambda scene: scene.worker.fail(scene.claim, final=True),
    "stop": lambda scene: scene.worker.cancel(scene.claim),
    "snooze": lambda scene: scene.worker.snooze(scene.claim),
    "release": lambda scene: scene.worker.release(scene.claim),
    "rescue": Scene.rescue,
    "due": Scene.promote,
    "cancel": lambda scene: scene.client.cancel(scene.job_id),
    "retry": lambda scene: scene.client.retry(scene.job_id),
    "run_now": lambda scene: scene.client.run_now(scene.job_id),
}

EXPECTED: dict[State, dict[str, State]] = {
    State.SCHEDULED: {"due": State.QUEUED, "run_now": State.QUEUED, "cancel": State.CANCELLED},
    State.QUEUED: {"claim": State.RUNNING, "cancel": State.CANCELLED},
    State.RUNNING: {
        "return": State.SUCCEEDED,
        "error": State.RETRYING,
        "discard": State.DEAD,
        "stop": State.CANCELLED,
        "snooze": State.SCHEDULED,
        "release": State.QUEUED,
        "rescue": State.QUEUED,
    },
    State.RETRYING: {"due": State.QUEUED, "run_now": State.QUEUED, "cancel": State.CANCELLED},
    State.SUCCEEDED: {},
    State.DEAD: {"retry": State.QUEUED},
    State.CANCELLED: {},
}
"""State, action, and what becomes of the job; what is not here changes nothing."""

REFUSED = {
    "cancel": {State.SUCCEEDED, State.DEAD, State.CANCELLED},
    "retry": set(State) - {State.DEAD},
    "run_now": set(State) - {State.SCHEDULED, State.RETRYING},
}
"""What a client is told that it cannot do. (A running job takes a cancel as a request: it is its worker that ends it.)"""


@pytest.mark.parametrize("state", State)
async def test_each_action_does_what_the_table_says_and_nothing_else(
    carafe_client: Client, worker: ByHand, state: State
) -> None:
    for name, action in ACTIONS.items():
        scene = Scene(carafe_client, worker)
        await scene.set(state)
        before = await row_of(carafe_client.database, scene.job_id)
        if state in REFUSED.get(name, ()):
            with pytest.raises(NotAllowedInState, match=f"is {state}: it cannot be"):
                await action(scene)
        else:
            await action(scene)
        assert await scene.state() is EXPECTED[state].get(name, state), name
        if name not in EXPECTED[state] and name not in ("due", "cancel"):
            assert await row_of(carafe_client.database, scene.job_id) == before, name


async def test_a_rescue_with_no_attempt_left_ends_dead(carafe_client: Client, worker: ByHand) -> None:
    scene = Scene(carafe_client, worker)
    scene.job_id = (await carafe_client.enqueue(Fail())).id
    for _ in range(2):
        [claim] = await worker.claim(scene.job_id)
        await worker.fail(claim)
        await carafe_client.run_now(scene.job_id)
    await worker.claim(scene.job_id)
    await scene.rescue()

    record = await carafe_client.get(scene.job_id)
    assert (record.state, record.attempt, record.error_class) == (State.DEAD, 3, "WorkerLost")
    assert [attempt.cause for attempt in record.attempts] == ["error", "error", "worker lost"]


async def test_a_rescue_makes_a_suspect_which_the_next_ones_do_not_charge_until_there_were_too_many(
    carafe_client: Client, worker: ByHand
) -> None:
    scene = Scene(carafe_client, worker)
    scene.job_id = (await carafe_client.enqueue(Fail())).id

    told: list[tuple[bool, int, int]] = []
    for _ in range(FREE + 2):
        [claim] = await worker.claim(scene.job_id)
        await scene.rescue()
        record = await carafe_client.get(scene.job_id)
        told.append((claim.suspect, record.attempt, record.releases))

    assert told == [(False, 1, 0), (True, 1, 1), (True, 1, 2), (True, 2, 2)]
    [claim] = await worker.claim(scene.job_id)
    await worker.fail(claim)
    record = await carafe_client.get(scene.job_id)
    assert record.state is State.DEAD
    assert [attempt.cause for attempt in record.attempts] == [
        *("worker lost", "interrupted", "interrupted", "worker lost", "error")
    ]


async def test_a_suspect_stays_one_however_it_is_put_back(carafe_client: Client, worker: ByHand) -> None:
    scene = Scene(carafe_client, worker)
    scene.job_id = (await carafe_client.enqueue(Fail())).id
    await worker.claim(scene.job_id)
    await scene.rescue()

    for put_back in (worker.snooze, worker.release, worker.fail):
        [claim] = await worker.claim(scene.job_id)
        assert claim.suspect
        await put_back(claim)
        if await scene.state() is not State.QUEUED:
            await scene.promote()
    assert (await row_of(carafe_client.database, scene.job_id))["suspect"]


@pytest.mark.parametrize("way", ["error", "rescue", "stop", "snooze", "release"])
async def test_a_running_job_that_was_asked_to_stop_ends_cancelled(carafe_client: Client, worker: ByHand, way: str) -> None:
    scene = Scene(carafe_client, worker)
    await scene.set(State.RUNNING)
    asked = await carafe_client.cancel(scene.job_id)
    assert asked.state is State.RUNNING
    assert asked.cancel_requested_at is not None

    await ACTIONS[way](scene)

    record = await carafe_client.get(scene.job_id)
    # To be put back costs nothing, also when it comes to an end by that.
    assert (record.state, record.attempt) == (State.CANCELLED, 0 if way in ("snooze", "release") else 1)


async def test_a_dead_job_retried_keeps_its_past(carafe_client: Client, worker: ByHand) -> None:
    job_id = (await carafe_client.enqueue(Fail())).id
    for _ in range(3):
        [claim] = await worker.claim(job_id)
        await worker.fail(claim)
        if (await carafe_client.get(job_id)).state is State.RETRYING:
            await carafe_client.run_now(job_id)
    dead = await carafe_client.get(job_id)
    assert (dead.state, dead.attempt, dead.max_attempts, len(dead.attempts)) == (State.DEAD, 3, 3, 3)

    retried = await carafe_client.retry(job_id)

    assert (retried.state, retried.attempt, retried.max_attempts, len(retried.attempts)) == (State.QUEUED, 3, 6, 3)
    [claim] = await worker.claim(job_id)
    assert (claim.fence, claim.attempt) == (4, 4)


async def test_a_dead_job_is_not_retried_past_a_live_one_with_its_unique_key(carafe_client: Client, worker: ByHand) -> None:
    first = await carafe_client.enqueue(Greet(name="first"), unique_key="k")
    [claim] = await worker.claim(first.id)
    await worker.fail(claim, final=True)
    await carafe_client.enqueue(Greet(name="second"), unique_key="k")

    with pytest.raises(NotAllowedInState, match="another live job holds its unique key"):
        await carafe_client.retry(first.id)

    assert (await carafe_client.get(first.id)).state is State.DEAD


def test_what_is_tried_here_is_the_whole_table() -> None:
    tried = {(source, target) for source, actions in EXPECTED.items() for target in actions.values()}
    begins = {(None, State.QUEUED), (None, State.SCHEDULED)}

    assert tried | begins == {(move.source, move.target) for move in TRANSITIONS}
    assert all(legal(source, target) for source, target in tried)
    assert not legal(State.SUCCEEDED, State.QUEUED)


def test_the_diagram_in_the_docs_is_the_table() -> None:
    text = (Path(__file__).parents[2] / "docs" / "state_machine.md").read_text()
    _, _, after = text.partition("```mermaid\n")

    assert after.partition("```")[0] == mermaid()
