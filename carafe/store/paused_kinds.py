"""Pauses and resumes one kind. A row in ``carafe.paused_kinds`` is the pause; the statements that claim and enqueue jobs,
and all that give jobs new hints, read it (``{unpaused}`` in `carafe.store.columns`).

Guarantees: once a pause is committed, no worker of this release claims a job of the kind. Workers of a release that does not
know pauses of kinds are named, wherever a pause is shown. While no kind is paused, nothing costs more.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC
from typing import Any

from carafe.jobs.declaring import KIND, kind_words
from carafe.jobs.definition import kinds
from carafe.jobs.errors import InvalidOption, KindNotFound
from carafe.jobs.queue_name import QUEUE
from carafe.jobs.records import MAX_HELD, KindRecord
from carafe.plain_text import one_line
from carafe.store.audit import Actor, record_each
from carafe.store.database import Connection
from carafe.store.humanize import counted
from carafe.store.statements import IS_KNOWN_KIND, PAUSE_KIND, PAUSED, PAUSED_KINDS, RESUME_KIND, WORKERS_BEFORE_PAUSES

NEWEST = 10_000
"""How many of the newest live jobs are searched for a kind that neither this process nor a worker knows."""


LISTED = 500
"""The maximum number of older workers that are read."""

NAMED = 3
"""The maximum number of older workers that are named."""


@dataclass(frozen=True, slots=True)
class OlderWorker:
    """A live worker of a release that does not know pauses of kinds, and the kinds for which it has a handler."""

    name: str
    version: str
    kinds: frozenset[str]


def checked_kind(kind: Any) -> str:
    """Returns `kind` if it has the form of a kind. Raises `InvalidOption` otherwise."""
    if isinstance(kind, str) and KIND.fullmatch(kind):
        return kind
    raise InvalidOption("kind", kind_words(kind).removeprefix("kind "))


async def pause(connection: Connection, kind: str, *, reason: str | None, by: Actor | None) -> KindRecord:
    """Pause a kind, in the caller's transaction. A kind that is paused already stays as it is (`unchanged`). Raises
    `KindNotFound`, and the database's errors."""
    await _check_known(connection, kind)
    row = await PAUSE_KIND.fetchrow(connection, kind=kind, by=None if by is None else by.name, reason=reason)
    assert row is not None
    [record] = await _noted(connection, [KindRecord(**row)])
    await _audit(connection, record, "pause kind", reason, by)
    return record


async def resume(connection: Connection, kind: str, *, reason: str | None, by: Actor | None) -> KindRecord:
    """End the pause of a kind, in the caller's transaction. A paused kind may be one that nobody knows any more. The
    record's `note` says so if the queue is paused. Raises `KindNotFound` for a kind that is neither paused nor known, and
    the database's errors."""
    unchanged = await RESUME_KIND.fetchrow(connection, kind=kind) is None
    if unchanged:
        await _check_known(connection, kind)
    queue = await queue_pause(connection)
    note = None if queue is None else f"The queue is paused {queue}: jobs of {kind!r} start when the queue is resumed."
    record = KindRecord(kind, None, None, None, unchanged=unchanged, note=note)
    await _audit(connection, record, "resume kind", reason, by)
    return record


async def paused_kinds(connection: Connection) -> list[KindRecord]:
    """The kinds that are paused, in alphabetical order. Raises the database's errors."""
    return await _noted(connection, [KindRecord(**row) for row in await PAUSED_KINDS.fetch(connection, limit=MAX_HELD)])


async def pause_of(connection: Connection, kind: str) -> KindRecord | None:
    """The pause of this kind; None if it is not paused. Raises the database's errors."""
    return next((record for record in await paused_kinds(connection) if record.kind == kind), None)


async def queue_pause(connection: Connection) -> str | None:
    """Since when the queue has been paused, by whom and why, for a sentence; None if it is not paused. Raises the database's
    errors."""
    row = next((row for row in await PAUSED.fetch(connection) if row["name"] == QUEUE), None)
    if row is None:
        return None
    by, why = row["paused_by"], row["paused_reason"]
    at = row["paused_at"].astimezone(UTC)
    return f"since {at:%Y-%m-%d %H:%M:%S} UTC{f' by {by}' if by else ''}{f' ({why})' if why else ''}"


async def older_workers(connection: Any) -> list[OlderWorker]:
    """The live workers that do not know pauses of kinds, the newest first, at most `LISTED`. Raises the database's
    errors."""
    rows = await WORKERS_BEFORE_PAUSES.fetch(connection, limit=LISTED)
    return [OlderWorker(row["name"], row["version"], frozenset(row["kinds"])) for row in rows]


def older_words(workers: Sequence[OlderWorker]) -> str:
    """The beginning of a sentence about these workers: how many there are, of which versions, and the names of the first."""
    versions = ", ".join(sorted({one_line(worker.version) for worker in workers}))
    names = ", ".join(one_line(worker.name) for worker in workers[:NAMED]) + (", …" if len(workers) > NAMED else "")
    verb = "does" if len(workers) == 1 else "do"
    return f"{counted(len(workers), 'live worker')} of version {versions} ({names}) {verb} not know pauses of kinds"


async def _noted(connection: Connection, paused: Iterable[KindRecord]) -> list[KindRecord]:
    records = list(paused)
    older = await older_workers(connection) if records else []
    return [replace(record, note=_note(record.kind, older)) for record in records]


def _note(kind: str, older: Iterable[OlderWorker]) -> str | None:
    ignoring = [worker for worker in older if kind in worker.kinds]
    if not ignoring:
        return None
    start, they = ("starts", "it") if len(ignoring) == 1 else ("start", "them")
    return f"{older_words(ignoring)} and still {start} jobs of {kind!r}: replace {they}, or pause the queue."


async def _check_known(connection: Connection, kind: str) -> None:
    if kind not in kinds() and not await IS_KNOWN_KIND.fetchval(connection, kind=kind, limit=NEWEST):
        raise KindNotFound(kind)


async def _audit(connection: Connection, record: KindRecord, action: str, reason: str | None, by: Actor | None) -> None:
    if by is not None:
        details = {"unchanged": True} if record.unchanged else {}
        await record_each(connection, by, action, {record.kind: details}, reason=reason)
