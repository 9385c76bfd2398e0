"""No statement over live jobs reads more than its batch, whatever the planner believes of the table (docs/plans.md).

What it believes: that the table is empty (it was, at the last ANALYZE: a drain, then a burst), that it is as it is, or that
it is a hundredth of it. Each statement is asked with a plan for its values, with one for any values, and with one for any
values that its connection has kept since before the table was filled. Every database has 28,000 jobs in over 1,000 pages; a
batch is 50.
"""

import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest

from carafe.client.driving import in_thread
from carafe.engine import statements as engine
from carafe.steward import statements as steward
from carafe.store import statements as store
from carafe.store.actions import STATEMENTS
from carafe.store.database import plain_dsn, plan_by_index
from carafe.store.statement import Statement
from carafe.store.statements import CLAIM
from carafe.testing.databases import Databases
from tests.plans.explaining import Cost, Prepared, cost
from tests.plans.population import BATCH, LOST, WORKER, WORKERS, fill, ids, questions

pytestmark = pytest.mark.anyio

ROWS = 30 * BATCH
"""Rows that a statement may read in all steps of its plan; the table alone has twelve times as many."""

BUFFERS = 60 * BATCH
"""Pages that it may read or write, those of indexes and of what it writes elsewhere included."""

SITUATIONS = ("emptied", "new", "full", "grown")

# Without the settings of Carafe's own connections (behind a transaction pooler) the shapes of these alone see to it.
HOT = ("claim", "finish", "cancelled", "fail and retry", "die", "snooze", "release", "hand back", "beat")

READ_WHOLE = {"SAMPLE": "counts every state", "QUEUES": "counts every state"}
"""Statements that read every live job, as what they answer needs it; they are asked for seldom."""

WRITE_ONLY = {"ENQUEUE"}

UP_TO_A_LIMIT = {"BEFORE_IT", "FACTS", "KEY_HOLDER", "LIVE_COUNTS"}
"""Statements that a page asks; `tests/readmodel` bounds them."""


@asynccontextmanager
async def connected(url: str, *, by_index: bool = True) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(plain_dsn(url), server_settings={"jit": "off"})
    try:
        if by_index:
            await plan_by_index(connection)
        yield connection
    finally:
        await connection.close()


async def before(connection: Any, situation: str) -> None:
    """How the table is when the planner last looks at it."""
    await connection.execute("alter table carafe.jobs set (autovacuum_enabled = false)")
    await connection.execute(WORKERS, WORKER, LOST)
    match situation:
        case "emptied":
            # One job near the end of the table keeps its pages: no vacuum truncates them.
            await fill(connection)
            await connection.execute("delete from carafe.jobs where id <> $1", ids("future", 1_000)[-1])
            await connection.execute("delete from carafe.jobs_ended")
            await connection.execute("vacuum carafe.jobs")
        case "full":
            await fill(connection)
        case "grown":
            await fill(connection, 0.01)
    await connection.execute("vacuum analyze carafe.jobs")


async def after(connection: Any, situation: str) -> None:
    """How it is when it is asked."""
    if situation != "full":
        await connection.execute("delete from carafe.jobs")
        await connection.execute("delete from carafe.jobs_ended")
        await fill(connection)


@pytest.fixture(scope="module", params=SITUATIONS)
def situation(request: pytest.FixtureRequest, databases: Databases) -> Iterator[tuple[str, str, dict[str, Cost]]]:
    """Its name, its database, and what the statements cost with plans that were kept since before it was filled."""
    kept: dict[str, Cost] = {}

    async def prepare(url: str) -> None:
        async with connected(url) as connection:
            await before(connection, request.param)
            plans: dict[str, Prepared] = {}
            for statement, values in questions().values():
                if statement.name not in plans:
                    plans[statement.name] = await Prepared(connection, statement, "generic").prepare()
                    await plans[statement.name].cost(values)
            await after(connection, request.param)
            for name, (statement, values) in questions().items():
                kept[name] = await plans[statement.name].cost(values)

    with databases.fresh() as url:
        in_thread(lambda: prepare(url))
        yield request.param, url, kept


def judge(found: dict[str, Cost]) -> None:
    wrong = {name: f"{cost.rows:,.0f} rows, {cost.buffers:,} buffers" for name, cost in found.items() if too_much(cost)}
    assert not wrong


def too_much(cost: Cost) -> bool:
    return cost.rows > ROWS or cost.buffers > BUFFERS


async def test_each_statement_reads_its_batch(situation: tuple[str, str, dict[str, Cost]]) -> None:
    _, url, kept = situation
    async with connected(url) as connection:
        for kind in ("custom", "generic"):
            judge({name: await cost(connection, *question, kind) for name, question in questions().items()})
    judge(kept)


async def test_claims_and_ends_need_no_settings_for_that(situation: tuple[str, str, dict[str, Cost]]) -> None:
    _, url, _ = situation
    async with connected(url, by_index=False) as connection:
        for kind in ("custom", "generic"):
            judge({name: await cost(connection, *questions()[name], kind) for name in HOT})


async def test_every_statement_over_live_jobs_is_asked() -> None:
    asked = {statement.name for statement, _ in questions().values()}
    everywhere = {**vars(store), **vars(steward), **vars(engine), **STATEMENTS}
    over_live_jobs = {
        name
        for name, statement in everywhere.items()
        if isinstance(statement, Statement)
        and re.search(r"(?<!')\bcarafe\.jobs\b(?!_)", statement.text)
        and statement.name not in asked
    }
    assert over_live_jobs == READ_WHOLE.keys() | WRITE_ONLY | UP_TO_A_LIMIT


CLAIM_BY_STATE = Statement("claim_by_state", "", CLAIM.numbered.replace("state || ''", "state"), CLAIM.parameters)
"""As it was: the state is one that an index serves."""


@pytest.mark.parametrize("situation", ["emptied"], indirect=True)
async def test_this_test_sees_a_claim_that_goes_through_the_backlog(
    situation: tuple[str, str, dict[str, Cost]],
) -> None:
    _, url, _ = situation
    async with connected(url, by_index=False) as connection:
        found = await cost(connection, CLAIM_BY_STATE, questions()["claim"][1], "generic")
    assert too_much(found)
