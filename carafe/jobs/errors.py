"""What can be wrong with a job or with what is asked of it, each error saying what to do next (see carafe.errors)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from carafe.errors import CarafeError, OutcomeUnknown, Unavailable

__all__ = ["CarafeError", "OutcomeUnknown", "Unavailable"]

MAX_FAULTS = 1_000
"""Faults of one input that are kept; the others are counted."""

SHOWN_FAULTS = 10
"""Faults that the text of an error names."""

MAX_PATH = 300
"""Characters of a fault's path that are shown: names come from the input and may have any length."""

MOST_READ = 10_000
"""Faults beyond which pydantic's list of them is not even made: it takes a kilobyte for each."""


class UnknownKind(CarafeError):
    """No job class with this kind is registered in this process."""

    code = "unknown-kind"
    status = 422

    def __init__(self, kind: str, known: Sequence[str]) -> None:
        self.kind, self.known = kind, sorted(known)
        names = ", ".join(self.known) or "none"
        super().__init__(f"unknown kind {short(kind)!r}; JOB_MODULES declares: {names}")


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong with an argument: its path (``items.0.name``) and what it should have been."""

    path: str
    message: str
    type: str = "value_error"
    count: int = 1
    """How many faults it stands for: the last of a long list stands for those that were left out."""


def short(text: str) -> str:
    """What is shown of a text that may have any length."""
    return text if len(text) <= MAX_PATH else text[:MAX_PATH] + "…"


def listed(texts: Sequence[str], count: int) -> str:
    """The first `SHOWN_FAULTS` of them, and how many more of `count` there are."""
    more = count - min(len(texts), SHOWN_FAULTS)
    return "; ".join(texts[:SHOWN_FAULTS]) + (f"; and {more:,} more" if more else "")


class InvalidArguments(CarafeError):
    """The arguments do not fit the job's model. Values are never repeated in the message: they may be secret."""

    code = "invalid-arguments"
    status = 422

    def __init__(self, kind: str, faults: Sequence[Fault]) -> None:
        self.kind, self.faults = kind, tuple(faults)
        texts = [f"{short(fault.path)}: {fault.message}".removeprefix(": ") for fault in faults[:SHOWN_FAULTS]]
        super().__init__(f"arguments of {kind!r} are not valid: {listed(texts, sum(fault.count for fault in faults))}")


class PayloadTooLarge(CarafeError):
    """Arguments or a result over their limit in bytes of JSON."""

    code = "payload-too-large"
    status = 413

    def __init__(self, what: str, size: int, limit: int, setting: str) -> None:
        self.size, self.limit, self.setting = size, limit, setting
        super().__init__(
            f"{what} take {size:,} bytes of JSON, the limit is {limit:,} ({setting}); "
            "store the data elsewhere and pass a reference to it"
        )


class InvalidOption(CarafeError):
    """An option of enqueue, list or another call is not usable (which one, and what it wants)."""

    code = "invalid-option"
    status = 422

    def __init__(self, option: str, message: str) -> None:
        self.option = option
        super().__init__(f"{option}: {message}")


class BulkInvalid(CarafeError):
    """A bulk is all or nothing: the faults of each bad item, by its index; nothing was stored."""

    code = "bulk-invalid"
    status = 422

    def __init__(self, errors: Sequence[tuple[int, CarafeError]], total: int, *, count: int | None = None) -> None:
        """`count`: how many of the jobs are not valid, where `errors` has not all of them."""
        self.errors, self.total = tuple(errors), total
        self.count = len(self.errors) if count is None else count
        shown = listed([f"[{index}] {error}" for index, error in self.errors[:SHOWN_FAULTS]], self.count)
        super().__init__(f"{self.count:,} of {total:,} jobs are not valid, nothing was stored: {shown}")


class IdempotencyConflict(CarafeError):
    """The same Idempotency-Key was used before with another request."""

    code = "idempotency-conflict"
    status = 409

    def __init__(self, key: str) -> None:
        self.key = key
        super().__init__(f"Idempotency-Key {key!r} was used before with another body; use a new key for a new request")


class JobNotFound(CarafeError):
    """No job with this id, live or within retention."""

    code = "job-not-found"
    status = 404

    def __init__(self, job_id: UUID) -> None:
        self.job_id = job_id
        super().__init__(f"no job {job_id}: it never existed, or its retention has passed")


class QueueNotFound(CarafeError):
    """No queue has this name."""

    code = "queue-not-found"
    status = 404

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(f"no queue {name!r}; `carafe queues` lists them")


class WorkerNotFound(CarafeError):
    """No live worker has this id."""

    code = "worker-not-found"
    status = 404

    def __init__(self, worker_id: UUID) -> None:
        self.worker_id = worker_id
        super().__init__(f"no live worker {worker_id}: it has stopped, was lost or never was; `carafe workers` lists them")


class BulkActionNotFound(CarafeError):
    """No bulk action with this id."""

    code = "bulk-action-not-found"
    status = 404

    def __init__(self, bulk_id: UUID) -> None:
        self.bulk_id = bulk_id
        super().__init__(f"no bulk action {bulk_id}: it never existed, or its retention has passed")


class BulkActionEnded(CarafeError):
    """A bulk action that has ended can be neither paused, resumed nor cancelled."""

    code = "bulk-action-ended"
    status = 409

    def __init__(self, bulk_id: UUID, state: str) -> None:
        self.bulk_id, self.state = bulk_id, state
        super().__init__(f"bulk action {bulk_id} is {state}: nothing of it is left to be done; start another one")


class NotAllowedInState(CarafeError):
    """The action does not exist for a job in this state (see the transition table)."""

    code = "not-allowed-in-state"
    status = 409

    def __init__(self, action: str, job_id: UUID, state: str) -> None:
        self.action, self.job_id, self.state = action, job_id, state
        super().__init__(f"job {job_id} is {state}: it cannot be {action}")


class StaleClaim(CarafeError):
    """This attempt no longer owns its job (cancelled, rescued or ended meanwhile); what it wrote was rolled back."""

    code = "stale-claim"
    status = 409

    def __init__(self, job_id: UUID, fence: int) -> None:
        super().__init__(f"job {job_id} is no longer owned under fence {fence}; the transaction was rolled back")


def faults_of(error: Any) -> list[Fault]:
    """The faults of a pydantic ``ValidationError`` without any input value in them: `MAX_FAULTS` and one for the rest."""
    count: int = error.error_count()
    if count > MOST_READ:
        return [Fault("", f"{count:,} values are not valid, too many to list them", "too_many_faults", count)]
    found = [
        Fault(".".join(str(part) for part in item["loc"]), item["msg"], item["type"])
        for item in error.errors(include_url=False, include_context=False, include_input=False)[:MAX_FAULTS]
    ]
    if count > MAX_FAULTS:
        found.append(Fault("", f"and {count - MAX_FAULTS:,} more", "too_many_faults", count - MAX_FAULTS))
    return found
