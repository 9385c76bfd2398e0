"""How far ahead a job may be put off: the same bound for every way in."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from carafe.jobs import Client, InvalidOption, NewJob
from carafe.jobs.delays import MAX_DELAY, checked_delay, checked_moment
from tests.jobs.kinds import Add

DELAYS: list[Any] = [
    float("nan"),
    float("inf"),
    float("-inf"),
    -1,
    1e12,
    MAX_DELAY + 1,
    timedelta.max,
    10**400,
    "soon",
    None,
]


@pytest.mark.parametrize("delay", DELAYS, ids=lambda delay: str(delay)[:20])
def test_a_delay_beyond_ten_years_is_refused_in_words(delay: Any) -> None:
    with pytest.raises(InvalidOption, match="after: must be from 0 seconds to ten years"):
        checked_delay(delay, "after")


LATER = datetime(2030, 1, 1, tzinfo=UTC)


def test_a_delay_within_is_seconds() -> None:
    assert [checked_delay(delay) for delay in (0, 1.5, timedelta(minutes=1), MAX_DELAY)] == [0.0, 1.5, 60.0, MAX_DELAY]


@pytest.mark.parametrize(
    "moment", [LATER.replace(tzinfo=None), datetime.max.replace(tzinfo=UTC), datetime.now(UTC) + timedelta(days=3_700)]
)
def test_a_moment_beyond_is_too(moment: datetime) -> None:
    with pytest.raises(InvalidOption, match="run_at: "):
        checked_moment(moment)


async def test_every_entry_of_the_client_has_the_bound(carafe_client: Client) -> None:
    beyond = datetime.now(UTC) + timedelta(days=3_700)
    job = Add(a=1, b=2)
    accepted = await carafe_client.enqueue(job)
    for options in ({"delay": 1e12}, {"delay": float("nan")}, {"run_at": beyond}):
        with pytest.raises(InvalidOption, match=r"ten years"):
            await carafe_client.enqueue(job, **options)
        with pytest.raises(Exception, match=r"ten years"):
            await carafe_client.enqueue_many([NewJob(job, **options)])
    with pytest.raises(InvalidOption, match=r"ten years"):
        await carafe_client.edit_and_run(accepted.id, {"a": 1, "b": 2}, run_at=beyond)
    assert len((await carafe_client.find()).jobs) == 1
