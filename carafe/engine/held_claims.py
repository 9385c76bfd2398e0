"""What a worker holds: its claims, each until the end of the job is written, and the batches of hints whose jobs it is
claiming.

The heartbeat compares this with the rows in Postgres. The methods are called on the engine's event loop, except `in_hand`,
which the heartbeat's thread calls. That is safe without a lock, since Python copies a dictionary's values in one step.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from carafe.engine.claim import Claim
from carafe.engine.ledger import Hinted


@dataclass(frozen=True, slots=True)
class InHand:
    """What a worker holds at one moment. `ids` and `fences` are the job ids and the fences of its claims. The first
    `settled` claims in these lists were made before the last heartbeat, the others after it. `claiming` has the ids of jobs
    that are being claimed."""

    ids: list[UUID]
    fences: list[int]
    settled: int
    claiming: list[UUID]


class Holdings:
    """The claims that one worker holds, and the batches of hints that it is claiming."""

    def __init__(self) -> None:
        self._claims: dict[UUID, Claim] = {}
        self._claiming: dict[int, Sequence[Hinted]] = {}

    def claiming(self, batch: Sequence[Hinted]) -> None:
        """Record that the jobs of a batch are being claimed: Postgres may already record them as running on this worker when
        the answer has not arrived."""
        self._claiming[id(batch)] = batch

    def claimed(self, batch: Sequence[Hinted], claims: Sequence[Claim]) -> None:
        """Record that the claim statement of a batch has returned `claims`, or was given up (then `claims` is empty)."""
        self._claims.update([(claim.id, claim) for claim in claims])
        self._claiming.pop(id(batch), None)

    def drop(self, claims: Sequence[Claim]) -> None:
        """Forget these claims, because the ends of their jobs are written or the jobs no longer belong to this worker."""
        held = self._claims
        for claim in claims:
            # Not if it has been claimed again meanwhile.
            if held.get(claim.id) is claim:
                del held[claim.id]

    def in_hand(self, since: datetime) -> InHand:
        """Returns what is held. Claims made before `since` (in Postgres's time) come first."""
        claiming = [hint.id for batch in list(self._claiming.values()) for hint in batch]
        claims = list(self._claims.values())
        old = [claim for claim in claims if claim.row["started_at"] < since]
        held = [*old, *(claim for claim in claims if claim.row["started_at"] >= since)]
        return InHand([claim.id for claim in held], [claim.fence for claim in held], len(old), claiming)

    def find(self, job_id: UUID, fence: int) -> Claim | None:
        """Returns the claim that is held with this id and fence; None when there is none."""
        claim = self._claims.get(job_id)
        return claim if claim is not None and claim.fence == fence else None
