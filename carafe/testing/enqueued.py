"""Assertions about enqueued jobs: compares stored jobs with expected ones, and describes the difference.

Arguments are compared as the handler would get them: the stored arguments are loaded into the job's class. The expected
value of a secret can be given in plain text. Neither stored secrets nor expected ones are ever shown.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any
from uuid import UUID

from pydantic import SecretBytes, SecretStr

from carafe.jobs.declaring import check_job_class, no_kind
from carafe.jobs.definition import Job, job_class, load
from carafe.jobs.errors import CarafeError
from carafe.jobs.options import OF_ONE_JOB
from carafe.jobs.secret_fields import REDACTED, may_be_secret, secrets_in
from carafe.store.statement import with_columns


@dataclass(frozen=True, slots=True)
class EnqueuedJob:
    """One stored job. `job` is None when this process cannot load it, because it does not know the kind or the arguments do
    not fit the class.

    `options`: the stored options that can differ between jobs of one class, such as ``unique_key``.
    """

    id: UUID
    kind: str
    state: str
    job: Job | None
    options: Mapping[str, Any]

    @property
    def unique_key(self) -> str | None:
        """The unique key that the job was enqueued with, or None."""
        key: str | None = self.options["unique_key"]
        return key

    def fits(self, kind: str, wanted: Mapping[str, Any]) -> bool:
        """Whether the job is of this kind and has these arguments."""
        return self.kind == kind and self.job is not None and not self.differing(wanted)

    def differing(self, wanted: Mapping[str, Any]) -> list[str]:
        """The names of the arguments whose values are not those in `wanted`."""
        return [name for name, value in wanted.items() if not _same(getattr(self.job, name), value)]


def query(condition: str) -> str:
    """The SQL query for the rows of all stored jobs that meet an SQL condition, oldest first."""
    columns = "select id, kind, state, cast(args as text) as args, version, {options} from"
    both = " union all ".join(f"{columns} {table} where {condition}" for table in ("carafe.jobs", "carafe.jobs_ended"))
    return with_columns(f"{both} order by id", __name__)


def read(row: Mapping[str, Any]) -> EnqueuedJob:
    """Returns the `EnqueuedJob` of a row that has id, kind, state, args (JSON text), version and the columns of options."""
    job: Job | None
    try:
        job = load(job_class(row["kind"]), row["args"], row["version"])
    except CarafeError:
        job = None
    options = {name: row[name] for name in OF_ONE_JOB}
    return EnqueuedJob(row["id"], row["kind"], row["state"], job, MappingProxyType(options))


def expected(job: type[Job] | Job, arguments: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Returns the kind and the arguments to look for. If `job` is an object, these are all of its arguments, with those in
    `arguments` replaced. Raises ``TypeError`` for an argument that the job does not have, and if `job` is neither a job nor
    a class of jobs."""
    if not isinstance(job, Job):
        check_job_class("assert_enqueued", job, Job)
    elif job.job_options is None:
        raise TypeError(f"assert_enqueued: {no_kind(type(job))}")
    fields = type(job).model_fields if isinstance(job, Job) else job.model_fields
    unknown = sorted(set(arguments) - set(fields))
    if unknown:
        name = (type(job) if isinstance(job, Job) else job).__name__
        raise TypeError(f"{name} has no argument {', '.join(unknown)}; it has: {', '.join(fields) or 'none'}")
    whole = {name: getattr(job, name) for name in fields} if isinstance(job, Job) else {}
    return job.job_options.kind, {**whole, **arguments}


def check(found: Sequence[EnqueuedJob], kind: str, wanted: Mapping[str, Any], count: int | None) -> list[EnqueuedJob]:
    """Returns the jobs in `found` that are of this kind and have the arguments `wanted`. Raises ``AssertionError`` if their
    number is not `count` or, with `count` None, if there are none."""
    fitting = [job for job in found if job.fits(kind, wanted)]
    if (len(fitting) == count) if count is not None else fitting:
        return fitting
    raise AssertionError(_account(found, fitting, kind, wanted, count))


def _account(
    found: Sequence[EnqueuedJob],
    fitting: Sequence[EnqueuedJob],
    kind: str,
    wanted: Mapping[str, Any],
    count: int | None,
) -> str:
    number = "at least 1 job" if count is None else "1 job" if count == 1 else f"{count} jobs"
    said = {name: _said(job_class(kind), name, value) for name, value in wanted.items()}
    condition = f" with {', '.join(f'{name}={value}' for name, value in said.items())}" if wanted else ""
    lines = [f"expected {number} {kind!r}{condition}, found {len(fitting)}"]
    if not found:
        lines.append("  nothing was enqueued")
    same_first = sorted(found, key=lambda job: job.kind != kind)
    for job in same_first[:20]:
        lines.append(f"  {job.kind} {job.id} ({job.state})")
        if job.kind == kind and job.job is not None:
            for name in job.differing(wanted):
                lines += [f"  - {name}={said[name]}", f"  + {name}={getattr(job.job, name)!r}"]
    if len(found) > 20:
        lines.append(f"  and {len(found) - 20} more")
    return "\n".join(lines)


def _said(job: type[Job], name: str, value: Any) -> str:
    """The expected value as text. It is hidden if the argument is secret and the value was given in plain text."""
    plain = value is not None and next(secrets_in(value), None) is None
    return REDACTED if plain and may_be_secret(job, name) else repr(value)


def _same(stored: Any, value: Any) -> bool:
    if isinstance(stored, SecretStr | SecretBytes) and not isinstance(value, SecretStr | SecretBytes):
        return bool(stored.get_secret_value() == value)
    return bool(stored == value)
