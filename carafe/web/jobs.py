"""The job API: enqueue, follow and act on jobs over HTTP. One router, mounted by `carafe.web.application`.

202 is answered after the commit (DESIGN.md rule 1). The caller's name scopes idempotency keys and is kept with the job.
"""

import asyncio
import inspect
import time
from typing import Annotated, Any
from uuid import UUID

import orjson
from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response
from pydantic.errors import PydanticInvalidForJsonSchema, PydanticUserError

from carafe.jobs import BulkInvalid, CarafeError, Enqueued, InvalidArguments, Job, JobRecord, NewJob, Page, QueueRecord
from carafe.jobs.audit import LONGEST_REASON
from carafe.jobs.definition import build, kinds
from carafe.jobs.enqueueing import MAX_KEY, Limits, prepare
from carafe.jobs.errors import MAX_FAULTS
from carafe.jobs.listing import cursor_after
from carafe.jobs.states import ENDED
from carafe.jobs.stored_json import written
from carafe.web.authentication import Operator, Viewer
from carafe.web.bodies import many_jobs, one_job, reading, reads
from carafe.web.bulk_bodies import parse_bulk
from carafe.web.installation import ClientOf
from carafe.web.models import (
    AcceptedJob,
    BulkAccepted,
    BulkRequest,
    EditRequest,
    EnqueueRequest,
    JobDetail,
    JobFilter,
    JobModel,
    JobPage,
    KindList,
    KindModel,
    QueueList,
    QueueModel,
)
from carafe.web.openapi import problems, request_body

router = APIRouter()

LONGEST = 2_000
"""Characters of arguments, a result or a text of a job in a list; longer ones are left out or shortened."""

PAGE_BYTES = 1_000_000
"""Bytes of a page of jobs."""

IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=MAX_KEY,
        description="Repeating a request with the same key gives the answer of the first one and stores nothing more, "
        "for RETENTION_IDEMPOTENCY (a day). Keys are the caller's own; the same key with another body is refused.",
    ),
]

QueueName = Annotated[str, Path(min_length=1, max_length=200, pattern=r"^[^\x00]*$")]
Reason = Annotated[
    str | None,
    Query(max_length=LONGEST_REASON, pattern=r"^[^\x00]*$", description="Why, for those who find it later."),
]

NeededReason = Annotated[
    str,
    Query(
        alias="reason",
        min_length=1,
        max_length=LONGEST_REASON,
        pattern=r"^[^\x00]*$",
        description="Why it is given up; it is kept with the job.",
    ),
]

_LOCATION = {"Location": {"description": "The job.", "schema": {"type": "string"}}}
_REPLAYED = {
    "Idempotency-Replayed": {
        "description": "`true` when the Idempotency-Key was used before and this is the answer of then.",
        "schema": {"type": "string"},
    }
}
_EXAMPLE = {"kind": "briefing.generate", "args": {"briefing_id": "01980a2e-7c11-7000-8000-000000000001"}}


@router.post(
    "/jobs",
    operation_id="enqueueJob",
    summary="Enqueue a job",
    status_code=202,
    response_model=AcceptedJob,
    responses={
        202: {"description": "Committed; it will reach an end.", "headers": _LOCATION | _REPLAYED},
        200: {
            "description": "A live job holds the unique key already; this is that job.",
            "model": AcceptedJob,
            "headers": _LOCATION | _REPLAYED,
        },
        **problems(400, 401, 403, 409, 413, 415, 422, 503),
    },
    openapi_extra=request_body(
        EnqueueRequest,
        now=_EXAMPLE,
        later={**_EXAMPLE, "run_at": "2030-01-01T06:00:00+01:00"},
        once={**_EXAMPLE, "unique_key": "briefing-of-today", "delay": 30},
    ),
)
async def enqueue(
    request: Request,
    response: Response,
    caller: Operator,
    new: Annotated[EnqueueRequest, Depends(reads(EnqueueRequest, one_job))],
    client: ClientOf,
    idempotency_key: IdempotencyKey = None,
) -> Enqueued:
    """Accept one job. It is committed when this answers."""
    accepted = await client.enqueue(
        build(new.kind, new.args),
        run_at=new.run_at,
        delay=new.delay,
        unique_key=new.unique_key,
        idempotency_key=idempotency_key,
        scope=caller.name,
        created_by=caller.name or None,
    )
    response.status_code = 200 if accepted.existing else 202
    response.headers["Location"] = request.url_for("carafe_get_job", job_id=accepted.id).path
    if accepted.replayed:
        response.headers["Idempotency-Replayed"] = "true"
    return accepted


