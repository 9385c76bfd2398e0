"""How far ahead a job may be scheduled: the limit is the same in every interface."""

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import carafe
from carafe import Client, InvalidOption, NewJob, Retry, Snooze, State
from carafe.engine.progress import progress_values
from carafe.jobs.delays import MAX_DELAY, checked_delay, checked_moment
from carafe.jobs.identifiers import uuid7
from carafe.store.statements import CLAIM, SETTLE
from carafe.telemetry.metrics import BOUNDS
from tests.jobs.kinds import Add

SQL = Path(carafe.__file__).parent

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


NO_NUMBERS: list[Any] = [
    float("nan"),
    Decimal("nan"),
    Decimal("sNaN"),
    "nan",
    "-nan",
    "5",
    b"5",
    True,
    None,
    float("inf"),
    Decimal("inf"),
    "inf",
    10**400,
]


@pytest.mark.parametrize("value", NO_NUMBERS, ids=lambda value: f"{type(value).__name__} {value!s:.14}")
def test_what_is_no_number_is_none_whatever_type_says_it(value: Any) -> None:
    with pytest.raises(InvalidOption, match=r"Snooze\(\): must be a number of seconds up to ten years"):
        Snooze(value)
    if value is not None:
        with pytest.raises(InvalidOption, match=r"Retry\(after=\): must be a number of seconds up to ten years"):
            Retry(after=value)
    with pytest.raises(InvalidOption, match="delay: must be from 0 seconds to ten years"):
        checked_delay(value)


def test_a_refused_number_is_shown_as_it_was_given() -> None:
    given: Any = None
    with pytest.raises(InvalidOption, match=r"\(got None\)"):
        Snooze(given)
    with pytest.raises(InvalidOption, match=r"\(got '5'\)"):
        checked_delay("5")


async def test_a_wait_takes_a_number_too(carafe_client: Client) -> None:
    client: Any = carafe_client
    for timeout in ("5", True, b"5"):
        with pytest.raises(InvalidOption, match="timeout: must be seconds: a number or a timedelta"):
            await client.wait(uuid7(), timeout=timeout)


@pytest.mark.parametrize("fraction", ["0.5", None, True, float("nan"), 1.5])
def test_progress_is_a_number(fraction: Any) -> None:
    with pytest.raises(InvalidOption, match=r"fraction: must be a number from 0 to 1 \(got "):
        progress_values(fraction, "")


def test_what_is_past_is_now() -> None:
    past: Any = Decimal(-5)
    assert (Snooze(past).for_, Snooze(-1e300).for_, Retry(after=1.5).after) == (0.0, 0.0, 1.5)


def test_the_bound_is_the_same_where_a_statement_adds_a_delay() -> None:
    adding = [
        path
        for folder in ("store", "steward", "engine")
        for path in (SQL / folder / "sql").glob("*.sql")
        if re.search(r"\bdue_at\b.*\+|\+ .*\bdelay\b", text := path.read_text())
        and re.search(r"(insert into|update) carafe\.jobs\b", text)
    ]
    assert {path.name for path in adding} >= {"enqueue.sql", "settle.sql"}
    for path in adding:
        assert f"{MAX_DELAY:.0f}) * interval" in " ".join(path.read_text().replace("\n", " ").split()), path.name


@pytest.mark.parametrize("given", [float("inf"), float("nan"), 1e300, -1e300], ids=str)
async def test_no_statement_stores_a_time_beyond_whatever_it_is_given(carafe_client: Client, given: float) -> None:
    """The callers check; this is the last net, without which one row would fail its whole batch."""
    jobs = [await carafe_client.enqueue(Add(a=1, b=2)) for _ in range(2)]
    ids, none = [job.id for job in jobs], [None, None]
    async with carafe_client.database.connection() as connection:
        await connection.execute("update carafe.jobs set timeout = 'infinity' where id = any($1)", ids)
        worker = uuid7()
        fences = [
            row["fence"] for row in await CLAIM.fetch(connection, worker=worker, ids=ids, kinds=[Add.job_options.kind])
        ]
        assert fences == [1, 1]
        await SETTLE.fetch(
            connection,
            ids=ids,
            fences=fences,
            states=["retrying", "scheduled"],
            spends=["attempt", "snooze"],
            causes=["error", None],
            error_classes=["X", None],
            errors=["x", None],
            tracebacks=none,
            fingerprints=["x", None],
            delays=[given, given],
            traces=none,
            worker=worker,
            worker_name="x",
            bounds=BOUNDS,
        )
    for job, state in zip(jobs, (State.RETRYING, State.SCHEDULED), strict=True):
        record = await carafe_client.get(job.id)
        assert record.state is state
        ahead = (record.due_at - datetime.now(UTC)).total_seconds()
        assert -60 <= ahead <= MAX_DELAY
        assert given < 0 or ahead > MAX_DELAY - 60
