"""What holds back vacuum: a transaction that was left open anywhere in the database, a standby or a replication slot whose
snapshot stands still; and how many rows wait for its end.

Rows of jobs that have ended stay in the table and its indexes for as long, and whatever reads along an index passes them.
Claims, ends and beats cost no more by that; upkeep that looks along an index looks less often (carafe.seldom).
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from carafe.jobs.statements import HELD_BACK

LONG = 60.0
"""Seconds after which an open transaction is reported. An ordinary one has ended by then; a standby's snapshot has
moved on."""

MANY = 50_000
"""Dead rows that make it somebody's concern."""


@dataclass(frozen=True, slots=True)
class Holder:
    """Who: ``session``, ``prepared transaction``, ``replication slot`` or ``standby``; `seconds`: for how long (None: not
    known)."""

    what: str
    name: str
    pid: int | None
    state: str | None
    seconds: float | None

    @property
    def words(self) -> str:
        """Who it is, for a sentence."""
        match self.what:
            case "session":
                return f"session {self.pid} ({self.name}, {self.state})"
            case _:
                return f"{self.what} {self.name}" + (f" ({self.state})" if self.state else "")

    @property
    def advice(self) -> str:
        """How to end it."""
        match self.what:
            case "session":
                return (
                    f"end what it does, or `select pg_terminate_backend({self.pid})`;"
                    " idle_in_transaction_session_timeout ends forgotten ones"
                )
            case "prepared transaction":
                return f"`commit prepared '{self.name}'` or `rollback prepared '{self.name}'`"
            case "replication slot" if self.state == "inactive":
                return f"if nothing reads it any more: `select pg_drop_replication_slot('{self.name}')`"
            case _:
                return "end the long statement on the standby, or set hot_standby_feedback = off there"


@dataclass(frozen=True, slots=True)
class HeldBack:
    """`holder` has the oldest snapshot of those that have held back vacuum for `LONG` (None: nobody has); `dead_rows` of
    live jobs wait; `unseen` sessions are hidden from this user."""

    holder: Holder | None
    dead_rows: int
    unseen: int

    @property
    def matters(self) -> bool:
        """Whether a person should do something."""
        return self.holder is not None and self.dead_rows >= MANY


_still: dict[str, float] = {}
"""Since when, in monotonic seconds, this process has seen a snapshot of a standby or slot that has not moved on since."""


async def held_back(connection: Any) -> HeldBack:
    """As it is now, on an asyncpg connection. Raises what the database raises."""
    rows = await connection.fetch(HELD_BACK.positional, LONG)
    now = time.monotonic()
    seen = {row["still"]: _still.get(row["still"], now) for row in rows if row["still"] is not None}
    _still.clear()
    _still.update(seen)
    holder = next((found for row in rows if (found := _holder(row, now)) is not None), None)
    return HeldBack(holder, rows[0]["dead_rows"], rows[0]["unseen"])


def _holder(row: Mapping[str, Any], now: float) -> Holder | None:
    if row["what"] is None:
        return None
    seconds = row["seconds"]
    if row["still"] is not None:
        # Postgres knows at best since when nobody reads a slot; a snapshot that stands still is as old as it was seen so.
        standing = now - _still[row["still"]]
        seconds = max(seconds or 0.0, standing) or None
        if row["state"] != "inactive" and standing <= LONG:
            return None
    return Holder(row["what"], row["name"], row["pid"], row["state"], seconds)
