"""Pauses and resumes one kind. A row in ``carafe.paused_kinds`` is the pause; the statements that claim and enqueue jobs,
and all that give jobs new hints, read it (``{unpaused}`` in `carafe.store.columns`).

Guarantees: once a pause is committed, no job of the kind is claimed. While no kind is paused, nothing costs more.
"""

from typing import Any

from carafe.jobs.declaring import KIND, kind_words
from carafe.jobs.definition import kinds
from carafe.jobs.errors import InvalidOption, KindNotFound
from carafe.jobs.records import MAX_HELD, KindRecord
from carafe.store.audit import Actor, record_each
from carafe.store.database import Connection
from carafe.store.statements import IS_KNOWN_KIND, PAUSE_KIND, PAUSED_KINDS, RESUME_KIND

NEWEST = 10_000
"""How many of the newest live jobs are searched for a kind that neither this process nor a worker knows."""


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
    record = KindRecord(**row)
    await _audit(connection, record, "pause kind", reason, by)
    return record


async def resume(connection: Connection, kind: str, *, reason: str | None, by: Actor | None) -> KindRecord:
    """End the pause of a kind, in the caller's transaction. A paused kind may be one that nobody knows any more. Raises
    `KindNotFound` for a kind that is neither paused nor known, and the database's errors."""
    unchanged = await RESUME_KIND.fetchrow(connection, kind=kind) is None
    if unchanged:
        await _check_known(connection, kind)
    record = KindRecord(kind, None, None, None, unchanged=unchanged)
    await _audit(connection, record, "resume kind", reason, by)
    return record


async def paused_kinds(connection: Connection) -> list[KindRecord]:
    """The kinds that are paused, in alphabetical order. Raises the database's errors."""
    return [KindRecord(**row) for row in await PAUSED_KINDS.fetch(connection, limit=MAX_HELD)]


async def _check_known(connection: Connection, kind: str) -> None:
    if kind not in kinds() and not await IS_KNOWN_KIND.fetchval(connection, kind=kind, limit=NEWEST):
        raise KindNotFound(kind)


async def _audit(connection: Connection, record: KindRecord, action: str, reason: str | None, by: Actor | None) -> None:
    if by is not None:
        details = {"unchanged": True} if record.unchanged else {}
        await record_each(connection, by, action, {record.kind: details}, reason=reason)
