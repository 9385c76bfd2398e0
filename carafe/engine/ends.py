"""How an attempt ended, as the runner tells the ledger: small frozen records, one class an outcome."""

from dataclasses import dataclass
from uuid import UUID

from carafe.engine.slot import Claim
from carafe.jobs.fingerprint import fingerprint


@dataclass(frozen=True, slots=True)
class End:
    """What all ends share. `seconds` is how long the attempt ran."""

    claim: Claim
    seconds: float

    @property
    def id(self) -> UUID:
        return self.claim.id


@dataclass(frozen=True, slots=True)
class Succeeded(End):
    """Returned; `result` is JSON text or None."""

    result: str | None


@dataclass(frozen=True, slots=True)
class Cancelled(End):
    """Asked to stop by somebody, or by its own handler."""

    reason: str


@dataclass(frozen=True, slots=True)
class Failed(End):
    """The attempt is spent. `delay` in seconds until the next; `final`: no other attempt whatever is left."""

    cause: str
    error_class: str
    error: str
    traceback: str | None
    delay: float
    final: bool = False

    @property
    def fingerprint(self) -> str:
        return fingerprint(self.claim.kind, self.error_class, self.error)


@dataclass(frozen=True, slots=True)
class Snoozed(End):
    """Wants to run again after `delay` seconds, at no cost."""

    delay: float


@dataclass(frozen=True, slots=True)
class Released(End):
    """Goes back to the queue at no cost. `started` False: claimed and never begun, which does not count as a
    release. `defer`: for other workers, the hint follows after a growing pause, of so
    many seconds at most."""

    started: bool = True
    defer: float | None = None
