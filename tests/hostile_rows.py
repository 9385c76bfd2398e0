"""Rows that no client of ours writes, as an older release, a person with psql or a mistake in the units may have left them.

Every reader (pages, API, command line, streams) has to show each of them as best it can.
"""

import itertools
from typing import Any
from uuid import UUID

import asyncpg

from carafe.store.database import plain_dsn

ids = (UUID(int=0x01980000_0000_7000_8000_000000000000 + number) for number in itertools.count(1))

KIND = "web.anything"
DEEP = "[" * 5_000 + "1" + "]" * 5_000
TIMES = (
    "infinity",
    "-infinity",
    "30000-01-01 00:00+00",
    "4000-01-01 00:00+00 BC",
    "0001-01-01 00:00+00",
    "9999-12-31 23:59:59.999999+00",
)
TEXT = "\x1b[31mred\x1b[0m\r\nforged \x07\x9b1m\u202etxet \U0001f984 " + "<script>alert(1)</script>"
ARGS: tuple[str, ...] = (
    DEEP,
    '{"value": ' + DEEP + "}",
    f'{{"value": {2**70}}}',
    f'{{"value": 1{"0" * 400}}}',
    f'{{"value": 1{"0" * 5_000}}}',
    f'{{"value": 1{"0" * 400}.5}}',
    '{"value": 1e22, "small": 1e-400}',
    "[]",
    "null",
    '"a text"',
    '"' + "x" * 1_000_000 + '"',
    '{"value": "' + "\\u001b[2J" * 100 + '\\r\\n\\ud83e\\udd84", "\\u001b": 1, "": [{}], "a/b~c": 2}',
    '{"value": [' + ",".join(["{}"] * 3_000) + "]}",
)


async def insert(url: str) -> list[UUID]:
    """Put them all in; the ids of the jobs."""
    connection = await asyncpg.connect(plain_dsn(url))
    try:
        await connection.execute("alter table carafe.jobs drop constraint jobs_state")
        made = [
            await _live(connection, {column: time})
            for time in TIMES
            for column in ("created_at", "due_at", "hinted_at", "deadline_at", "cancel_requested_at")
        ]
        for state in ("scheduled", "retrying", "queued", "from tomorrow"):
            made += [await _live(connection, {"state": state, "due_at": time, "hinted_at": time}) for time in TIMES]
        for time in TIMES:
            made.append(await _live(connection, {"state": "running", "worker": UUID(int=7), "started_at": time}))
        made.append(await _live(connection, {"state": "running", "worker": UUID(int=8)}))
        made += [await _live(connection, {"args": args}) for args in ARGS]
        made += [await _live(connection, {"args": args, "secrets": ["/value"]}) for args in ARGS[:4]]
        secrets: list[Any] = ["/value/²", "", "nonsense", None, "/value/0/x"]
        made.append(await _live(connection, {"args": '{"value": [{"x": "unseen-secret"}]}', "secrets": secrets}))
        for number in ("NaN", "Infinity", "-Infinity", "3e38", "-1"):
            made.append(await _live(connection, {"progress": number, "timeout": number, "progress_note": TEXT}))
        for column in ("kind", "queue", "unique_key", "created_by", "trace"):
            made.append(await _live(connection, {column: f"{TEXT} {column}"}))
        made.append(await _live(connection, {"kind": "k" * 100_000}))
        made.append(
            await _live(connection, {"attempt": 2**31 - 2, "max_attempts": 2**31 - 1, "version": 32_767, "releases": 7})
        )
        made.append(await _live(connection, {"id": UUID(int=2**128 - 1)}))
        made.append(await _live(connection, {"id": UUID(int=0)}))
        for time in TIMES:
            made.append(await _ended(connection, {"ended_at": time, "started_at": time, "resolved_at": time}))
            made.append(await _ended(connection, {"state": "succeeded", "ended_at": time, "worker": UUID(int=7)}))
            made.append(await _ended(connection, {"state": "dead", "started_at": time, "worker": UUID(int=7)}))
            made.append(await _ended(connection, {"state": "dead", "ended_at": time, "error_fingerprint": "print"}))
        for args in ARGS:
            made.append(await _ended(connection, {"state": "succeeded", "args": args, "result": args}))
        for error in (TEXT, "", "\n", "e" * 1_000_000, None):
            made.append(
                await _ended(
                    connection,
                    {"error": error, "error_class": error and error[:50], "error_fingerprint": error and error[:50]},
                )
            )
        failed = await _ended(connection, {"error": TEXT, "attempt": 300, "max_attempts": 300})
        for attempt in range(1, 301):
            await _attempt(connection, failed, attempt, TEXT * 10, "t" * 20_000)
        for time in TIMES:
            await _attempt(connection, made[0], 1, "e" * 1_000_000, TEXT, started_at=time, ended_at=time)
        await _logs(connection, failed)
        for time in TIMES:
            await _insert(
                connection,
                "audit",
                {"at": time, "actor": TEXT, "via": "cli", "action": TEXT, "target": str(failed), "details": "[1]"},
            )
            await _insert(
                connection,
                "audit",
                {
                    "at": time,
                    "actor": "",
                    "via": "api",
                    "action": "edit and run",
                    "target": str(failed),
                    "details": '{"origin": 1e400, "filter": 1}',
                },
            )
            bulk = {
                "action": "retry",
                "filter": '{"since": 1e400, "states": "x"}',
                "cutoff": time,
                "created_at": time,
                "actor": TEXT,
                "via": "cli",
                "matched": 1,
            }
            await _insert(connection, "bulk_actions", bulk | {"rate": "Infinity"})
            await _insert(
                connection, "bulk_actions", bulk | {"filter": "[]", "state": "done", "ended_at": time, "last_error": TEXT}
            )
            worker: dict[str, Any] = {
                "name": TEXT,
                "host": TEXT,
                "pid": 1,
                "incarnation": TEXT,
                "version": TEXT,
                "kinds": [TEXT, None],
                "concurrency": 5,
            }
            await _insert(connection, "workers", worker | {"state": "running", "started_at": time, "beat_at": time})
            if time == "infinity":
                await _insert(connection, "workers", worker | {"id": UUID(int=7), "state": "running"})
            await _insert(
                connection, "workers", worker | {"state": "stopped", "started_at": time, "beat_at": time, "stopped_at": time}
            )
        await connection.execute("update carafe.queues set paused_at = 'infinity', paused_by = $1, paused_reason = $1", TEXT)
        return [*made, failed]
    finally:
        await connection.close()


