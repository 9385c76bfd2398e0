"""A backlog of live jobs, with dead ones beside it, and what the statements of the job system are asked of it.

Ids are numbers, so that a test names them without looking: each state has its own range.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from carafe.jobs import statements
from carafe.jobs.statements import Statement
from carafe.jobs.statistics import BOUNDS

BATCH = 50
"""Jobs of one statement."""

WORKER, LOST = UUID(int=1 << 100), UUID(int=2 << 100)
"""The worker under which most jobs run, and one that holds a batch."""

STATES = {"queued": 0, "running": 1, "lost": 2, "scheduled": 3, "retrying": 4, "deferred": 5, "future": 6, "dead": 7}
RANGE = 1 << 32

FILL = """
insert into carafe.jobs (id, kind, state, args, version, max_attempts, timeout, created_at, due_at, hinted_at, started_at,
    worker, fence, attempt, unique_key, deadline_at)
select lpad(to_hex($1::bigint + n), 32, '0')::uuid, $2, $3, jsonb_build_object('text', repeat('x', 40)), 1, 5, 60, now(),
    now() + $4::float8 * interval '1 second' + n * interval '1 microsecond',
    case when $3 = 'queued' then now() + $5::float8 * interval '1 second' + n * interval '1 microsecond' end,
    case when $3 = 'running' then now() - interval '1 minute' end, $6, case when $3 = 'running' then 1 else 0 end, 1,
    case when $7 then 'key ' || n end, case when $3 = 'running' then now() end
from generate_series(1, $8) as n
"""

DEAD = """
insert into carafe.jobs_ended (id, kind, queue, state, args, version, attempt, max_attempts, fence, snoozes, releases,
    timeout, created_at, due_at, ended_at, error_class, error, error_fingerprint)
select lpad(to_hex($1::bigint + n), 32, '0')::uuid, 'plans.job', 'default', 'dead', '{}', 1, 5, 5, 5, 0, 0, 60, now(), now(),
    now(), 'E', 'e', 'f'
