"""A backlog of live jobs, some dead jobs, and the values with which the tests run the statements of the job system on them.

Ids are numbers, so that a test can name a job without a query: each state has its own range.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from carafe.engine.statements import DEFER, FENCES, UNDEFER, WORKER_UNHELD
from carafe.steward.statements import PROMOTE, REPUSH, RESCUE, WORKERS_SILENT
from carafe.store.actions import STATEMENTS as ACTIONS
from carafe.store.statement import Statement
from carafe.store.statements import (
    CLAIM,
    FINISH,
    GET,
    IS_KNOWN_KIND,
    PAUSED_KINDS,
    PROGRESS,
    REHINT,
    RESUME_HINTS,
    SETTLE,
    STACK_REQUEST,
    UNIQUE_HOLDERS,
    WORKER_BEAT,
)
from carafe.telemetry.metrics import BOUNDS

BATCH = 50
"""Jobs of one statement."""

WORKER, LOST = UUID(int=1 << 100), UUID(int=2 << 100)
"""The worker under which most jobs run, and one that holds a batch."""

SHARES = {
    "queued": 0,
    "running": 1,
    "lost": 2,
    "scheduled": 3,
    "retrying": 4,
    "deferred": 5,
    "future": 6,
    "dead": 7,
    "held": 8,
    "resumed": 9,
}
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
    return [UUID(int=SHARES[state] * RANGE + number) for number in range(begin, begin + count)]


async def fill(connection: Any, share: float = 1.0) -> None:
    """Fills the live table, and as much of the dead letters."""

    async def some(
        state: str, count: int, *, name: str = "", due: float = -600, hint: float = -600, worker: Any = None
    ) -> None:
        kind = {"deferred": "plans.unknown", "held": "plans.held", "resumed": "plans.resumed"}.get(state, "plans.job")
        begin = SHARES[state] * RANGE
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
    await some("held", 3_000, name="queued")
    await some("resumed", 3_000, name="queued")
    await connection.execute("update carafe.jobs set hinted_at = null where kind = any('{plans.held,plans.resumed}')")
    await connection.execute("insert into carafe.paused_kinds (kind) values ('plans.held') on conflict do nothing")
    await some("future", 1_000, name="scheduled", due=3_600)
    await connection.execute(DEAD, SHARES["dead"] * RANGE, max(1, int(3_000 * share)))


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
    none = [None] * BATCH
    settled = {
        "ids": running,
        "fences": fences,
        "delays": [1.0] * BATCH,
        "traces": texts,
        "worker": WORKER,
        "worker_name": "w",
        "bounds": BOUNDS,
        **dict.fromkeys(("causes", "error_classes", "errors", "tracebacks", "fingerprints"), none),
    }
    failed = {**settled, **dict.fromkeys(("causes", "error_classes", "errors", "tracebacks", "fingerprints"), texts)}
    beat = {"id": WORKER, "state": "running", "ids": running, "fences": fences, "settled": 40}
    finished = {"ids": running, "fences": fences, "bounds": BOUNDS, "results": ["1"] * BATCH}

    def becoming(state: str, spends: str | None, values: Mapping[str, Any]) -> dict[str, Any]:
        return {**values, "states": [state] * BATCH, "spends": [spends] * BATCH}

    mixed = [*ids("queued", 15), *ids("scheduled", 15), *ids("running", 20)]
    given: Sequence[tuple[str, Statement, dict[str, Any]]] = (
        ("claim", CLAIM, {"ids": ids("queued"), "worker": WORKER, "kinds": ["plans.job"]}),
        ("finish", FINISH, finished),
        ("cancelled", SETTLE, becoming("cancelled", "attempt", settled)),
        ("fail and retry", SETTLE, becoming("retrying", "attempt", failed)),
        ("die", SETTLE, becoming("dead", "attempt", failed)),
        ("snooze", SETTLE, becoming("scheduled", "snooze", settled)),
        ("release", SETTLE, becoming("queued", "release", settled)),
        ("hand back", FENCES, {"ids": running}),
        ("defer", DEFER, {"ids": ids("queued"), "longest": 60.0}),
        ("undefer", UNDEFER, {"kinds": ["plans.unknown"], "limit": BATCH}),
        ("progress", PROGRESS, {"id": running[0], "fence": 1, "fraction": 0.5, "note": "n"}),
        ("promote", PROMOTE, {"limit": BATCH, "within": 1e9, "after": datetime(1970, 1, 1, tzinfo=UTC)}),
        (
            "repush",
            REPUSH,
            {"queue": "default", "before": datetime.now(UTC), "after": datetime(2020, 1, 1, tzinfo=UTC), "limit": BATCH},
        ),
        ("resume hints", RESUME_HINTS, {"queue": "default", "limit": BATCH}),
        ("rehint", REHINT, {"limit": BATCH}),
        ("paused kinds", PAUSED_KINDS, {"limit": BATCH}),
        ("known kind", IS_KNOWN_KIND, {"kind": "plans.strange", "limit": BATCH}),
        (
            "rescue",
            RESCUE,
            {"worker": LOST, "worker_name": "w", "error": "e", "fingerprint": "f", "free_releases": 10},
        ),
        ("cancel", ACTIONS["cancel"], {"ids": mixed, "reason": "r"}),
        ("run_now", ACTIONS["run_now"], {"ids": [*ids("scheduled", 25), *ids("retrying", 25)]}),
        ("retry", ACTIONS["retry"], {"ids": ids("dead"), "grants": "{}", "grant_attempts": 3}),
        ("discard", ACTIONS["discard"], {"ids": ids("dead"), "by": "b", "reason": None}),
        ("beat", WORKER_BEAT, beat),
        (
            "unheld",
            WORKER_UNHELD,
            {"id": LOST, "since": datetime.now(UTC), "ids": ids("lost", 20), "claiming": ids("queued")},
        ),
        ("silent workers", WORKERS_SILENT, {"gone": False}),
        ("get", GET, {"id": running[0]}),
        ("get dead", GET, {"id": ids("dead", 1)[0]}),
        ("stack request", STACK_REQUEST, {"id": running[0]}),
        ("unique holders", UNIQUE_HOLDERS, {"keys": str([f"key {n}" for n in range(BATCH)]).replace("'", '"')}),
    )
    return {name: (statement, values) for name, statement, values in given}
