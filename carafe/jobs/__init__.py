"""What applications import: declare a job, write its handler, enqueue and follow it.

The library's other folders (engine, steward, web) build on this one; it imports none of them.
"""

from carafe.jobs.client import Client
from carafe.jobs.context import Context, SyncContext
from carafe.jobs.definition import Job
from carafe.jobs.enqueueing import Limits, NewJob
from carafe.jobs.errors import (
    BulkInvalid,
    CarafeError,
    IdempotencyConflict,
    InvalidArguments,
    InvalidOption,
    JobNotFound,
    NotAllowedInState,
    OutcomeUnknown,
    PayloadTooLarge,
    QueueNotFound,
    StaleClaim,
    Unavailable,
    UnknownKind,
)
from carafe.jobs.handlers import handler
from carafe.jobs.hooks import Change, hook
from carafe.jobs.outcomes import Cancel, Discard, Retry, Snooze
from carafe.jobs.records import Enqueued, JobRecord, Page, QueueRecord
from carafe.jobs.states import State
from carafe.jobs.sync_client import SyncClient

__all__ = [
    "BulkInvalid",
    "Cancel",
    "CarafeError",
    "Change",
    "Client",
    "Context",
    "Discard",
    "Enqueued",
    "IdempotencyConflict",
    "InvalidArguments",
    "InvalidOption",
    "Job",
    "JobNotFound",
    "JobRecord",
    "Limits",
    "NewJob",
    "NotAllowedInState",
    "OutcomeUnknown",
    "Page",
    "PayloadTooLarge",
    "QueueNotFound",
    "QueueRecord",
    "Retry",
    "Snooze",
    "StaleClaim",
    "State",
    "SyncClient",
    "SyncContext",
    "Unavailable",
    "UnknownKind",
    "handler",
    "hook",
]
