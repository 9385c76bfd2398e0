"""The commands `carafe bulk …`: start a bulk action on many jobs; list, follow, pause, resume and cancel bulk actions."""

import asyncio
from typing import Any, Literal
from uuid import UUID

from carafe.cli.connecting import actor, connected, declared
from carafe.cli.exits import Exit, Failure, say
from carafe.cli.output import moment, show_fields, show_json, show_table
from carafe.cli.pauses import say_pauses
from carafe.jobs.actions import ACTIONS, ActionName
from carafe.jobs.errors import InvalidOption
from carafe.jobs.records import Count
from carafe.jobs.states import State
from carafe.jobs.stored_json import written
from carafe.store.bulk import BulkActionRecord
from carafe.store.filters import JobFilter

PROGRESS = 0.5
"""Seconds between two reads of a bulk action while the command waits for its end."""


def start(
    action: ActionName,
    jobs: JobFilter,
    *,
    everything: bool,
    rate: float | None,
    reason: str | None,
    wait: bool,
    as_json: bool,
) -> Exit:
    """Starts a bulk action, and prints its id and how many jobs it covers. If `wait` is true, waits until it has ended.

    Raises `Failure` when neither a filter nor `everything` says which jobs.
    """
    if jobs == JobFilter() and not everything:
        raise Failure(
            "say which jobs: --kind, --error-class, --id, … or --all for all that the action applies to", Exit.USAGE
        )
    declared()

    async def go() -> Exit:
        async with connected() as client:
            record = await client.start_bulk(action, jobs, rate=rate, reason=reason, by=actor())
            if record.matched == Count(0):
                say("warning: no job matches: nothing will be done")
            if not as_json:
                print(record.id)
                pace = f", at most {record.rate:g} a second" if record.rate else ""
                say(f"{action}: {_matched(record)} jobs{pace}; `carafe bulk show {record.id}` follows it")
            if State.QUEUED in ACTIONS[action].enters and record.matched != Count(0):
                await say_pauses(client, {jobs.kind} if jobs.kind else None)
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
    """Prints a bulk action and how far it has come."""

    async def go() -> Exit:
        async with connected() as client:
            record = await client.bulk(bulk_id)
        _show(record, as_json)
        return Exit.OK

    return asyncio.run(go())


def steer(bulk_id: UUID, move: Literal["pause", "resume", "cancel"], *, as_json: bool) -> Exit:
    """Pauses, resumes or cancels a bulk action, then prints it and how far it has come."""

    async def go() -> Exit:
        async with connected() as client:
            moves = {"pause": client.pause_bulk, "resume": client.resume_bulk, "cancel": client.cancel_bulk}
            record = await moves[move](bulk_id, by=actor())
        _show(record, as_json)
        return Exit.OK

    return asyncio.run(go())


def _show(record: BulkActionRecord, as_json: bool) -> Exit:
    """Prints a bulk action. Returns FAILED when some of its jobs could not be changed, else OK."""
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
