"""How Postgres answers the read model: no statement scans the ended jobs, none reads above 100,000 rows.

Every method is called on a populated database, with filters common, rare and empty, page after page; each statement that
this sends is explained with its own values, on the same read-only connection.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest

from benchmarks.population import RARE
from carafe.jobs.states import State
from carafe.readmodel import statements
from carafe.readmodel.dead import DeadLetters
from carafe.readmodel.model import ReadModel
from carafe.store.bounded_scan import LARGEST
from carafe.store.cursors import Position
from carafe.store.database import Database
from carafe.store.error_classes import MOST, whole_class
from carafe.store.filters import JobFilter
from carafe.store.keyset import Query, walk_of
from carafe.store.statement import Statement
from carafe.store.statements import (
    BEFORE_IT,
    DEAD_ERROR_CLASSES,
    DEAD_SAMPLED,
    ENDED_IN_STATISTICS,
    FACTS,
    GET,
    KEY_HOLDER,
    LAST_ERRORS,
    LIVE_COUNTS,
    NOW,
)
from tests.readmodel.conftest import PATIENT

pytestmark = pytest.mark.anyio

READ = 100_000
"""Rows that one statement may read."""

WHOLE = 2 * LARGEST
"""Rows of a small day that may be read one after the other: the planner does so while a window takes in most of the day, up
to some 25,000 rows. How many rows the first and the last day have follows from the hour at which the test runs."""

WORKER = "00000000-0000-7000-8000-000000000001"

FILTERS = [
    [],
    *[[("state", state.value)] for state in State],
    [("state", "queued"), ("state", "running")],
    [("state", "succeeded"), ("state", "cancelled")],
    [("state", "succeeded"), ("state", "dead")],
    [("kind", "kind.000")],
    [("kind", "kind.039")],
    [("kind", RARE)],
    [("kind", "none")],
    [("state", "queued"), ("kind", "kind.000")],
    [("state", "running"), ("kind", "kind.000")],
    [("state", "scheduled"), ("kind", "none")],
    [("state", "succeeded"), ("kind", RARE)],
    [("state", "succeeded"), ("kind", "kind.000")],
    [("state", "cancelled"), ("kind", "kind.039")],
    [("state", "dead"), ("kind", "kind.000")],
    [("state", "dead"), ("resolved", "false")],
    [("state", "dead"), ("resolved", "true")],
    [("resolved", "false")],
    [("state", "dead"), ("kind", "kind.000"), ("resolved", "false")],
    [("state", "dead"), ("error_class", "KeyError")],
    [("state", "dead"), ("error_class", "None")],
    [("error_class", "KeyError")],
    [("error_class", "None")],
    [("state", "dead"), ("error_class", "KeyError"), ("resolved", "false")],
    [("state", "dead"), ("error_class", "KeyError"), ("since", "{day}")],
    [("state", "retrying"), ("error_class", "ConnectTimeout")],
    [("state", "dead"), ("fingerprint", "none")],
    [("state", "dead"), ("kind", "none"), ("fingerprint", "none")],
    [("text", "item 77")],
    [("text", "nowhere")],
    [("state", "dead"), ("text", "nowhere")],
    [("args.number", "77")],
    [("args.briefing_id", "needle")],
    [("args.briefing_id", "none"), ("kind", "kind.000")],
    [("worker", WORKER)],
    [("state", "running"), ("worker", WORKER)],
    [("worker", "00000000-0000-7000-8000-00000000000f")],
    [("since", "{hour}")],
    [("until", "{hour}"), ("state", "succeeded")],
    [("since", "{day}"), ("until", "{hour}"), ("kind", "kind.001")],
    [("since", "{hour}"), ("state", "queued")],
    [("id", WORKER)],
]


@dataclass
class Recorded:
    """A database that remembers each statement with its values."""

    database: Database
    sent: dict[str, tuple[Any, ...]] = field(default_factory=dict)

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Any]:
        async with self.database.connection() as connection:
            yield Recording(connection, self.sent)


class Recording:
    """A connection of it."""

    def __init__(self, connection: Any, sent: dict[str, tuple[Any, ...]]) -> None:
        self._connection, self._sent = connection, sent

    def __getattr__(self, name: str) -> Any:
        method: Callable[..., Any] = getattr(self._connection, name)
        if name not in ("fetch", "fetchrow", "fetchval", "execute"):
            raise AssertionError(f"{name} is not looked at by this test")

        async def call(query: str, *values: Any, **options: Any) -> Any:
            self._sent[query] = values
            return await method(query, *values, **options)

        return call


@pytest.fixture
async def recorded(populated_url: str) -> AsyncIterator[Recorded]:
    database = Database(populated_url, read_only=True, pool_size=2)
    yield Recorded(database)
    await database.close()


@dataclass(frozen=True)
class Scan:
    """What one plan node read of a table."""

    node: str
    table: str
    rows: float


def scans(plan: dict[str, Any]) -> list[Scan]:
    """Every node of an analyzed plan that read a table."""
    found = [scan for child in plan.get("Plans", ()) for scan in scans(child)]
    if "Relation Name" in plan and plan["Actual Loops"]:
        removed = plan.get("Rows Removed by Filter", 0) + plan.get("Rows Removed by Index Recheck", 0)
        found.append(Scan(plan["Node Type"], plan["Relation Name"], (plan["Actual Rows"] + removed) * plan["Actual Loops"]))
    return found


def faults(plan: dict[str, Any]) -> list[str]:
    """What is wrong with it."""
    read = scans(plan)
    found = [
        f"scans {scan.table}: {scan.rows:,.0f} rows"
        for scan in read
        if scan.node == "Seq Scan" and scan.table.startswith(("jobs_dead", "jobs_done", "jobs_ended")) and scan.rows > WHOLE
    ]
    # A bitmap's index and its heap are one read.
    rows = sum(scan.rows for scan in read)
    return found + ([f"reads {rows:,.0f} rows"] if rows > READ else [])


async def explained(connection: Any, query: str, values: tuple[Any, ...]) -> dict[str, Any]:
    answer = await connection.fetchval(f"explain (analyze, format json) {query}", *values)
    plan: dict[str, Any] = orjson.loads(answer)[0]["Plan"]
    return plan


async def judge(recorded: Recorded) -> None:
    assert recorded.sent
    async with recorded.database.connection() as connection:
        found = {}
        for query, values in recorded.sent.items():
            wrong = faults(await explained(connection, query, values))
            if wrong:
                found[query] = wrong
    assert not found, "\n\n".join(f"{'; '.join(wrong)}\n{query}" for query, wrong in found.items())


@pytest.mark.parametrize("pairs", FILTERS, ids=lambda pairs: "&".join(f"{name}={value}" for name, value in pairs) or "all")
async def test_lists_and_counts(recorded: Recorded, pairs: list[tuple[str, str]]) -> None:
    model = ReadModel(recorded, trying=PATIENT)  # type: ignore[arg-type]
    async with recorded.database.connection() as connection:
        moments = await connection.fetchrow(
            "select to_char(now() - interval '1 hour', 'YYYY-MM-DD\"T\"HH24:MI:SSOF') as hour,"
            " to_char(now() - interval '1 day', 'YYYY-MM-DD\"T\"HH24:MI:SSOF') as day"
        )
    wanted = JobFilter.from_query([(name, value.format(**moments)) for name, value in pairs])
    page = await model.jobs(wanted)
    if page.next_cursor:
        await model.jobs(wanted, cursor=page.next_cursor)
    await model.counts(wanted)
    await model.matching(wanted)
    await judge(recorded)


async def hurried(recorded: Recorded, monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks at the groups of dead letters that are too many to be counted at once."""
    letters = DeadLetters(seconds=0.0, patience=0.0)
    with monkeypatch.context() as patched:
        patched.setattr("carafe.readmodel.dead.SLICE", 5_000)
        async with recorded.connection() as connection:
            for _ in range(2):
                assert (await letters.groups(connection)).total.estimated


