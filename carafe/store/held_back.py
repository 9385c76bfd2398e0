"""Finds out what holds back vacuum, and how many dead rows wait to be removed. Vacuum is held back by a transaction that was
left open anywhere in the database, and by a standby or replication slot whose snapshot does not advance.

While vacuum is held back, the rows of ended jobs stay in the table and its indexes, and every scan along an index passes
them. Claims, ends and heartbeats do not get slower because of that. Upkeep that scans an index does so less often
(carafe.seldom).
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from carafe.store.statements import HELD_BACK

LONG = 60.0
"""Seconds after which an open transaction, or an unchanged snapshot of a standby, is reported. By then an ordinary
transaction has ended, and an ordinary standby's snapshot has changed."""

MANY = 50_000
"""The number of dead rows from which a held-back vacuum is worth reporting."""


@dataclass(frozen=True, slots=True)
class Holder:
    """Something that holds back vacuum. `what` is ``session``, ``prepared transaction``, ``replication slot`` or
    ``standby``. `seconds` says for how long it has held back vacuum (None: not known)."""

    what: str
    name: str
    pid: int | None
    state: str | None
    seconds: float | None

    @property
    def words(self) -> str:
        """The holder as a part of a sentence."""
        match self.what:
            case "session":
                return f"session {self.pid} ({self.name}, {self.state})"
            case _:
                return f"{self.what} {self.name}" + (f" ({self.state})" if self.state else "")

    @property
    def advice(self) -> str:
        """What an operator can do so that vacuum is no longer held back."""
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
    """Whether vacuum is held back. `holder` is what has held it back for `LONG` seconds or more; if there are several, the
    one with the oldest snapshot; None if there is none. `dead_rows` is the number of dead rows in the table of live jobs.
    `unseen` is the number of sessions whose details this user has no right to see."""

    holder: Holder | None
    dead_rows: int
    unseen: int

    @property
    def matters(self) -> bool:
        """Whether a person should do something: vacuum is held back, and many dead rows wait to be removed."""
        return self.holder is not None and self.dead_rows >= MANY


_still: dict[str, float] = {}
"""For each snapshot of a standby or replication slot that does not advance: the monotonic time, in seconds, at which this
process first saw it."""


async def held_back(connection: Any) -> HeldBack:
    """What holds back vacuum now. `connection` is asyncpg's. Raises the database's errors."""
    rows = await HELD_BACK.fetch(connection, seconds=LONG)
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
        # Postgres only knows since when nobody reads a slot. A snapshot counts as standing still since we first saw it.
        standing = now - _still[row["still"]]
        seconds = max(seconds or 0.0, standing) or None
        if row["state"] != "inactive" and standing <= LONG:
            return None
    return Holder(row["what"], row["name"], row["pid"], row["state"], seconds)
