"""The errors about jobs, and about requests for jobs. Each message says what to do next. `carafe.errors` has their base
class."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from carafe.errors import CarafeError, NotMigrated, OutcomeUnknown, Unavailable

__all__ = ["CarafeError", "NotMigrated", "OutcomeUnknown", "Unavailable"]

MAX_FAULTS = 1_000
"""The maximum number of faults of one input that are kept. Further faults are only counted."""

SHOWN_FAULTS = 10
"""The maximum number of faults that the text of an error names."""

MAX_PATH = 300
"""The maximum number of characters that are shown of a fault's path. The names in the path come from the input and may be
of any length."""

MOST_READ = 10_000
"""The maximum number of faults for which pydantic is asked to list them: its list takes a kilobyte of memory for each
fault."""


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
    """One thing that is wrong with a job's arguments: the value's path (``items.0.name``) and what the value should be."""

    path: str
    message: str
    type: str = "value_error"
    count: int = 1
    """How many faults this entry stands for. It is 1, except in the last entry of a list that was cut, which stands for all
    faults that were left out."""


def short(text: str) -> str:
    """The first `MAX_PATH` characters of `text`, with an ellipsis if something was cut off."""
    return text if len(text) <= MAX_PATH else text[:MAX_PATH] + "…"


def listed(texts: Sequence[str], count: int) -> str:
    """The first `SHOWN_FAULTS` of `texts` as one text, with the number of further faults. `count` is the number of all
    faults."""
    more = count - min(len(texts), SHOWN_FAULTS)
    return "; ".join(texts[:SHOWN_FAULTS]) + (f"; and {more:,} more" if more else "")


class InvalidArguments(CarafeError):
    """The arguments do not fit the job's model. The message never repeats an argument's value, since it may be secret."""

    code = "invalid-arguments"
    status = 422

    def __init__(self, kind: str, faults: Sequence[Fault]) -> None:
        self.kind, self.faults = kind, tuple(faults)
        texts = [f"{short(fault.path)}: {fault.message}".removeprefix(": ") for fault in faults[:SHOWN_FAULTS]]
        super().__init__(f"arguments of {kind!r} are not valid: {listed(texts, sum(fault.count for fault in faults))}")


class InvalidResult(CarafeError):
    """A job's result does not fit the type that its class declares (``Job[Exported]``), for instance because another release
    of the handler wrote the result."""

    code = "invalid-result"

    def __init__(self, kind: str, faults: Sequence[Fault]) -> None:
        self.kind, self.faults = kind, tuple(faults)
        texts = [f"{short(fault.path)}: {fault.message}".removeprefix(": ") for fault in faults[:SHOWN_FAULTS]]
        said = listed(texts, sum(fault.count for fault in faults))
        super().__init__(f"the result of {kind!r} does not fit its type: {said}; `Client.get(id)` has it as plain data")


class PayloadTooLarge(CarafeError):
    """A job's arguments or its result are larger than allowed. The size is counted in bytes of JSON."""

    code = "payload-too-large"
    status = 413

    def __init__(self, what: str, size: int, limit: int, setting: str) -> None:
        self.size, self.limit, self.setting = size, limit, setting
        super().__init__(
            f"{what} take {size:,} bytes of JSON; the limit is {limit:,} ({setting}); "
            "store the data elsewhere and pass a reference to it"
        )


class InvalidOption(CarafeError):
    """An option of enqueue, list or another call has a value that cannot be used. `option` is its name; `message` says what
    the option takes."""

    code = "invalid-option"
    status = 422

    def __init__(self, option: str, message: str) -> None:
        self.option, self.message = option, message
        super().__init__(f"{option}: {message}")