async def test_everything_else(recorded: Recorded, monkeypatch: pytest.MonkeyPatch) -> None:
    model = ReadModel(recorded, max_replicas=10, trying=PATIENT)  # type: ignore[arg-type]
    await model.snapshot()
    for step in ("5m", "1h", "24h", "7d"):
        for kind in (None, "kind.000"):
            await model.series(step, kind)
    groups = (await model.dead_groups()).groups
    await hurried(recorded, monkeypatch)
    await model.dead_group(groups[0].kind, groups[0].fingerprint)
    group = JobFilter(frozenset({State.DEAD}), groups[0].kind, fingerprint=groups[0].fingerprint, resolved=False)
    await model.counts(group)
    for wanted in (group, *(JobFilter(frozenset({state})) for state in State)):
        jobs = (await model.jobs(wanted)).jobs
        assert jobs, wanted
        for row in jobs[:3]:
            assert await model.job(row.id)
        await model.versions([row.id for row in jobs])
    await model.workers()
    await model.kinds()
    await model.kind_figures()
    await model.kind("kind.000")
    await model.audit()
    await model.audit(target="default")
    await model.bulk_actions()
    await judge(recorded)


async def test_no_statement_of_the_read_model_is_left_out(recorded: Recorded, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those in files; the others are made by the walks, of which every kind is in the filters above."""
    model = ReadModel(recorded, max_replicas=10, trying=PATIENT)  # type: ignore[arg-type]
    await model.snapshot()
    await model.series("1h")
    await model.dead_groups()
    await hurried(recorded, monkeypatch)
    await model.workers()
    await model.kind_figures()
    await model.kind("kind.000")
    await model.audit()
    await model.bulk_actions()
    await model.jobs(JobFilter(frozenset({State.RETRYING})))
    for state in State:
        for row in (await model.jobs(JobFilter(frozenset({state})), limit=1)).jobs:
            await model.job(row.id)
    known = {name: found.numbered for name, found in STATEMENTS.items()}
    left_out = {name for name, text in known.items() if text not in recorded.sent}
    assert left_out <= set(RARELY), "asked for nowhere in this test"


STATEMENTS = {name: found for name, found in vars(statements).items() if isinstance(found, Statement)} | {
    "NOW": NOW,
    "LIVE_COUNTS": LIVE_COUNTS,
    "ENDED_IN_STATISTICS": ENDED_IN_STATISTICS,
    "DEAD_SAMPLED": DEAD_SAMPLED,
    "DEAD_ERROR_CLASSES": DEAD_ERROR_CLASSES,
    "LAST_ERRORS": LAST_ERRORS,
    "FACTS": FACTS,
    "GET": GET,
    "BEFORE_IT": BEFORE_IT,
    "KEY_HOLDER": KEY_HOLDER,
}
"""What the read model asks: its own statements, and the store's that pages need."""

RARELY: dict[str, dict[str, Any]] = {
    "KEY_HOLDER": {"key": "none"},
    "OLDEST_WAIT": {"limit": 10_000},
    "DEAD_SAMPLED": {},
    "DEAD_ERROR_CLASSES": {"most": MOST},
    "ENDED_IN_STATISTICS": {
        "kind": "kind.000",
        "since": datetime(2020, 1, 1, tzinfo=UTC),
        "until": datetime.max.replace(tzinfo=UTC),
        "outcomes": ["succeeded", "dead", "cancelled"],
    },
}
"""Statements that are sent in some situations alone, with the values that make them read most."""


@pytest.mark.parametrize("name", RARELY)
async def test_what_is_asked_for_rarely(recorded: Recorded, name: str) -> None:
    found = STATEMENTS[name]
    recorded.sent[found.numbered] = found.arguments(RARELY[name])
    await judge(recorded)


@pytest.mark.parametrize(
    ("query", "fault"),
    [
        ("select count(*) from carafe.jobs_ended where args ->> 'number' = '7'", "scans jobs_done"),
        ("select count(*) from carafe.jobs_ended where ended_at > now() - interval '1 year'", "reads "),
    ],
)
async def test_this_test_sees_what_it_looks_for(recorded: Recorded, query: str, fault: str) -> None:
    async with recorded.database.connection() as connection:
        found = faults(await explained(connection, query, ()))
    assert any(text.startswith(fault) for text in found), found


FLOOD = """
insert into carafe.jobs_ended (id, kind, queue, state, args, version, attempt, max_attempts, fence, snoozes, releases,
    timeout, created_at, due_at, started_at, ended_at, error_class, error, error_fingerprint)
select uuidv7(), 'kind.flood', 'default', state, '{}', 1, 1, 1, 1, 0, 0, 300, now(), now(), now(), now(),
    case when state = 'dead' then 'Flood' end, case when state = 'dead' then 'Flood' end,
    case when state = 'dead' then 'flood' end
from generate_series(1, 20000) as n, unnest(array['succeeded', 'dead']) as state
"""

FEW = 5_000
"""Rows that a walk may read for a page, beside a flood of others."""


@pytest.mark.parametrize(
    "pairs",
    [
        [("kind", "kind.000")],
        [("state", "succeeded"), ("kind", "kind.000")],
        [("state", "succeeded"), ("kind", "kind.000"), ("since", "2020-01-01")],
        [("state", "dead"), ("kind", "kind.000")],
        [("state", "dead"), ("error_class", "ValueError")],
        [("state", "dead"), ("kind", "kind.000"), ("fingerprint", "{fingerprint}")],
        [("state", "dead"), ("kind", "kind.000"), ("fingerprint", "{fingerprint}"), ("resolved", "false")],
    ],
    ids=lambda pairs: "&".join(name for name, _ in pairs),
)
async def test_the_newest_of_a_kind_are_found_behind_a_flood_of_others(
    populated_url: str, pairs: list[tuple[str, str]]
) -> None:
    """The planner takes the common kind for common among the newest too, which it is not."""
    database = Database(populated_url, pool_size=1)
    async with database.connection() as connection:
        transaction = connection.transaction()
        await transaction.start()
        fingerprint = await connection.fetchval(
            "select error_fingerprint from carafe.jobs_dead where kind = 'kind.000' and resolved_at is null limit 1"
        )
        await connection.execute(FLOOD)
        wanted = JobFilter.from_query([(name, value.format(fingerprint=fingerprint)) for name, value in pairs])
        walk = walk_of(wanted, "ended", {}, whole_class=await whole_class(connection, wanted, "ended"))
        assert walk is not None
        found = await connection.fetch(*_sent(walk.rows(None, None, 51)))
        assert len(found) == 51
        assert [row["ended_at"] for row in found] == sorted((row["ended_at"] for row in found), reverse=True)
        half = Position(found[20]["ended_at"], found[20]["id"])
        last = Position(found[50]["ended_at"], found[50]["id"])
        assert await connection.fetch(*_sent(walk.rows(half, last, 51))) == found[21:]
        assert sum(row["number"] for row in await connection.fetch(*_sent(walk.numbers(half, last)))) == 30
        for query in (walk.rows(None, None, 51), walk.rows(half, None, 51), walk.boundary(half, 30), walk.number(100)):
            read = sum(scan.rows for scan in scans(await explained(connection, query.text, tuple(query.values))))
            assert read < FEW, query.text
        await transaction.rollback()
    await database.close()


WORST = (
    "select",
    "delete from pg_statistic where starelid::regclass::text like 'carafe.jobs_dead%'",
    *(
        f"update pg_class set reltuples = {rows}, relpages = {pages} where relname like 'jobs_dead%'"
        for rows, pages in ((-1, 0), (0, 0), (1e9, 1))
    ),
)
"""Statements that leave the planner with statistics as they are, none, or wrong ones, one after the other."""


async def test_a_class_without_its_module_is_found_by_the_index_on_whole_names(populated_url: str) -> None:
    database = Database(populated_url, pool_size=1)
    async with database.connection() as connection:
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute(FLOOD.replace("'Flood' end, case", "'some.module.Rare' end, case").replace("20000", "60"))
        await connection.execute(FLOOD)
        wanted = JobFilter.from_query([("state", "dead"), ("error_class", "Rare")])
        walk = walk_of(wanted, "ended", {}, whole_class=await whole_class(connection, wanted, "ended"))
        assert walk is not None
        assert walk.direct
        assert len(await connection.fetch(*_sent(walk.rows(None, None, 51)))) == 51
        classes = (DEAD_ERROR_CLASSES.numbered, *DEAD_ERROR_CLASSES.arguments({"most": MOST}))
        for statistics in WORST:
            await connection.execute(statistics)
            for query, *values in (_sent(walk.rows(None, None, 51)), _sent(walk.number(100)), classes):
                read = sum(scan.rows for scan in scans(await explained(connection, query, tuple(values))))
                assert read < FEW, (statistics, query)
        await transaction.rollback()
    await database.close()


def _sent(query: Query) -> tuple[Any, ...]:
    return (query.text, *query.values)


async def test_failures_of_live_jobs_are_looked_up_one_by_one(recorded: Recorded) -> None:
    """The attempts of all that ever failed are many more, and are never joined: not even where a loop seems dear."""
    async with recorded.database.connection() as connection:
        await connection.execute("set enable_nestloop = off")
        retrying = await connection.fetchval("select count(*) from carafe.jobs where attempt > 0")
        oldest = await connection.fetchval("select id from carafe.jobs order by id limit 1")
        for wanted in (JobFilter(text="nowhere"), JobFilter(error_class="None")):
            walk = walk_of(wanted, "live", {})
            assert walk is not None
            query = walk.rows(None, Position(None, oldest), 51)
            read = scans(await explained(connection, query.text, tuple(query.values)))
            assert 0 < sum(scan.rows for scan in read if scan.table.startswith("attempts")) <= retrying
