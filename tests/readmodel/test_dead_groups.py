"""Dead letters by kind and fingerprint: every unresolved one is in exactly one group, counted however many there are."""

import pytest

from carafe import Client
from carafe.jobs.records import Count
from carafe.readmodel.dead import DeadLetters
from carafe.readmodel.model import ReadModel
from carafe.readmodel.records import DeadGroup, DeadGroups
from carafe.store.filters import JobFilter
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


def fingerprints(groups: DeadGroups) -> dict[str, DeadGroup]:
    return {group.fingerprint: group for group in groups.groups}


@pytest.mark.parametrize("size", [700, 5_000])
async def test_without_time_a_part_is_counted_each_time_and_the_rest_is_estimated(
    populated: ReadModel, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr("carafe.readmodel.dead.SLICE", size)
    async with populated._database.connection() as connection:
        exact = fingerprints(await DeadLetters(seconds=PATIENT).groups(connection))
        assert max(group.count.number for group in exact.values()) > size, "some should take several looks"
        hurried = DeadLetters(seconds=0.0, patience=0.0)
        known: set[str] = set()
        for _ in range(sum(group.count.number for group in exact.values()) // size + 2):
            found = await hurried.groups(connection)
            assert found.total.estimated
            groups = fingerprints(found)
            assert groups.keys() == exact.keys(), "all are there, counted or not"
            for fingerprint, group in groups.items():
                true = exact[fingerprint]
                assert group.count.number <= true.count.number
                assert group.count.estimated or group.count == true.count
                assert (group.first_at, group.last_at, group.error) == (true.first_at, true.last_at, true.error)
                if fingerprint in known:
                    assert group.count.number == true.count.number, "what was counted once is remembered"
                elif group.count.number == true.count.number:
                    known.add(fingerprint)
        assert known == exact.keys(), "each has had its turn"
        assert fingerprints(await hurried.groups(connection)).keys() == exact.keys()


async def test_a_count_that_was_cut_short_ends_where_it_began(populated: ReadModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("carafe.readmodel.dead.SLICE", 5_000)
    async with populated._database.connection() as connection:
        exact = await DeadLetters(seconds=PATIENT).groups(connection)
        letters = DeadLetters(seconds=0.0, patience=0.0)
        for _ in range(3):
            assert (await letters.groups(connection)).total.estimated
        letters._seconds = letters._patience = PATIENT
        found = await letters.groups(connection)
    assert found.groups == exact.groups
    assert not found.total.estimated


async def test_of_more_groups_than_can_be_told_apart_the_first_in_the_alphabet_are_shown(
    populated: ReadModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("carafe.readmodel.dead.SLICE", 5_000)
    async with populated._database.connection() as connection:
        exact = (await DeadLetters(seconds=PATIENT).groups(connection)).groups
        expected = sorted((group.kind, group.fingerprint) for group in exact)[:7]
        monkeypatch.setattr("carafe.readmodel.dead.GROUPS", 7)
        for letters in (DeadLetters(seconds=PATIENT), DeadLetters(seconds=0.0, patience=0.0)):
            for _ in range(3):
                found = await letters.groups(connection)
                assert sorted((group.kind, group.fingerprint) for group in found.groups) == expected


async def test_without_dead_letters_there_are_no_groups(model: ReadModel) -> None:
    found = await model.dead_groups()
    assert (found.groups, found.total) == ((), Count(0))


@pytest.mark.parametrize("seconds", [PATIENT, 0.0])
async def test_groups_that_come_go_and_change_are_seen(
    carafe_client: Client, model: ReadModel, worker: ByHand, monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    """At the next look; without time a group that has gone is seen when its turn has come."""
    monkeypatch.setattr("carafe.readmodel.dead.SLICE", 2)
    letters = DeadLetters(seconds=seconds, patience=0.0)

    async def die(job: Fail | Greet, error: str) -> None:
        [claim] = await worker.claim((await carafe_client.enqueue(job)).id)
        await worker.fail(claim, final=True, error=error)

    async def now() -> dict[str, tuple[int, str]]:
        async with model._database.connection() as connection:
            return {group.kind: (group.count.number, group.error) for group in (await letters.groups(connection)).groups}

    async def then() -> dict[str, tuple[int, str]]:
        for _ in range(4 if seconds == 0.0 else 0):
            await now()
        return await now()

    assert await now() == {}
    await die(Fail(), "no answer after 1 s")
    assert await now() == {"tests.fail": (1, "no answer after 1 s")}
    await die(Greet(name="Ada"), "who?")
    await die(Fail(), "no answer after 2 s")
    errors = {kind: error for kind, (_, error) in (await now()).items()}
    assert errors == {"tests.fail": "no answer after 2 s", "tests.greet": "who?"}
    assert await then() == {"tests.fail": (2, "no answer after 2 s"), "tests.greet": (1, "who?")}
    for row in (await model.jobs(JobFilter(kind="tests.greet"))).jobs:
        await carafe_client.retry(row.id)
    assert await then() == {"tests.fail": (2, "no answer after 2 s")}
