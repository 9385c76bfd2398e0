"""Counts agree with the tables up to ten thousand; above, they are estimates and say so."""

from hashlib import md5

import pytest

from carafe import Client, NewJob
from carafe.jobs.records import Count
from carafe.jobs.states import State
from carafe.readmodel.model import ReadModel
from carafe.steward.gauges import Sampler
from carafe.store.filters import JobFilter
from carafe.store.keyset import FEW
from tests.jobs.by_hand import ByHand
from tests.jobs.kinds import Add, Greet

pytestmark = pytest.mark.anyio


async def table(model: ReadModel, condition: str = "true") -> dict[State, int]:
    """What there is, by state."""
    query = (
        f"select state, count(*) as number from (select state, kind, ended_at, worker, error_class, resolved_at, args, error"
        f" from carafe.jobs_ended union all select j.state, j.kind, j.created_at, j.worker, a.error_class, null, j.args,"
        f" a.error from carafe.jobs j left join carafe.attempts a on a.job_id = j.id) as j where {condition} group by 1"
    )
    async with model._database.connection() as connection:
        return dict.fromkeys(State, 0) | {State(row["state"]): row["number"] for row in await connection.fetch(query)}


CONDITIONS = {
    "": "true",
    "kind=kind.000": "kind = 'kind.000'",
    "kind=kind.030": "kind = 'kind.030'",
    "kind=none": "false",
    "worker=00000000-0000-7000-8000-000000000001": "worker = '00000000-0000-7000-8000-000000000001'",
    "error_class=KeyError": "error_class = 'KeyError'",
    "error_class=None": "false",
    "text=item 77": "error ilike '%item 77%'",
    "args.number=77": "args ->> 'number' = '77'",
    f"kind=kind.000&fingerprint={md5(b'kind.000ConnectTimeout').hexdigest()}": (
        "state = 'dead' and kind = 'kind.000' and error_class = 'ConnectTimeout'"
    ),
    "kind=kind.001&error_class=ConnectTimeout": "kind = 'kind.001' and error_class = 'ConnectTimeout'",
}


@pytest.mark.parametrize("query", CONDITIONS)
async def test_counts_by_state(populated: ReadModel, query: str) -> None:
    wanted = JobFilter.from_query([(name, value) for name, _, value in (part.partition("=") for part in query.split("&"))])
    counts, there = await populated.counts(wanted), await table(populated, CONDITIONS[query])
    assert set(counts) == set(State)
    for state, count in counts.items():
        if count.estimated:
            assert abs(count.number - there[state]) <= 0.15 * there[state] + 50, (state, count, there[state])
        else:
            assert count.number == there[state], state
            # More only where all of a table, or of a kind in it, was walked through within the time.
            assert count.number <= FEW or state in (State.SUCCEEDED, State.DEAD)
    total = await populated.matching(wanted)
    assert total.number == sum(count.number for count in counts.values())


async def test_matching_counts_the_states_that_the_filter_names(populated: ReadModel) -> None:
    there = await table(populated, "kind = 'kind.010'")
    wanted = JobFilter(states=frozenset({State.DEAD, State.RUNNING}), kind="kind.010")
    assert await populated.matching(wanted) == Count(there[State.DEAD] + there[State.RUNNING])


async def test_resolved_tells_dead_jobs_apart(populated: ReadModel) -> None:
    dead = frozenset({State.DEAD})
    numbers = [
        (await populated.matching(JobFilter(dead, kind="kind.002", resolved=resolved))).number
        for resolved in (None, True, False)
    ]
    there = (await table(populated, "kind = 'kind.002' and resolved_at is not null"))[State.DEAD]
    assert numbers[1] == there > 0
    assert numbers[0] == numbers[1] + numbers[2]


async def test_live_jobs_above_ten_thousand_are_as_many_as_the_last_sample_said(
    carafe_client: Client, model: ReadModel, worker: ByHand
) -> None:
    await carafe_client.enqueue_many([Greet(name="Ada")] * 6_000)
    await carafe_client.enqueue_many([Add(a=1, b=2)] * 6_000)
    await Sampler(carafe_client.database).round()
    counts = await model.counts(JobFilter())
    assert counts[State.QUEUED] == Count(12_000, estimated=True)
    assert counts[State.RUNNING] == Count(0)
    assert (await model.counts(JobFilter(kind="tests.add")))[State.QUEUED] == Count(6_000)


@pytest.mark.parametrize("sampled", [True, False])
async def test_scheduled_and_retrying_jobs_are_told_apart_by_the_sample_when_they_are_too_many(
    carafe_client: Client, model: ReadModel, worker: ByHand, sampled: bool
) -> None:
    for _ in range(3):
        await carafe_client.enqueue_many([NewJob(Greet(name="Ada"), delay=3_600.0)] * 7_000)
    [claim] = await worker.claim((await carafe_client.enqueue(Add(a=1, b=2))).id)
    await worker.fail(claim)
    if sampled:
        await Sampler(carafe_client.database).round()
    counts = await model.counts(JobFilter())
    assert (counts[State.SCHEDULED].estimated, counts[State.RETRYING].estimated) == (True, True)
    if sampled:
        assert (counts[State.SCHEDULED].number, counts[State.RETRYING].number) == (21_000, 1)
    else:
        assert counts[State.SCHEDULED].number + counts[State.RETRYING].number > 2 * FEW


async def test_what_is_counted_by_an_index_is_estimated_only_above_ten_thousand(populated: ReadModel) -> None:
    there = await table(populated)
    counts = await populated.counts(JobFilter())
    assert {state for state, count in counts.items() if count.estimated} == {
        state for state, number in there.items() if number > FEW
    }
    assert {State.SUCCEEDED, State.DEAD} <= {state for state, count in counts.items() if count.estimated}
