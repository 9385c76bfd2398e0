"""A job before it is stored: the request to enqueue it, and the limits that it must keep."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, Unpack

from carafe.jobs.definition import Job
from carafe.jobs.options import CLASS_OPTIONS, ENQUEUE_OPTIONS, EnqueueOptions, JobOptions
from carafe.settings import job_defaults

if TYPE_CHECKING:
    from carafe.settings.settings import Settings


@dataclass(frozen=True, slots=True, init=False)
class NewJob:
    """One job of a bulk, with options that hold for this job alone: ``NewJob(job, delay=60)``. `EnqueueOptions` lists the
    options.

    Raises ``TypeError`` for an unknown option. A faulty value is reported later, by `enqueue_many`.
    """

    job: Job
    options: EnqueueOptions

    def __init__(self, job: Job, **options: Unpack[EnqueueOptions]) -> None:
        if not _NAMES.issuperset(options):
            unknown = sorted(options.keys() - _NAMES)
            raise TypeError(f"there is no option {', '.join(unknown)}; the options are {', '.join(ENQUEUE_OPTIONS)}")
        _set(self, "job", job)
        _set(self, "options", options)


_NAMES = frozenset(ENQUEUE_OPTIONS)
_set = object.__setattr__


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of jobs that are enqueued, and the defaults for options that a job's class leaves open. Sizes are in bytes
    of JSON, durations in seconds."""

    args_bytes: int = job_defaults.ARGS_BYTES
    result_bytes: int = job_defaults.RESULT_BYTES
    bulk: int = job_defaults.BULK
    timeout: float = job_defaults.TIMEOUT
    max_retries: int = job_defaults.RETRIES
    idempotency_ttl: float = job_defaults.IDEMPOTENCY_TTL

    @classmethod
    def of(cls, settings: "Settings") -> Self:
        """The limits that an operator has set in `settings`."""
        return cls(
            args_bytes=settings.job_args_limit,
            result_bytes=settings.job_result_limit,
            bulk=settings.bulk_limit,
            timeout=settings.job_timeout,
            max_retries=settings.job_max_retries,
            idempotency_ttl=settings.retention_idempotency,
        )

    def resolve(self, options: JobOptions) -> dict[str, Any]:
        """Returns the value of each option in `CLASS_OPTIONS`, by name: the one that the job's class sets, or else the
        default."""
        resolved = {}
        for name, option in CLASS_OPTIONS.items():
            said = getattr(options, name)
            resolved[name] = getattr(self, name, option.default) if said is None else said
        return resolved
