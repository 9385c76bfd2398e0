"""Postgres's clock is the only one that decides anything (docs/design rule 8): processes may be days off."""

import time
from collections.abc import Callable
from uuid import UUID

import pytest

from carafe import Client, State
from carafe.jobs.identifiers import uuid7
from carafe.steward import Steward
from carafe.steward.lease import Lease
from tests.jobs.by_hand import ByHand, row_of
from tests.jobs.kinds import Greet

DAY = 86_400


@pytest.fixture(params=[-DAY, DAY], ids=["a day behind", "a day ahead"])
def wrong_clock(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """This process, which is client, worker and steward here, has the wrong time."""
    right, right_ns = time.time, time.time_ns
    monkeypatch.setattr(time, "time", lambda: right() + request.param)
    monkeypatch.setattr(time, "time_ns", lambda: right_ns() + request.param * 1_000_000_000)


@pytest.mark.usefixtures("wrong_clock")
async def test_with_a_wrong_clock_jobs_come_due_end_and_expire_all_the_same(
    carafe_client: Client, steward: Steward, worker: ByHand, hinted: Callable[[], list[UUID]]
) -> None:
    now, later = await carafe_client.enqueue(Greet(name="now")), await carafe_client.enqueue(Greet(name="later"), delay=60)
    again = await carafe_client.enqueue(Greet(name="again"), idempotency_key="k", scope="s")

    for service in (steward.promoter, steward.repairer, steward.rescuer, steward.pruner):
        await service.round()

    # Due when Postgres says so: neither a day early nor a day late, and no hint is taken for lost.
    assert hinted() == [now.id, again.id]
    record = await carafe_client.get(later.id)
    assert record.state is State.SCHEDULED
    assert (record.due_at - record.created_at).total_seconds() == 60
    # The key has not expired, deadlines follow from the claim, and what has just ended is not old.
    assert (await carafe_client.enqueue(Greet(name="again"), idempotency_key="k", scope="s")).replayed
    [claim] = await worker.claim(now.id)
    assert (claim.row["deadline_at"] - claim.row["started_at"]).total_seconds() == claim.row["timeout"]
    await worker.succeed(claim)
    await steward.pruner.round()
    ended = await row_of(carafe_client.database, now.id)
    assert (ended["state"], 0 <= (ended["ended_at"] - ended["created_at"]).total_seconds() < DAY / 2) == ("succeeded", True)


@pytest.mark.usefixtures("wrong_clock")
async def test_with_a_wrong_clock_no_lease_is_taken_before_it_expires(carafe_client: Client) -> None:
    leader, other = (Lease(carafe_client.database, "steward", uuid7(), name) for name in ("leader", "other"))
    assert await leader.renew()

    assert not await other.renew()
    assert await leader.renew()
