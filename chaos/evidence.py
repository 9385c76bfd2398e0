"""Everything that the invariants look at, read once after the chaos: the tables, the witness, the journal, the ledger."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import asyncpg

from chaos.journal import read
from chaos.ledger import Ledger
from chaos.world import World

Row = Mapping[str, Any]


@dataclass(slots=True)
class Evidence:
    """Rows by job id (as text); `lost`: when which worker was declared lost; `returns`: when the attempt of a token was
    about to return. `moves`, `ends` and `hooked` are in the order in which Postgres made them."""

    ledger: Ledger
    live: dict[str, Row]
    ended: dict[str, list[Row]]
    tags: dict[str, list[str]]
    moves: dict[str, list[Row]]
    ends: dict[str, list[Row]]
    hooked: dict[str, list[Row]]
    status: dict[str, Row]
    effects: dict[str, list[Row]]
    orders: dict[str, str]
    attempts: dict[str, list[Row]]
    statistics: dict[tuple[str, str], int]
    pauses: list[Row]
    lost: dict[str, list[datetime]]
    begins: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    returns: dict[str, float] = field(default_factory=dict)

    def kind(self, job_id: str) -> str:
        """A job's kind, wherever it is known from."""
        rows = [*self.moves.get(job_id, ()), *self.ended.get(job_id, ())]
        return str(rows[0]["kind"]) if rows else "?"


async def gather(world: World, ledger: Ledger) -> Evidence:
    """Read it all, past every link, as of one moment: where time was up first, workers still end jobs."""
    async with world.truth() as connection, connection.transaction(isolation="repeatable_read", readonly=True):
        live = await _by_job(
            connection,
            "select id::text as job_id, kind, state, attempt, max_attempts, fence, worker::text, hinted_at, due_at, args"
            " from carafe.jobs",
        )
        ended = await _by_job(
            connection,
            "select id::text as job_id, kind, state, attempt, max_attempts, fence, result::text, error, snoozes, releases"
            " from carafe.jobs_ended",
        )
        tags: dict[str, list[str]] = defaultdict(list)
        for row in await connection.fetch(
            "select id::text, args->>'tag' as tag from carafe.jobs"
            " union all select id::text, args->>'tag' from carafe.jobs_ended"
        ):
            tags[row["tag"]].append(row["id"])
        evidence = Evidence(
            ledger=ledger,
            live={job_id: rows[0] for job_id, rows in live.items()},
            ended=ended,
            tags=tags,
            moves=await _by_job(connection, "select *, job_id::text as job_id from chaos.moves order by seq"),
            ends=await _by_job(connection, "select *, job_id::text as job_id from chaos.ends order by seq"),
            hooked=await _by_job(connection, "select *, job_id::text as job_id from chaos.hooked order by seq"),
            status={
                job_id: rows[0]
                for job_id, rows in (
                    await _by_job(connection, "select job_id::text as job_id, state, changes from chaos.status")
                ).items()
            },
            effects=await _by_job(connection, "select job_id::text as job_id, token, fence from chaos.effects"),
            orders={
                row["tag"]: row["job_id"]
                for row in await connection.fetch("select tag, job_id::text as job_id from chaos.orders")
            },
            attempts=await _by_job(
                connection,
                "select job_id::text as job_id, attempt, fence, cause, error, worker_name from carafe.attempts"
                " where cause <> 'interrupted'"
                " order by attempt, ended_at",
            ),
            statistics={
                (row["kind"], row["outcome"]): row["count"]
                for row in await connection.fetch(
                    # What is folded already, by its widest buckets, and what is not yet.
                    "select kind, outcome, sum(count)::bigint as count from ("
                    " select kind, outcome, count from carafe.statistics_deltas union all"
                    " select kind, outcome, count from carafe.statistics where kind <> ''"
                    " and width = (select max(width) from carafe.statistics)) as counted group by 1, 2"
                )
            },
            lost=await _lost(connection),
            pauses=[dict(row) for row in await connection.fetch("select paused, at from chaos.pauses order by seq")],
        )
    begins: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for line in read(world.journal):
        if line["event"] == "begin":
            begins[line["id"]].append(line)
        elif line["event"] == "end":
            evidence.returns[line["token"]] = line["at"]
    evidence.begins = begins
    return evidence


async def _lost(connection: "asyncpg.Connection[asyncpg.Record]") -> dict[str, list[datetime]]:
    found: dict[str, list[datetime]] = defaultdict(list)
    for row in await connection.fetch("select worker::text as worker, at from chaos.lost"):
        found[row["worker"]].append(row["at"])
    return found


async def _by_job(connection: "asyncpg.Connection[asyncpg.Record]", query: str) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = defaultdict(list)
    for row in await connection.fetch(query):
        record = dict(row)
        found[record["job_id"]].append(record)
    return found
