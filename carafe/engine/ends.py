"""How an attempt ended, as the runner tells the ledger: small frozen records, one class an outcome."""

import traceback
from dataclasses import dataclass
from uuid import UUID

from carafe.engine.slot import Claim
from carafe.jobs.fingerprint import fingerprint

MAX_ERROR = 10_000
"""Characters of an error message that are kept."""

MAX_TRACEBACK = 20_000
"""Characters of a traceback that are kept, its end."""


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


def describe(error: BaseException) -> tuple[str, str, str]:
    """An exception as (class, message, traceback), each within its limit and free of NUL characters.

    Frames of the engine are left out: the reader looks for the handler's.
    """
    frames = error.__traceback__
    while frames is not None and "/carafe/engine/" in frames.tb_frame.f_code.co_filename.replace("\\", "/"):
        frames = frames.tb_next
    text = "".join(traceback.format_exception(type(error), error, frames or error.__traceback__, chain=True))
    return class_name(error), clean(str(error), MAX_ERROR), clean(text[-MAX_TRACEBACK:], MAX_TRACEBACK)


def class_name(error: BaseException) -> str:
    """The class of an exception, with its module unless it is a builtin."""
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def clean(text: str, limit: int) -> str:
    """Text that Postgres can store: no NUL, no lone surrogate, at most `limit` characters."""
    text = text.replace("\0", "\\0").encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= limit else text[: limit - 1] + "…"
