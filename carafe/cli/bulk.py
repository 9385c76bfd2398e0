"""`bulk …`: retry, cancel, discard or run now many jobs; follow, pause, resume and cancel that."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Literal
from uuid import UUID

from carafe.cli.arguments import past_of
from carafe.cli.connecting import actor, connected, declared
from carafe.cli.exits import Exit, Failure, say
from carafe.cli.output import moment, show_fields, show_json, show_table
from carafe.jobs.bulk import Action, BulkActionRecord
from carafe.jobs.errors import InvalidOption
from carafe.jobs.filters import JobFilter
from carafe.jobs.stored_json import written

PROGRESS = 0.5
"""Seconds between two looks at a bulk action that is waited for."""


def wanted(options: Mapping[str, Sequence[str]], *, argument: str | None, since: str | None, until: str | None) -> JobFilter:
    """The filter that the options say; `options` by the names of a filter's query. Raises `InvalidOption`, `Failure`."""
    pairs = [(name, value) for name, values in options.items() for value in values]
    for name, text in (("since", since), ("until", until)):
        if text is not None:
            pairs.append((name, past_of(text, f"--{name}").isoformat()))
    if argument is not None:
        name, equals, value = argument.partition("=")
        if not (name and equals):
            raise Failure(f"--arg takes NAME=VALUE (got {argument!r})", Exit.USAGE)
        pairs.append((f"args.{name}", value))
    return JobFilter.from_query(pairs)


def start(
    action: Action, jobs: JobFilter, *, everything: bool, rate: float | None, reason: str | None, wait: bool, as_json: bool
) -> Exit:
    """Starts a bulk action, and says what it concerns; with `wait` follows it to its end."""
    if jobs == JobFilter() and not everything:
        raise Failure("say which jobs: --kind, --error-class, --id, … or --all for all that can be", Exit.USAGE)
    declared()

    async def go() -> Exit:
        async with connected() as client:
            record = await client.start_bulk(action, jobs, rate=rate, reason=reason, by=actor())
            if not as_json:
                print(record.id)
                pace = f", at most {record.rate:g} a second" if record.rate else ""
                say(f"{action.replace('_', ' ')}: {_matched(record)} jobs{pace}; `carafe bulk show {record.id}` follows it")
            while wait and record.state in ("running", "paused"):
                await asyncio.sleep(PROGRESS)
                record = await client.bulk(record.id)
        return _show(record, as_json) if wait or as_json else Exit.OK

    return asyncio.run(go())


def show_all(*, limit: int, as_json: bool) -> Exit:
    """Prints the newest bulk actions."""

    async def go() -> Exit:
        async with connected() as client:
            records = await client.bulks(limit)
        if as_json:
            show_json([_json(record) for record in records])
            return Exit.OK
        if not records:
            say("no bulk actions")
            return Exit.OK
        show_table(
            ("ID", "ACTION", "STATE", "MATCHED", "DONE", "SKIPPED", "FAILED", "STARTED", "BY", "WHICH"),
            [
                (
                    str(record.id),
                    record.action,
                    record.state,
                    _matched(record),
                    str(record.done),
                    str(record.skipped),
                    str(record.failed),
                    moment(record.created_at),
                    record.actor,
                    _filter(record),
                )
                for record in records
            ],
        )
        return Exit.OK

    return asyncio.run(go())


def show(bulk_id: UUID, *, as_json: bool) -> Exit:
    """Prints how far a bulk action has come."""

    async def go() -> Exit:
        async with connected() as client:
            record = await client.bulk(bulk_id)
        _show(record, as_json)
        return Exit.OK

    return asyncio.run(go())


def steer(bulk_id: UUID, move: Literal["pause", "resume", "cancel"], *, as_json: bool) -> Exit:
    """Pauses, resumes or cancels a bulk action, and prints how far it has come."""

    async def go() -> Exit:
        async with connected() as client:
            moves = {"pause": client.pause_bulk, "resume": client.resume_bulk, "cancel": client.cancel_bulk}
            record = await moves[move](bulk_id, by=actor())
        _show(record, as_json)
        return Exit.OK

    return asyncio.run(go())


def _show(record: BulkActionRecord, as_json: bool) -> Exit:
    """Prints it. FAILED when some of its jobs could not be changed."""
    if as_json:
        show_json(_json(record))
    else:
        show_fields(
            [
                ("id", str(record.id)),
                ("action", record.action),
                ("state", record.state),
                ("which", _filter(record)),
                ("cutoff", moment(record.cutoff)),
                ("rate", f"at most {record.rate:g} a second" if record.rate else ""),
                ("started", f"{moment(record.created_at)} by {record.actor} ({record.via})"),
                ("reason", record.reason or ""),
                ("matched", _matched(record)),
                ("done", str(record.done)),
                ("skipped", str(record.skipped)),
                ("failed", str(record.failed)),
                ("last error", record.last_error or ""),
                ("ended", moment(record.ended_at)),
            ]
        )
    return Exit.FAILED if record.failed else Exit.OK


def _matched(record: BulkActionRecord) -> str:
    return f"{'about ' if record.matched.estimated else ''}{record.matched.number:,}"


def _filter(record: BulkActionRecord) -> str:
    try:
        return " ".join(f"{name}={value}" for name, value in JobFilter.from_json(record.filter).to_query())
    except InvalidOption:  # what an older or newer release wrote
        return written(record.filter).decode()


def _json(record: BulkActionRecord) -> dict[str, Any]:
    names = ("id", "action", "filter", "cutoff", "rate", "actor", "via", "reason", "state")
    counts = ("done", "skipped", "failed", "last_error", "created_at", "ended_at")
    return {
        **{name: getattr(record, name) for name in names},
        "matched": record.matched.number,
        "matched_estimated": record.matched.estimated,
        **{name: getattr(record, name) for name in counts},
    }
