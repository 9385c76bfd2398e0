"""What holds back vacuum: a transaction that was left open anywhere in the database, and how many rows wait for its end.

Rows of jobs that have ended stay in the table and its indexes for as long, and whatever reads along an index passes them.
Claims, ends and beats cost no more by that; upkeep that looks along an index looks less often (carafe.seldom).
"""

from dataclasses import dataclass
from typing import Any

from carafe.jobs.statements import HELD_BACK

LONG = 60.0
"""Seconds after which a transaction is told of: an ordinary one is long over."""

MANY = 50_000
"""Dead rows that make it somebody's concern."""


@dataclass(frozen=True, slots=True)
class Holder:
    """Who: ``session``, ``prepared transaction`` or ``replication slot``; `seconds`: for how long (None: not known)."""

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
            case _:
                return f"if nothing reads it any more: `select pg_drop_replication_slot('{self.name}')`"


@dataclass(frozen=True, slots=True)
class HeldBack:
    """`holder` has held back vacuum longest (None: nobody for `LONG`); `dead_rows` of live jobs wait; `unseen` sessions are
    hidden from this user."""

    holder: Holder | None
    dead_rows: int
    unseen: int

    @property
    def matters(self) -> bool:
        """Whether a person should do something."""
        return self.holder is not None and self.dead_rows >= MANY


async def held_back(connection: Any) -> HeldBack:
    """As it is now, on an asyncpg connection. Raises what the database raises."""
    row = await connection.fetchrow(HELD_BACK.positional, LONG)
    holder = None
    if row["what"] is not None:
        holder = Holder(row["what"], row["name"], row["pid"], row["state"], row["seconds"])
    return HeldBack(holder, row["dead_rows"], row["unseen"])
