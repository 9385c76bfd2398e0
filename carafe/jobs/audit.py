"""The audit: who did what to which job, worker, queue or bulk action, when, from where and why.

Guarantees: an action's row is written in the action's own transaction, so neither is ever there without the other. Rows are
kept as long as dead jobs are (RETENTION_DEAD).
Must never: hold a job's arguments, beyond what a filter searches for.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

import orjson

from carafe.jobs.errors import InvalidOption
from carafe.jobs.identifiers import uuid7s
from carafe.jobs.moves import Connection
from carafe.jobs.records import as_uuid
from carafe.jobs.statements import AUDIT
from carafe.jobs.stored_json import readable

Via = Literal["dashboard", "api", "cli", "steward"]
"""From where an action came."""

LONGEST_REASON = 500
"""Characters of a reason at most."""


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts: a person's or token's name, and from where."""

    name: str
    via: Via


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """An action that was taken, by whom and from where. `target` is a job, worker, queue, bulk action or login name.

    `bulk`: the bulk action that this was a part of.
    """

    id: UUID
    at: datetime
    actor: str
    via: Via
    action: str
    target: str
    reason: str | None
    details: Mapping[str, Any] = field(default_factory=dict)
    bulk: UUID | None = None


def audit_record(row: Mapping[str, Any]) -> AuditRecord:
    """A record from a row of ``carafe.audit``."""
    details = readable(row["details"]) if isinstance(row["details"], str | bytes) else row["details"]
    return AuditRecord(
        id=as_uuid(row["id"]),
        at=row["at"],
        actor=row["actor"],
        via=row["via"],
        action=row["action"],
        target=row["target"],
        reason=row["reason"],
        details=details if isinstance(details, dict) else {"details": details},
        bulk=None if row["bulk"] is None else as_uuid(row["bulk"]),
    )


async def record(
    connection: Connection,
    actor: Actor,
    action: str,
    target: str,
    *,
    reason: str | None = None,
    details: Mapping[str, Any] | None = None,
) -> None:
    """Write one row, on a connection that is within the action's transaction."""
    await record_each(connection, actor, action, {target: details or {}}, reason=reason)


async def record_each(
    connection: Connection,
    actor: Actor,
    action: str,
    targets: Mapping[str, Mapping[str, Any]] | Iterable[UUID],
    *,
    reason: str | None = None,
    bulk: UUID | None = None,
) -> None:
    """Write a row for each target, with its details; see `record`."""
    values = entry(actor, action, targets, reason=reason, bulk=bulk)
    await connection.execute(AUDIT.positional, *AUDIT.arguments(**values))


def entry(
    actor: Actor,
    action: str,
    targets: Mapping[str, Mapping[str, Any]] | Iterable[UUID],
    *,
    reason: str | None = None,
    bulk: UUID | None = None,
) -> dict[str, Any]:
    """The values of audit.sql, for any driver."""
    given: Sequence[tuple[str, Mapping[str, Any]]]
    given = list(targets.items()) if isinstance(targets, Mapping) else [(str(target), {}) for target in targets]
    rows = [
        {"id": str(row_id), "target": target, "details": dict(details)}
        for row_id, (target, details) in zip(uuid7s(len(given)), given, strict=True)
    ]
    return {
        "actor": actor.name,
        "via": actor.via,
        "action": action,
        "reason": reason,
        "bulk": bulk,
        "rows": orjson.dumps(rows, default=str).decode(),
    }


def checked_reason(reason: str | None, *, needed: str = "") -> str | None:
    """`reason` without blanks around it, None when it is empty. `needed` says what it is for, where one must be given.

    Raises `InvalidOption`.
    """
    reason = (reason or "").strip()
    if not reason:
        if needed:
            raise InvalidOption("reason", f"must be given: {needed}")
        return None
    if len(reason) > LONGEST_REASON:
        raise InvalidOption("reason", f"must be at most {LONGEST_REASON} characters (got {len(reason)})")
    # A surrogate is what a command line gives for bytes that are not UTF-8; Postgres stores neither.
    if any(character == "\0" or "\ud800" <= character <= "\udfff" for character in reason):
        raise InvalidOption("reason", "must be text (it holds a NUL character, or bytes that are not UTF-8)")
    return reason
