"""Pages of jobs agree with the tables: what a filter finds, in which order, page after page; and how far a search went."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from benchmarks.population import RARE
from carafe import Client
from carafe.jobs.errors import InvalidOption
from carafe.jobs.states import ENDED, LIVE, State
from carafe.readmodel.model import ReadModel
from carafe.store.filters import JobFilter
from tests.jobs.by_hand import ByHand
from tests.jobs.kinds import Fail, Greet

pytestmark = pytest.mark.anyio

ADA = Greet(name="Ada")


async def every(model: ReadModel, wanted: JobFilter, limit: int = 500, pages: int = 1_000) -> list[UUID]:
    """The ids of all pages, in order."""
    found: list[UUID] = []
    cursor = None
    for _ in range(pages):
        page = await model.jobs(wanted, cursor=cursor, limit=limit)
        found += [row.id for row in page.jobs]
        cursor = page.next_cursor
        if cursor is None:
            return found
    return found


async def ids(model: ReadModel, query: str, *values: Any) -> list[UUID]:
    async with model._database.connection() as connection:
        return [UUID(str(row["id"])) for row in await connection.fetch(query, *values)]


LIVE_ONES, ENDED_ONES = "jobs", "jobs_ended"

SELECTIONS = {
    "state=queued": (LIVE_ONES, "state = 'queued'"),
    "state=running": (LIVE_ONES, "state = 'running'"),
    "state=scheduled&kind=kind.000": (LIVE_ONES, "state = 'scheduled' and kind = 'kind.000'"),
    "state=queued&kind=kind.020": (LIVE_ONES, "state = 'queued' and kind = 'kind.020'"),
    "state=retrying&error_class=ConnectTimeout": (LIVE_ONES, "state = 'retrying'"),
    "state=retrying&error_class=None": (LIVE_ONES, "false"),
    "state=dead&kind=kind.003": (ENDED_ONES, "state = 'dead' and kind = 'kind.003'"),
    "state=dead&resolved=true": (ENDED_ONES, "resolved_at is not null"),
    "state=dead&error_class=KeyError&kind=kind.000": (ENDED_ONES, "error_class = 'KeyError' and kind = 'kind.000'"),
    "state=dead&text=item 77 ": (ENDED_ONES, "error ilike '%item 77%'"),
    "state=cancelled": (ENDED_ONES, "state = 'cancelled'"),
    "state=succeeded&kind=kind.010": (ENDED_ONES, "state = 'succeeded' and kind = 'kind.010'"),
    f"kind={RARE}": (ENDED_ONES, f"kind = '{RARE}'"),
    "state=succeeded&args.number=77": (ENDED_ONES, "state = 'succeeded' and args ->> 'number' = '77'"),
}
ORDER = {LIVE_ONES: "id desc", ENDED_ONES: "ended_at desc, id desc"}


@pytest.mark.parametrize("query", SELECTIONS)
async def test_a_filter_finds_what_the_tables_have_each_once_newest_first(populated: ReadModel, query: str) -> None:
    wanted = JobFilter.from_query([(name, value) for name, _, value in (part.partition("=") for part in query.split("&"))])
    table, condition = SELECTIONS[query]
    there = await ids(populated, f"select id from carafe.{table} where {condition} order by {ORDER[table]}")
    assert await every(populated, wanted) == there


async def test_live_and_ended_jobs_are_merged_by_time(carafe_client: Client, model: ReadModel, worker: ByHand) -> None:
    first, second, third, fourth = [(await carafe_client.enqueue(ADA)).id for _ in range(4)]
    for job_id in (third, first):
        [claim] = await worker.claim(job_id)
        await worker.succeed(claim)
    # The first and the third have ended since; the others were created in between.
    assert await every(model, JobFilter(), limit=1) == [first, third, fourth, second]
    assert await every(model, JobFilter(states=LIVE), limit=1) == [fourth, second]
    assert await every(model, JobFilter(states=ENDED), limit=1) == [first, third]


async def test_a_page_is_not_disturbed_by_jobs_that_come(carafe_client: Client, model: ReadModel) -> None:
    jobs = [(await carafe_client.enqueue(ADA)).id for _ in range(6)]
    page = await model.jobs(JobFilter(), limit=3)
    await carafe_client.enqueue_many([ADA] * 3)
    following = await model.jobs(JobFilter(), cursor=page.next_cursor, limit=3)
    assert [row.id for row in (*page.jobs, *following.jobs)] == jobs[::-1]
    assert following.next_cursor is None


async def test_a_row_tells_of_its_last_failure(carafe_client: Client, model: ReadModel, worker: ByHand) -> None:
    retrying, dead = [(await carafe_client.enqueue(Fail())).id for _ in range(2)]
    claims = {claim.id: claim for claim in await worker.claim(retrying, dead)}
    await worker.fail(claims[retrying], error="\nno answer\nfrom 10.0.0.1")
    await worker.fail(claims[dead], error="x" * 5_000, final=True)
    rows = {row.id: row for row in (await model.jobs(JobFilter())).jobs}
    assert (rows[retrying].error_class, rows[retrying].error) == ("ValueError", "no answer")
    assert rows[dead].error == "x" * 199 + "…"
    assert rows[dead].duration is not None
    assert rows[retrying].duration is None


async def test_a_search_stops_when_its_time_is_over_says_how_far_it_came_and_goes_on_from_there(
    populated: ReadModel,
) -> None:
    impatient = ReadModel(populated._database, trying=0.0)
    wanted = JobFilter(states=frozenset({State.SUCCEEDED}), argument=("number", "100"))
    [there] = await ids(populated, "select id from carafe.jobs_done where args ->> 'number' = '100'")
    found: list[UUID] = []
    reached: list[datetime] = []
    cursor = None
    while True:
        page = await impatient.jobs(wanted, cursor=cursor)
        found += [row.id for row in page.jobs]
        cursor = page.next_cursor
        if page.searched_to is not None:
            reached.append(page.searched_to)
        if cursor is None:
            break
        assert page.jobs or page.searched_to is not None
    assert found == [there]
    assert len(reached) > 10
    assert reached == sorted(reached, reverse=True)


async def test_no_page_tries_more_than_the_newest_hundred_thousand(populated: ReadModel) -> None:
    wanted = JobFilter(states=frozenset({State.SUCCEEDED}), argument=("number", "none"))
    page = await populated.jobs(wanted)
    assert page.searched_to is not None
    async with populated._database.connection() as connection:
        newer = await connection.fetchval("select count(*) from carafe.jobs_done where ended_at >= $1", page.searched_to)
    assert newer == 100_000
    rest = await populated.jobs(wanted, cursor=page.next_cursor)
    assert (rest.next_cursor, rest.searched_to) == (None, None)


async def test_times_bound_the_end_of_ended_jobs_and_the_creation_of_live_ones(populated: ReadModel) -> None:
    now = datetime.now(UTC)
    wanted = JobFilter(since=now - timedelta(hours=3), until=now - timedelta(hours=2))
    expected = await ids(
        populated,
        "select id from carafe.jobs_ended where ended_at >= $1 and ended_at < $2 order by ended_at desc, id desc",
        wanted.since,
        wanted.until,
    )
    assert await every(populated, wanted) == expected
    recent = JobFilter(since=now - timedelta(hours=1), states=LIVE)
    assert await every(populated, recent) == await ids(
        populated, "select id from carafe.jobs where created_at >= $1 order by id desc", recent.since
    )


async def test_a_secret_argument_is_never_found_by_its_value(carafe_client: Client, model: ReadModel) -> None:
    job = await carafe_client.enqueue(ADA)
    by_name = JobFilter(argument=("name", "Ada"))
    assert await every(model, by_name) == [job.id]
    async with carafe_client.database.connection() as connection:
        await connection.execute("update carafe.jobs set secrets = array['/name']")
    assert await every(model, by_name) == []
    assert (await model.matching(by_name)).number == 0


async def test_percent_signs_and_underscores_are_only_text(carafe_client: Client, model: ReadModel, worker: ByHand) -> None:
    jobs = [(await carafe_client.enqueue(Fail())).id for _ in range(2)]
    claims = await worker.claim(*jobs)
    for claim, error in zip(claims, ("100% sure_ly", "100 people surely"), strict=True):
        await worker.fail(claim, final=True, error=error)
    for text in ("100%", "sure_ly", "SURE_LY"):
        assert await every(model, JobFilter(text=text)) == [claims[0].id]
    assert await every(model, JobFilter(text="\\")) == []


@pytest.mark.parametrize("cursor", ["", "x", "AAAA", "LTst", "O3x8eA"])
async def test_what_is_no_cursor_is_refused(model: ReadModel, cursor: str) -> None:
    with pytest.raises(InvalidOption, match=r"^cursor: is not a cursor of this listing"):
        await model.jobs(JobFilter(), cursor=cursor)


@pytest.mark.parametrize("limit", [0, 501])
async def test_a_page_has_1_to_500_jobs(model: ReadModel, limit: int) -> None:
    with pytest.raises(InvalidOption, match=r"^limit: "):
        await model.jobs(JobFilter(), limit=limit)
