"""Carafe: background jobs for Python web applications, run by Celery workers and remembered by Postgres.

A job that was accepted ends in exactly one of three states: succeeded, dead (with a reason) or cancelled. This module has
the names that an application uses (`Job`, `handler`, `Client`, …). `carafe.web` has what a web process serves, and
`carafe.testing` has what the tests of an application's jobs need.

Each name is imported only when it is first used. So the web process does not load the engine, and a worker does not load the
web part.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from carafe.client.client import Client
    from carafe.client.sync_client import SyncClient
    from carafe.jobs.context import Context, SyncContext
    from carafe.jobs.definition import Job
    from carafe.jobs.errors import (
        BulkActionEnded,
        BulkActionNotFound,
        BulkInvalid,
        CarafeError,
        Fault,
        IdempotencyConflict,
        InvalidArguments,
        InvalidOption,
        InvalidResult,
        JobNotFound,
        KindNotFound,
        NotAllowedInState,
        NotMigrated,
        OutcomeUnknown,
        PayloadTooLarge,
        QueueNotFound,
        StaleClaim,
        Unavailable,
        UnknownKind,
        WorkerNotFound,
        faults_of,
    )
    from carafe.jobs.handlers import handler
    from carafe.jobs.hooks import Change, hook
    from carafe.jobs.identifiers import uuid7, uuid_for
    from carafe.jobs.modules import load_jobs
    from carafe.jobs.new_job import Limits, NewJob
    from carafe.jobs.outcomes import Cancel, Discard, Retry, Snooze
    from carafe.jobs.records import AttemptRecord, Enqueued, JobRecord, KindRecord, Page, QueueRecord, StackRecord
    from carafe.jobs.states import State
    from carafe.jobs.worker_lifespan import WorkerLifespan, worker_lifespan
    from carafe.settings.settings import Settings, load_settings
    from carafe.settings.types import SecretUrl
    from carafe.store.audit import Actor
    from carafe.store.bulk import BulkActionRecord
    from carafe.store.filters import JobFilter
    from carafe.store.transitions import HookFailed

__version__ = "0.2.0"

_HOME = {
    "Client": "carafe.client.client",
    "SyncClient": "carafe.client.sync_client",
    "Context": "carafe.jobs.context",
    "SyncContext": "carafe.jobs.context",
    "Job": "carafe.jobs.definition",
    "BulkActionEnded": "carafe.jobs.errors",
    "BulkActionNotFound": "carafe.jobs.errors",
    "BulkInvalid": "carafe.jobs.errors",
    "CarafeError": "carafe.jobs.errors",
    "Fault": "carafe.jobs.errors",
    "IdempotencyConflict": "carafe.jobs.errors",
    "InvalidArguments": "carafe.jobs.errors",
    "InvalidOption": "carafe.jobs.errors",
    "InvalidResult": "carafe.jobs.errors",
    "JobNotFound": "carafe.jobs.errors",
    "KindNotFound": "carafe.jobs.errors",
    "NotAllowedInState": "carafe.jobs.errors",
    "NotMigrated": "carafe.jobs.errors",
    "OutcomeUnknown": "carafe.jobs.errors",
    "PayloadTooLarge": "carafe.jobs.errors",
    "QueueNotFound": "carafe.jobs.errors",
    "StaleClaim": "carafe.jobs.errors",
    "Unavailable": "carafe.jobs.errors",
    "UnknownKind": "carafe.jobs.errors",
    "WorkerNotFound": "carafe.jobs.errors",
    "faults_of": "carafe.jobs.errors",
    "handler": "carafe.jobs.handlers",
    "Change": "carafe.jobs.hooks",
    "hook": "carafe.jobs.hooks",
    "uuid7": "carafe.jobs.identifiers",
    "uuid_for": "carafe.jobs.identifiers",
    "load_jobs": "carafe.jobs.modules",
    "Limits": "carafe.jobs.new_job",
    "NewJob": "carafe.jobs.new_job",
    "Cancel": "carafe.jobs.outcomes",
    "Discard": "carafe.jobs.outcomes",
    "Retry": "carafe.jobs.outcomes",
    "Snooze": "carafe.jobs.outcomes",
    "AttemptRecord": "carafe.jobs.records",
    "Enqueued": "carafe.jobs.records",
    "JobRecord": "carafe.jobs.records",
    "KindRecord": "carafe.jobs.records",
    "Page": "carafe.jobs.records",
    "QueueRecord": "carafe.jobs.records",
    "StackRecord": "carafe.jobs.records",
    "State": "carafe.jobs.states",
    "WorkerLifespan": "carafe.jobs.worker_lifespan",
    "worker_lifespan": "carafe.jobs.worker_lifespan",
    "Settings": "carafe.settings.settings",
    "load_settings": "carafe.settings.settings",
    "SecretUrl": "carafe.settings.types",
    "Actor": "carafe.store.audit",
    "BulkActionRecord": "carafe.store.bulk",
    "JobFilter": "carafe.store.filters",
    "HookFailed": "carafe.store.transitions",
}

__all__ = [
    "Actor",
    "AttemptRecord",
    "BulkActionEnded",
    "BulkActionNotFound",
    "BulkActionRecord",
    "BulkInvalid",
    "Cancel",
    "CarafeError",
    "Change",
    "Client",
    "Context",
    "Discard",
    "Enqueued",
    "Fault",
    "HookFailed",
    "IdempotencyConflict",
    "InvalidArguments",
    "InvalidOption",
    "InvalidResult",
    "Job",
    "JobFilter",
    "JobNotFound",
    "JobRecord",
    "KindNotFound",
    "KindRecord",
    "Limits",
    "NewJob",
    "NotAllowedInState",
    "NotMigrated",
    "OutcomeUnknown",
    "Page",
    "PayloadTooLarge",
    "QueueNotFound",
    "QueueRecord",
    "Retry",
    "SecretUrl",
    "Settings",
    "Snooze",
    "StackRecord",
    "StaleClaim",
    "State",
    "SyncClient",
    "SyncContext",
    "Unavailable",
    "UnknownKind",
    "WorkerLifespan",
    "WorkerNotFound",
    "faults_of",
    "handler",
    "hook",
    "load_jobs",
    "load_settings",
    "uuid7",
    "uuid_for",
    "worker_lifespan",
]


def __getattr__(name: str) -> object:
    """Import a public name from its module (PEP 562)."""
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(home), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