async def _live(connection: Any, values: dict[str, Any]) -> UUID:
    return await _insert(connection, "jobs", _job() | {"state": "queued", "hinted_at": "2026-01-01 00:00+00"} | values)


async def _ended(connection: Any, values: dict[str, Any]) -> UUID:
    return await _insert(
        connection,
        "jobs_ended",
        _job()
        | {"state": "dead", "ended_at": "2026-01-01 00:00+00", "fence": 1, "releases": 0, "snoozes": 0, "attempt": 1}
        | values,
    )


def _job() -> dict[str, Any]:
    created = {"created_at": "2026-01-01 00:00+00", "due_at": "2026-01-01 00:00+00"}
    return created | {
        "kind": KIND,
        "queue": "default",
        "args": '{"value": 1}',
        "version": 1,
        "max_attempts": 4,
        "timeout": 60,
    }


async def _attempt(connection: Any, job: UUID, number: int, error: str, traceback: str, **times: Any) -> None:
    values = {
        "job_id": job,
        "kind": KIND,
        "attempt": number,
        "fence": number,
        "cause": TEXT,
        "error": error,
        "traceback": traceback,
    }
    await _insert(connection, "attempts", values | times, key=None)


async def _logs(connection: Any, job: UUID) -> None:
    chunks = [
        (1, "array['infinity', '-infinity', null]", "array['info', null, 'x']", "array[$1::text, null, $1::text]"),
        (2, "array['30000-01-01']", "array[]::text[]", "array['a', 'b', $1::text]"),
    ]
    for fence, times, levels, texts in chunks:
        await connection.execute(
            "insert into carafe.job_logs (failed, job_id, fence, attempt, first, last, times, levels, texts)"
            f" values (true, '{job}', {fence}, 1, 1, 3, {times}::timestamptz[], {levels}, {texts})",
            TEXT,
        )


async def _insert(connection: Any, table: str, values: dict[str, Any], key: str | None = "id") -> UUID:
    """One row; every value but ids and arrays goes as text, which Postgres reads as it likes."""
    row = dict(values)
    if key is not None:
        row.setdefault(key, next(ids))
    given, places = [], []
    for name, value in row.items():
        cast = "smallint" if name == "version" and table != "workers" else _TYPES.get(name)
        given.append(value if value is None or isinstance(value, UUID | list) else str(value))
        kind = "uuid" if isinstance(value, UUID) else "text[]" if isinstance(value, list) else "text"
        places.append(f"${len(given)}::{kind}" + (f"::{cast}" if kind == "text" and cast else ""))
    await connection.execute(f"insert into carafe.{table} ({', '.join(row)}) values ({', '.join(places)})", *given)
    return row.get(key or "") or UUID(int=0)


_TIMES = """created_at due_at hinted_at deadline_at cancel_requested_at started_at ended_at resolved_at at beat_at
    stopped_at cutoff"""
_NUMBERS = "attempt max_attempts releases snoozes fence pid concurrency matched"
_TYPES = (
    dict.fromkeys(_TIMES.split(), "timestamptz")
    | dict.fromkeys(("args", "result", "details", "filter"), "jsonb")
    | dict.fromkeys(_NUMBERS.split(), "integer")
    | dict.fromkeys(("timeout", "progress", "rate"), "real")
)
