"""One steward leads at a time, by a lease on Postgres's clock."""

import asyncio
import sys
from asyncio.subprocess import PIPE

import pytest

from carafe import Client
from carafe.jobs.identifiers import uuid7
from carafe.steward import Steward
from carafe.steward.lease import Lease
from carafe.steward.repairer import Repairer
from tests.jobs.by_hand import make_due
from tests.jobs.kinds import Greet
from tests.waiting import eventually


def lease(client: Client, name: str) -> Lease:
    return Lease(client.database, "steward", uuid7(), name)


async def test_of_two_one_leads_and_goes_on_leading(carafe_client: Client) -> None:
    first, second = lease(carafe_client, "first"), lease(carafe_client, "second")

    assert await first.renew()
    assert not await second.renew()
    assert await first.renew()
    assert (first.held, second.held) == (True, False)


async def test_of_many_that_ask_at_once_one_leads(carafe_client: Client) -> None:
    leases = [lease(carafe_client, str(number)) for number in range(8)]

    assert sum(await asyncio.gather(*(each.renew() for each in leases))) == 1


async def test_a_lease_that_was_given_up_is_taken_at_once(carafe_client: Client) -> None:
    first, second = lease(carafe_client, "first"), lease(carafe_client, "second")
    await first.renew()
    await first.release()

    assert await second.renew()
    assert not first.held
    await first.release()  # of no effect on the other's
    assert not await first.renew()


async def test_an_expired_lease_is_taken_over_under_a_new_term(carafe_client: Client) -> None:
    first, second = lease(carafe_client, "first"), lease(carafe_client, "second")
    await first.renew()
    async with carafe_client.database.connection() as connection:
        await connection.execute("update carafe.leases set expires_at = now()")
        assert await second.renew()
        assert not await first.renew()
        assert not first.held
        row = await connection.fetchrow("select holder_name, term from carafe.leases")
        assert tuple(row) == ("second", 2)


async def test_nobody_waits_for_a_leader_whose_process_is_gone(carafe_client: Client) -> None:
    first, second = lease(carafe_client, "first"), lease(carafe_client, "second")
    await first.renew()
    async with carafe_client.database.connection() as connection:
        gone = await asyncio.create_subprocess_exec(
            sys.executable, "-c", "from carafe.process.incarnation import incarnation; print(incarnation())", stdout=PIPE
        )
        said, _ = await gone.communicate()
        for incarnation, taken in (("", False), ("pod 1 1 1", False), (said.decode().strip(), True)):
            await connection.execute("update carafe.leases set incarnation = $1", incarnation)
            assert await second.renew() is taken
        assert not await first.renew()


async def test_a_steward_leads_works_and_hands_over_when_it_stops(carafe_client: Client) -> None:
    stewards = [Steward(carafe_client.database, carafe_client.queue, name=name) for name in ("first", "second")]
    for steward in stewards:
        steward.start()
    try:
        await eventually(lambda: any(steward.leading.is_set() for steward in stewards))
        [leader] = [steward for steward in stewards if steward.leading.is_set()]
        [follower] = [steward for steward in stewards if steward is not leader]
        job = await carafe_client.enqueue(Greet(name="Ada"), delay=60)
        await make_due(carafe_client.database, job.id)

        async def promoted() -> bool:
            return (await carafe_client.get(job.id)).state == "queued"

        await eventually(promoted)
        assert follower.promoter.rounds == 0
        await leader.stop()
        assert await follower.lease.renew()
    finally:
        for steward in stewards:
            await steward.stop()

    async with carafe_client.database.connection() as connection:
        assert await connection.fetchval("select count(*) from carafe.leases where expires_at > now()") == 0


async def test_an_error_that_nobody_foresaw_ends_no_lead(carafe_client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    renew, stumbles = Lease.renew, [True]

    async def once(self: Lease) -> bool:
        if stumbles:
            stumbles.pop()
            raise KeyError("a fault of ours")
        return await renew(self)

    monkeypatch.setattr(Lease, "renew", once)
    monkeypatch.setattr("carafe.steward.steward.FOLLOW", 0.01)
    steward = Steward(carafe_client.database, carafe_client.queue, name="stumbles")
    steward.start()
    try:
        await asyncio.wait_for(steward.leading.wait(), 20)
    finally:
        await steward.stop()


async def test_an_error_that_nobody_foresaw_ends_no_duty(carafe_client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    round_of, stumbles = Repairer.round, [True]

    async def once(self: Repairer) -> None:
        if stumbles:
            stumbles.pop()
            raise KeyError("a fault of ours")
        await round_of(self)

    monkeypatch.setattr(Repairer, "round", once)
    monkeypatch.setattr("carafe.steward.steward.FOLLOW", 0.01)
    steward = Steward(carafe_client.database, carafe_client.queue, name="stumbles")
    steward.start()
    try:
        await asyncio.wait_for(steward.repairer.round_done.wait(), 20)
    finally:
        await steward.stop()
    assert not stumbles