class InvalidFilter(InvalidOption):
    """A filter of jobs has several faults. `faults` has them all; `option` is the option of the first one."""

    def __init__(self, faults: Sequence[InvalidOption]) -> None:
        """`faults` must have at least one entry."""
        self.faults = tuple(faults)
        texts = [short(str(fault)) for fault in self.faults[:SHOWN_FAULTS]]
        super().__init__(self.faults[0].option, listed(texts, len(self.faults)).partition(": ")[2])


class BulkInvalid(CarafeError):
    """Some jobs of a bulk are not valid, so none of the bulk's jobs was stored. `errors` has the index and the error of each
    invalid job."""

    code = "bulk-invalid"
    status = 422

    def __init__(self, errors: Sequence[tuple[int, CarafeError]], total: int, *, count: int | None = None) -> None:
        """`total`: the number of jobs in the bulk. `count`: the number of invalid jobs, if `errors` does not have them
        all."""
        self.errors, self.total = tuple(errors), total
        self.count = len(self.errors) if count is None else count
        shown = listed([f"[{index}] {error}" for index, error in self.errors[:SHOWN_FAULTS]], self.count)
        super().__init__(f"{self.count:,} of {total:,} jobs are not valid; nothing was stored: {shown}")


class IdempotencyConflict(CarafeError):
    """The same Idempotency-Key was used before with a different request."""

    code = "idempotency-conflict"
    status = 409

    def __init__(self, key: str) -> None:
        self.key = key
        super().__init__(f"Idempotency-Key {key!r} was used before with another body; use a new key for a new request")


class JobNotFound(CarafeError):
    """No job has this id, neither a live one nor an ended one within its retention."""

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


class KindNotFound(CarafeError):
    """No process knows this kind, and no job has it."""

    code = "kind-not-found"
    status = 404

    def __init__(self, kind: str) -> None:
        self.kind = kind
        super().__init__(
            f"no kind {kind!r}: JOB_MODULES does not declare it here, no worker has a handler for it, no job has it"
        )


class WorkerNotFound(CarafeError):
    """No live worker has this id."""

    code = "worker-not-found"
    status = 404

    def __init__(self, worker_id: UUID) -> None:
        self.worker_id = worker_id
        said = "it has stopped, was lost or never existed; `carafe workers` lists them"
        super().__init__(f"no live worker {worker_id}: {said}")


class BulkActionNotFound(CarafeError):
    """No bulk action has this id."""

    code = "bulk-action-not-found"
    status = 404

    def __init__(self, bulk_id: UUID) -> None:
        self.bulk_id = bulk_id
        super().__init__(f"no bulk action {bulk_id}: it never existed, or its retention has passed")


class BulkActionEnded(CarafeError):
    """The bulk action has ended, so it can no longer be paused, resumed or cancelled."""

    code = "bulk-action-ended"
    status = 409

    def __init__(self, bulk_id: UUID, state: str) -> None:
        self.bulk_id, self.state = bulk_id, state
        super().__init__(f"bulk action {bulk_id} is {state}: nothing is left to be done; start another one")


class NotAllowedInState(CarafeError):
    """The action is not possible in the job's present state. docs/state_machine.md lists which moves are possible."""

    code = "not-allowed-in-state"
    status = 409

    def __init__(self, action: str, job_id: UUID, state: str) -> None:
        self.action, self.job_id, self.state = action, job_id, state
        super().__init__(f"job {job_id} is {state}: it cannot be {action}")


class StaleClaim(CarafeError):
    """This attempt no longer owns its job, which was cancelled, rescued or ended meanwhile. What the attempt wrote was
    rolled back."""

    code = "stale-claim"
    status = 409

    def __init__(self, job_id: UUID, fence: int) -> None:
        super().__init__(f"job {job_id} is no longer owned under fence {fence}; the transaction was rolled back")


def faults_of(error: Any) -> list[Fault]:
    """The faults in `error`, a pydantic ``ValidationError``, without any input values. Returns at most `MAX_FAULTS` faults,
    and then one entry that stands for the rest. If there are more than `MOST_READ` faults, returns a single entry with their
    number."""
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
