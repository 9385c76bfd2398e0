"""The audit: who did what to which job, worker, queue or bulk action, when, from where and why.

Guarantees: an action's audit row is written in the action's own transaction, so that both are committed or neither is. Rows
and dead jobs are kept for the same time (RETENTION_DEAD).
Must never: hold a job's arguments. The only exception is the value of an argument in the filter of a bulk action.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, get_args
from uuid import UUID

import orjson

from carafe.jobs.errors import InvalidOption
from carafe.jobs.identifiers import uuid7s
from carafe.jobs.options import checked_text
from carafe.jobs.records import as_uuid
from carafe.jobs.stored_json import readable
from carafe.store.database import Connection
from carafe.store.statements import AUDIT
from carafe.texts import shown

Via = Literal["dashboard", "api", "cli", "steward"]
"""The interface through which an action came."""

LONGEST_REASON = 500
"""The maximum number of characters of a reason."""

REASON = r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]*$"
"""The form of a reason: one line without control characters, in a syntax that Python, OpenAPI and browsers share."""


@dataclass(frozen=True, slots=True)
class Actor:
    """Who does an action: the name of a person or token, and the interface (`via`) that was used."""

    name: str
    via: Via

    def __post_init__(self) -> None:
        if checked_text(self.name, "name") is None:
            raise InvalidOption("name", "must be a text that says who acts (got None)")
        if self.via not in get_args(Via):
            raise InvalidOption("via", f"must be one of {', '.join(get_args(Via))} (got {shown(self.via)})")


def checked_actor(by: Any, *, needed: bool = False) -> Actor | None:
    """Returns `by`, an `Actor` or None. Raises `InvalidOption` if it is anything else, or if it is None although an actor is
    `needed`."""
    if isinstance(by, Actor) or (by is None and not needed):
        return by
    raise InvalidOption("by", f'must be an Actor, as in Actor("ada", "api") (got {shown(by)})')


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """One entry of the audit: an action that was done, by whom and through which interface. `target` is the id or name of a
    job, worker, queue, bulk action or login.

    `bulk`: the id of the bulk action that this action was part of.
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


_BEFORE = {"run now": "run_now"}
"""Spellings of actions before migration 0006, and those of now. During a rollout, processes of the previous release still
write the earlier spellings after the migration."""


def audit_record(row: Mapping[str, Any]) -> AuditRecord:
    """The `AuditRecord` of a row of ``carafe.audit``."""
    details = readable(row["details"]) if isinstance(row["details"], str | bytes) else row["details"]
    return AuditRecord(
        id=as_uuid(row["id"]),
        at=row["at"],
        actor=row["actor"],
        via=row["via"],
        action=_BEFORE.get(row["action"], row["action"]),
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
    """Write one audit row. The connection must be within the transaction of the action."""
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
    """Write an audit row for each target. Each row contains the details that `targets` has for its target; see `record`."""
    values = entry(actor, action, targets, reason=reason, bulk=bulk)
    await AUDIT.execute(connection, **values)


def entry(
    actor: Actor,
    action: str,
    targets: Mapping[str, Mapping[str, Any]] | Iterable[UUID],
    *,
    reason: str | None = None,
    bulk: UUID | None = None,
) -> dict[str, Any]:
    """The values for the parameters of the statement audit.sql, in a form that every driver accepts."""
    checked_actor(actor, needed=True)
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
    """Returns `reason` without surrounding blanks, or None when it is empty. If the text `needed` is not empty, a reason
    must be given; the error message then says what the reason is for, in the words of `needed`.

    Raises `InvalidOption` when the reason is missing, too long, not one line without control characters, or not a text that
    Postgres can store.
    """
    reason = (checked_text(reason, "reason") or "").strip()
    if not reason:
        if needed:
            raise InvalidOption("reason", f"must be given: {needed}")
        return None
    if len(reason) > LONGEST_REASON:
        raise InvalidOption("reason", f"must be at most {LONGEST_REASON} characters (got {len(reason)})")
    if re.fullmatch(REASON, reason) is None:
        raise InvalidOption("reason", "must be one line of text, without control characters")
    return reason
