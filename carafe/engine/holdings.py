"""What a worker holds: its claims until their ends are written, and the claims that are under way.

The heartbeat compares it with the truth. Written on the engine's loop; `in_hand` is called from the heartbeat's thread
(copying a dictionary's values is one step for other threads).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from carafe.engine.ledger import Hinted
from carafe.engine.slot import Claim


@dataclass(frozen=True, slots=True)
class InHand:
    """What a worker holds: ids and fences, of which the first `settled` were claimed before the last beat; and the ids of
    claims that are under way."""

    ids: list[UUID]
    fences: list[int]
    settled: int
    claiming: list[UUID]


class Holdings:
    """See the module."""

    def __init__(self) -> None:
        self._claims: dict[UUID, Claim] = {}
        self._claiming: dict[int, Sequence[Hinted]] = {}

    def claiming(self, batch: Sequence[Hinted]) -> None:
        """These are being claimed: rows that run under us without our knowing are to be expected."""
        self._claiming[id(batch)] = batch

    def claimed(self, batch: Sequence[Hinted], claims: Sequence[Claim]) -> None:
        """The claim of a batch has come back (or was given up) with these."""
        self._claims.update([(claim.id, claim) for claim in claims])
        self._claiming.pop(id(batch), None)

    def drop(self, claims: Sequence[Claim]) -> None:
        """These are done with: their ends are written, or they are no longer ours."""
        held = self._claims
        for claim in claims:
            # Not if it has been claimed again meanwhile.
            if held.get(claim.id) is claim:
                del held[claim.id]

    def in_hand(self, since: datetime) -> InHand:
        """All that is held, what was claimed before `since` (Postgres's time) first."""
        claiming = [hint.id for batch in list(self._claiming.values()) for hint in batch]
        claims = list(self._claims.values())
        old = [claim for claim in claims if claim.row["started_at"] < since]
        held = [*old, *(claim for claim in claims if claim.row["started_at"] >= since)]
        return InHand([claim.id for claim in held], [claim.fence for claim in held], len(old), claiming)

    def find(self, job_id: UUID, fence: int) -> Claim | None:
        """The claim in hand with this id and fence."""
        claim = self._claims.get(job_id)
        return claim if claim is not None and claim.fence == fence else None
