"""Dead letters by kind and fingerprint: every unresolved one is in exactly one group, counted however many there are."""

import pytest

from carafe.jobs import Client
from carafe.jobs.filters import JobFilter
from carafe.jobs.records import Count
from carafe.readmodel.dead import DeadLetters
from carafe.readmodel.model import ReadModel
from tests.jobs.by_hand import ByHand
from tests.jobs.kinds import Fail, Greet
from tests.readmodel.conftest import PATIENT

pytestmark = pytest.mark.anyio


async def test_groups_agree_with_the_table(populated: ReadModel) -> None:
    found = await populated.dead_groups()
    async with populated._database.connection() as connection:
        rows = await connection.fetch(
            "select kind, error_fingerprint, count(*) as number, min(ended_at) as first, max(ended_at) as last"
            " from carafe.jobs_dead where resolved_at is null group by 1, 2"
        )
    there = {(row["kind"], row["error_fingerprint"]): (row["number"], row["first"], row["last"]) for row in rows}
    assert {
        (group.kind, group.fingerprint): (group.count.number, group.first_at, group.last_at) for group in found.groups
    } == there
    assert not found.total.estimated
    assert found.total.number == sum(number for number, _, _ in there.values())
    numbers = [group.count.number for group in found.groups]
    assert numbers == sorted(numbers, reverse=True)
    assert max(numbers) > 1_000, "there should be large groups too"


async def test_a_group_has_its_newest_job_as_example_and_none_that_is_resolved(
    carafe_client: Client, model: ReadModel, worker: ByHand
) -> None:
    for number in range(3):
        for job in (Fail(), Greet(name="Ada")):
            [claim] = await worker.claim((await carafe_client.enqueue(job)).id)
            await worker.fail(claim, final=True, error=f"no answer from host {number}")
    async with carafe_client.database.connection() as connection:
        newest = await connection.fetchval(
            "select id from carafe.jobs_dead where kind = 'tests.fail' order by ended_at desc limit 1"
        )
        await connection.execute("update carafe.jobs_dead set resolved_at = now() where kind = 'tests.greet'")
    [group] = (await model.dead_groups()).groups
    assert await model.dead_group(group.kind, group.fingerprint) == group
    assert await model.dead_group("tests.greet", group.fingerprint) is None
    assert (group.kind, group.error_class, group.count) == ("tests.fail", "ValueError", Count(3))
    assert group.error == "no answer from host 2"
    assert str(group.example) == str(newest)


async def test_what_the_budget_does_not_reach_is_estimated_and_counted_the_next_time(populated: ReadModel) -> None:
    async with populated._database.connection() as connection:
        exact = await DeadLetters(seconds=PATIENT).groups(connection)
        large = [group for group in exact.groups if group.count.number > 1_000]
        thrifty = DeadLetters(budget=1, seconds=PATIENT)
        found = exact
        for _ in large:
            found = await thrifty.groups(connection)
            assert sum(not group.count.estimated for group in found.groups if group.count.number > 1_000) == 1
            for group, true in zip(
                sorted(found.groups, key=lambda group: group.fingerprint),
                sorted(exact.groups, key=lambda group: group.fingerprint),
                strict=True,
            ):
                assert group.count.number <= true.count.number
                assert group.count.estimated or group.count == true.count
        assert found.total == Count(exact.total.number, estimated=len(large) > 1)


async def test_without_time_some_are_counted_whole_each_time_and_the_others_are_estimated(
    populated: ReadModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("carafe.readmodel.dead.TOGETHER", 2)
    async with populated._database.connection() as connection:
        exact = {group.fingerprint: group for group in (await DeadLetters(seconds=PATIENT).groups(connection)).groups}
        hurried = DeadLetters(seconds=0.0)
        known: set[str] = set()
        for _ in range(len(exact) + 3):
            groups = (await hurried.groups(connection)).groups
            assert {group.fingerprint for group in groups} == set(exact)
            for group in groups:
                true = exact[group.fingerprint]
                assert group.count.number <= true.count.number
                assert group.count.estimated or group.count == true.count
                assert (group.first_at, group.last_at, group.error) == (true.first_at, true.last_at, true.error)
                if group.fingerprint in known:
                    assert group.count.number == true.count.number, "what was counted once is remembered"
            known |= {group.fingerprint for group in groups if not group.count.estimated}
        assert known == set(exact), "each has had its turn"


async def test_without_dead_letters_there_are_no_groups(model: ReadModel) -> None:
    found = await model.dead_groups()
    assert (found.groups, found.total) == ((), Count(0))


async def test_groups_that_come_go_and_change_are_seen_at_the_next_count(
    carafe_client: Client, model: ReadModel, worker: ByHand
) -> None:
    letters = DeadLetters(seconds=PATIENT)

    async def die(job: Fail | Greet, error: str) -> None:
        [claim] = await worker.claim((await carafe_client.enqueue(job)).id)
        await worker.fail(claim, final=True, error=error)

    async def now() -> dict[str, tuple[int, str]]:
        async with model._database.connection() as connection:
            return {group.kind: (group.count.number, group.error) for group in (await letters.groups(connection)).groups}

    assert await now() == {}
    await die(Fail(), "no answer after 1 s")
    assert await now() == {"tests.fail": (1, "no answer after 1 s")}
    await die(Greet(name="Ada"), "who?")
    await die(Fail(), "no answer after 2 s")
    assert await now() == {"tests.fail": (2, "no answer after 2 s"), "tests.greet": (1, "who?")}
    for row in (await model.jobs(JobFilter(kind="tests.greet"))).jobs:
        await carafe_client.retry(row.id)
    assert await now() == {"tests.fail": (2, "no answer after 2 s")}