@router.post(
    "/jobs/bulk",
    operation_id="enqueueJobs",
    summary="Enqueue thousands of jobs, all or none",
    status_code=202,
    response_model=BulkAccepted,
    responses={
        202: {"description": "All committed, in the order of the request.", "headers": _REPLAYED},
        **problems(400, 401, 403, 409, 413, 415, 422, 503),
    },
    openapi_extra=request_body(BulkRequest, two={"jobs": [_EXAMPLE, {**_EXAMPLE, "delay": 60}]}),
)
async def enqueue_bulk(
    caller: Operator,
    bulk: Annotated[list[EnqueueRequest], Depends(reading(parse_bulk, many_jobs))],
    client: ClientOf,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Accept up to BULK_LIMIT jobs in one commit. With a fault in any, none is stored and all faults are listed."""
    accepted = await client.enqueue_many(
        await _built(bulk, client.limits),
        idempotency_key=idempotency_key,
        scope=caller.name,
        created_by=caller.name or None,
    )
    # Written directly: ten thousand models would take longer than the commit.
    jobs = [{"id": job.id, "kind": job.kind, "state": job.state, "existing": job.existing} for job in accepted]
    headers = {"Idempotency-Replayed": "true"} if any(job.replayed for job in accepted) else None
    return Response(orjson.dumps({"jobs": jobs}), 202, headers, "application/json")


@router.get(
    "/jobs",
    operation_id="listJobs",
    summary="List jobs",
    response_model=JobPage,
    responses=problems(401, 403, 422, 503),
)
async def find(caller: Viewer, wanted: Annotated[JobFilter, Query()], client: ClientOf) -> Response:
    """Jobs by state, kind and time, newest first, a page at a time: of up to a megabyte, so maybe fewer than `limit`."""
    page = await client.find(
        states=wanted.state,
        kind=wanted.kind,
        since=wanted.since,
        until=wanted.until,
        cursor=wanted.cursor,
        limit=wanted.limit,
        longest=LONGEST,
    )
    return Response(_page(page, bool(wanted.state) and frozenset(wanted.state) <= ENDED), media_type="application/json")


@router.get(
    "/jobs/{job_id}",
    name="carafe_get_job",
    operation_id="getJob",
    summary="Follow a job",
    response_model=JobDetail,
    responses=problems(401, 403, 404, 422, 503),
)
async def get(caller: Viewer, job_id: UUID, client: ClientOf) -> JobRecord:
    """A job as it stands, with its failed attempts and, while it waits, why."""
    return await client.get(job_id)


@router.post(
    "/jobs/{job_id}/cancel",
    operation_id="cancelJob",
    summary="Cancel a job",
    response_model=JobDetail,
    responses=problems(401, 403, 404, 409, 422, 503),
)
async def cancel(caller: Operator, job_id: UUID, client: ClientOf, reason: Reason = None) -> JobRecord:
    """A job that waits ends at once; a running one is asked to stop, and ends when its worker has done so."""
    return await client.cancel(job_id, reason=reason, by=caller.actor)


@router.post(
    "/jobs/{job_id}/retry",
    operation_id="retryJob",
    summary="Run a job again, or now",
    response_model=JobDetail,
    responses=problems(401, 403, 404, 409, 422, 503),
)
async def retry(caller: Operator, job_id: UUID, client: ClientOf, reason: Reason = None) -> JobRecord:
    """A dead job runs again with as many attempts as its kind has; a scheduled or retrying one runs at once."""
    return await client.retry(job_id, reason=reason, by=caller.actor)


@router.post(
    "/jobs/{job_id}/run-now",
    operation_id="runJobNow",
    summary="Run a job now",
    response_model=JobDetail,
    responses=problems(401, 403, 404, 409, 422, 503),
)
async def run_now(caller: Operator, job_id: UUID, client: ClientOf, reason: Reason = None) -> JobRecord:
    """A scheduled or retrying job runs at once."""
    return await client.run_now(job_id, reason=reason, by=caller.actor)


@router.post(
    "/jobs/{job_id}/discard",
    operation_id="discardJob",
    summary="Give a dead job up",
    response_model=JobDetail,
    responses=problems(401, 403, 404, 409, 422, 503),
)
async def discard(caller: Operator, job_id: UUID, client: ClientOf, reason: NeededReason) -> JobRecord:
    """It is resolved, counts no more among the dead, and stays findable until its retention; it can still be retried."""
    return await client.discard(job_id, reason=reason, by=caller.actor)


@router.post(
    "/jobs/{job_id}/edit-and-run",
    operation_id="editAndRunJob",
    summary="Run a job again with other arguments",
    status_code=202,
    response_model=AcceptedJob,
    responses={
        202: {"description": "A new job, committed; the old one stays as it is.", "headers": _LOCATION},
        **problems(400, 401, 403, 404, 413, 415, 422, 503),
    },
    openapi_extra=request_body(EditRequest, edited={"args": _EXAMPLE["args"]}),
)
async def edit_and_run(
    request: Request,
    response: Response,
    caller: Operator,
    job_id: UUID,
    edit: Annotated[EditRequest, Depends(reads(EditRequest, one_job))],
    client: ClientOf,
) -> Enqueued:
    """A new job of the same kind. Secrets may be taken over from the stored arguments, without being shown."""
    accepted = await client.edit_and_run(job_id, edit.args, edit.keep_secrets, run_at=edit.run_at, by=caller.actor)
    response.headers["Location"] = request.url_for("carafe_get_job", job_id=accepted.id).path
    return accepted


@router.get(
    "/kinds",
    operation_id="listKinds",
    summary="What can be enqueued",
    response_model=KindList,
    responses=problems(401, 403),
)
async def list_kinds(caller: Viewer, client: ClientOf) -> KindList:
    """Every kind of job that this process knows, with the JSON Schema of its arguments and its options."""
    return KindList(kinds=[_kind(found, client.limits) for _, found in sorted(kinds().items())])


@router.get(
    "/queues",
    operation_id="listQueues",
    summary="What waits and runs",
    response_model=QueueList,
    responses=problems(401, 403, 503),
)
async def list_queues(caller: Viewer, client: ClientOf) -> QueueList:
    """Each queue in numbers: queued, running, scheduled, retrying, dead, and the oldest wait."""
    return QueueList(queues=[QueueModel.model_validate(queue) for queue in await client.queues()])


@router.post(
    "/queues/{name}/pause",
    operation_id="pauseQueue",
    summary="Pause a queue",
    response_model=QueueModel,
    responses=problems(401, 403, 404, 422, 503),
)
async def pause(caller: Operator, name: QueueName, client: ClientOf, reason: Reason = None) -> QueueRecord:
    """Nothing of it is started any more until it is resumed; what runs goes on, and jobs are still accepted."""
    return await client.pause(name, reason=reason, by=caller.actor)


@router.post(
    "/queues/{name}/resume",
    operation_id="resumeQueue",
    summary="Resume a queue",
    response_model=QueueModel,
    responses=problems(401, 403, 404, 422, 503),
)
async def resume(caller: Operator, name: QueueName, client: ClientOf, reason: Reason = None) -> QueueRecord:
    """What waits in it is started again."""
    return await client.resume(name, reason=reason, by=caller.actor)


def _page(page: Page, ended_only: bool) -> bytes:
    """A page as JSON, with as many of its jobs as fit; written directly, since five hundred models would hold the loop."""
    jobs: list[bytes] = []
    size = 0
    cursor = page.next_cursor
    for number, job in enumerate(page.jobs):
        text = written({name: getattr(job, name) for name in JobModel.model_fields})
        size += len(text)
        if size > PAGE_BYTES and jobs:
            cursor = cursor_after(page.jobs[number - 1], ended_only)
            break
        jobs.append(text)
    return b'{"jobs":[' + b",".join(jobs) + b'],"next_cursor":' + written(cursor) + b"}"


BREATH = 0.01
"""Seconds of validating after which others get the loop."""


async def _built(bulk: list[EnqueueRequest], limits: Limits) -> list[NewJob]:
    """The jobs of a bulk. Raises `BulkInvalid` with the faults, also those that only storing would find."""
    jobs: list[NewJob] = []
    places: list[int] = []
    faults: list[tuple[int, CarafeError]] = []
    faulty = listed = 0
    until = time.monotonic() + BREATH
    for index, new in enumerate(bulk):
        try:
            jobs.append(NewJob(build(new.kind, new.args), new.run_at, new.delay, new.unique_key))
            places.append(index)
        except CarafeError as error:
            faulty += 1
            if listed < MAX_FAULTS:
                faults.append((index, error))
                listed += len(error.faults) if isinstance(error, InvalidArguments) else 1
        if time.monotonic() > until:
            await asyncio.sleep(0)
            until = time.monotonic() + BREATH
    if faulty:
        try:
            prepare(jobs, limits)
        except BulkInvalid as more:
            faulty += more.count
            faults += [(places[index], error) for index, error in more.errors[: max(0, MAX_FAULTS - listed)]]
        raise BulkInvalid(sorted(faults, key=lambda fault: fault[0]), len(bulk), count=faulty)
    return jobs


_schemas: dict[type[Job], dict[str, Any] | None] = {}


def _kind(job_class: type[Job], limits: Limits) -> KindModel:
    if job_class not in _schemas:
        try:
            _schemas[job_class] = job_class.model_json_schema()
        except (PydanticInvalidForJsonSchema, PydanticUserError):
            _schemas[job_class] = None  # a type of the application's own that JSON Schema has no word for
    options = job_class.job_options
    return KindModel(
        kind=options.kind,
        description=inspect.cleandoc(job_class.__doc__) if job_class.__doc__ else None,
        version=options.version,
        timeout=limits.timeout if options.timeout is None else options.timeout,
        max_retries=limits.max_retries if options.max_retries is None else options.max_retries,
        args_schema=_schemas[job_class],
    )