from generate_series(1, $2) as n
"""


def ids(state: str, count: int = BATCH, *, begin: int = 1) -> list[UUID]:
    """The first jobs of a state."""
    return [UUID(int=STATES[state] * RANGE + number) for number in range(begin, begin + count)]


async def fill(connection: Any, share: float = 1.0) -> None:
    """Fills the live table, and as much of the dead letters."""

    async def some(
        state: str, count: int, *, name: str = "", due: float = -600, hint: float = -600, worker: Any = None
    ) -> None:
        kind = "plans.unknown" if state == "deferred" else "plans.job"
        begin = STATES[state] * RANGE
        number = max(1, int(count * share))
        await connection.execute(
            FILL, begin, kind, name or state, float(due), float(hint), worker, state == "queued", number
        )

    await some("queued", 8_000)
    await some("running", 4_000, worker=WORKER)
    await some("lost", BATCH if share == 1 else 1, name="running", worker=LOST)
    await some("scheduled", 3_000)
    await some("retrying", 3_000)
    await some("deferred", 3_000, name="queued", hint=3_600)
    await some("future", 1_000, name="scheduled", due=3_600)
    await connection.execute(DEAD, STATES["dead"] * RANGE, max(1, int(3_000 * share)))


WORKERS = """
insert into carafe.workers (id, name, host, pid, incarnation, version, kinds, concurrency, state)
select id, 'w', 'h', 1, 'x', '1', cast('{plans.job}' as text[]), 5, state
from (values ($1::uuid, 'running'), ($2::uuid, 'running')) as w(id, state)
union all
select lpad(to_hex(n), 32, '9')::uuid, 'w', 'h', 1, 'x', '1', cast('{plans.job}' as text[]), 5, 'stopped'
from generate_series(1, 50) as n
"""


def questions() -> Mapping[str, tuple[Statement, Mapping[str, Any]]]:
    """What is asked, by a name: a statement with the values of a batch."""
    running, fences = ids("running"), [1] * BATCH
    texts: list[str | None] = ["text"] * BATCH
    failed = {
        "ids": running,
        "fences": fences,
        "causes": texts,
        "error_classes": texts,
        "errors": texts,
        "tracebacks": texts,
        "fingerprints": texts,
        "delays": [1.0] * BATCH,
        "traces": texts,
        "worker": WORKER,
        "worker_name": "w",
        "bounds": BOUNDS,
    }
    beat = {"id": WORKER, "state": "running", "ids": running, "fences": fences, "settled": 40}
    none = [None] * BATCH
    finished = {"ids": running, "fences": fences, "bounds": BOUNDS, "results": ["1"] * BATCH}
    handed = {"ids": running, "traces": none, "worker": WORKER, "counts": False}
    mixed = [*ids("queued", 15), *ids("scheduled", 15), *ids("running", 20)]
    given: Sequence[tuple[str, Statement, dict[str, Any]]] = (
        ("claim", statements.CLAIM, {"ids": ids("queued"), "worker": WORKER, "kinds": ["plans.job"]}),
        ("finish", statements.FINISH, {**finished, "state": "succeeded", "reason": None}),
        ("finish cancelled", statements.FINISH, {**finished, "state": "cancelled", "reason": "r", "results": none}),
        ("fail and retry", statements.FAIL, {**failed, "finals": [False] * BATCH}),
        ("fail for good", statements.FAIL, {**failed, "finals": [True] * BATCH}),
        ("snooze", statements.SNOOZE, {"ids": running, "fences": fences, "delays": [5.0] * BATCH, "traces": none}),
        ("release", statements.RELEASE, {**handed, "fences": fences}),
        ("hand back", statements.RELEASE, {**handed, "fences": [None] * BATCH}),
        ("defer", statements.DEFER, {"ids": ids("queued"), "longest": 60.0}),
        ("undefer", statements.UNDEFER, {"kinds": ["plans.unknown"], "limit": BATCH}),
        ("progress", statements.PROGRESS, {"id": running[0], "fence": 1, "fraction": 0.5, "note": "n"}),
        ("promote", statements.PROMOTE, {"limit": BATCH, "within": 1e9, "after": datetime(1970, 1, 1, tzinfo=UTC)}),
        (
            "repush",
            statements.REPUSH,
            {"queue": "default", "before": datetime.now(UTC), "after": datetime(2020, 1, 1, tzinfo=UTC), "limit": BATCH},
        ),
        ("resume hints", statements.RESUME_HINTS, {"queue": "default", "limit": BATCH}),
        (
            "rescue",
            statements.RESCUE,
            {"worker": LOST, "worker_name": "w", "error": "e", "fingerprint": "f", "free_releases": 10},
        ),
        ("cancel", statements.CANCEL, {"ids": mixed, "reason": "r"}),
        ("run now", statements.RUN_NOW, {"ids": [*ids("scheduled", 25), *ids("retrying", 25)]}),
        ("retry", statements.RETRY, {"ids": ids("dead"), "grants": "{}", "grant_attempts": 3}),
        ("discard", statements.DISCARD, {"ids": ids("dead"), "by": "b", "reason": None}),
        ("beat", statements.WORKER_BEAT, beat),
        (
            "unheld",
            statements.WORKER_UNHELD,
            {"id": LOST, "since": datetime.now(UTC), "ids": ids("lost", 20), "claiming": ids("queued")},
        ),
        ("silent workers", statements.WORKERS_SILENT, {"gone": False}),
        ("get", statements.GET, {"id": running[0]}),
        ("get dead", statements.GET, {"id": ids("dead", 1)[0]}),
        ("states", statements.STATES, {"ids": [*ids("queued", 25), *ids("dead", 25)]}),
        ("unique holders", statements.UNIQUE_HOLDERS, {"keys": str([f"key {n}" for n in range(BATCH)]).replace("'", '"')}),
    )
    return {name: (statement, values) for name, statement, values in given}
