"""The job API: enqueue, follow and act on jobs over HTTP. `carafe.web.application` mounts its router.

A request to enqueue is answered 202 after the commit (docs/design rule 1). An idempotency key belongs to its caller, so two
callers may use the same key. A job stores the name of the caller who enqueued it.
"""

import asyncio
import inspect
import time
from typing import Annotated, Any
from uuid import UUID

import orjson
from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response
from pydantic.errors import PydanticInvalidForJsonSchema, PydanticUserError

from carafe import (
    BulkInvalid,
    CarafeError,
    Enqueued,
    InvalidArguments,
    Job,
    JobRecord,
    KindRecord,
    NewJob,
    Page,
    QueueRecord,
    StackRecord,
)
from carafe.jobs.actions import ACTIONS, Action
from carafe.jobs.declaring import KIND
from carafe.jobs.definition import build, kinds
from carafe.jobs.errors import MAX_FAULTS
from carafe.jobs.new_job import Limits
from carafe.jobs.options import MAX_KEY
from carafe.jobs.stored_json import written
from carafe.store.audit import LONGEST_REASON, REASON
from carafe.store.enqueueing import prepare
from carafe.store.pages import cursor_behind
from carafe.web.authentication import Operator, Viewer
from carafe.web.bodies import many_jobs, one_job, reading, reads
from carafe.web.bulk_bodies import Bulk, parse_bulk
from carafe.web.documented import DocumentedRoute
from carafe.web.filters import Listing, listing, parameters
from carafe.web.installation import ClientOf
from carafe.web.models import (
    IN_LISTS,
    AcceptedJob,
    BulkAccepted,
    BulkRequest,
    EditRequest,
    EnqueueRequest,
    JobDetail,
    JobPage,
    JobToEnqueue,
    KindList,
    KindModel,
    PausedKindList,
    PausedKindModel,
    QueueList,
    QueueModel,
    StackModel,
)
from carafe.web.openapi import problems, request_body
from carafe.web.problems import Malformed

router = APIRouter(route_class=DocumentedRoute)

LONGEST = 2_000
"""The maximum number of characters of a job's arguments, of its result and of each of its texts in a list of jobs. Longer
ones are left out or shortened."""

PAGE_BYTES = 1_000_000
"""The maximum number of bytes of a page of jobs."""

IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=MAX_KEY,
        description="For RETENTION_IDEMPOTENCY (a day), a repeated request with the same key gets the first answer and "
        "stores nothing. Each caller has separate keys. The same key with another body is refused.",
    ),
]

KindName = Annotated[str, Path(pattern=f"^{KIND.pattern}$")]
QueueName = Annotated[str, Path(min_length=1, max_length=200, pattern=r"^[^\x00]*$")]
Reason = Annotated[
    str | None,
    Query(max_length=LONGEST_REASON, pattern=REASON, description="The reason: one line; stored in the audit."),
]

_LOCATION = {"Location": {"description": "The job.", "schema": {"type": "string"}}}
_REPLAYED = {
    "Idempotency-Replayed": {
        "description": "`true` when the Idempotency-Key was used before: this is the answer to that earlier request.",
        "schema": {"type": "string"},
    }
}
_EXAMPLE = {"kind": "report.send", "args": {"to": "ada@example.org", "pages": 3}}


@router.post(
    "/jobs",
    operation_id="enqueueJob",
    summary="Enqueue a job",
    status_code=202,
    response_model=AcceptedJob,
    responses={
        202: {"description": "Committed; it will reach an end.", "headers": _LOCATION | _REPLAYED},
        200: {
            "description": "Nothing was stored: a live job holds the unique key already. The answer describes that job.",
            "model": AcceptedJob,
            "headers": _LOCATION | _REPLAYED,
        },
        **problems(400, 401, 403, 409, 413, 415, 422, 503),
    },
    openapi_extra=request_body(
        EnqueueRequest,
        now=_EXAMPLE,
        later={**_EXAMPLE, "run_at": "2030-01-01T06:00:00+01:00"},
        once={**_EXAMPLE, "unique_key": "report-of-today", "delay": 30},
    ),
)
async def enqueue(
    request: Request,
    response: Response,
    caller: Operator,
    new: Annotated[JobToEnqueue, Depends(reads(EnqueueRequest, one_job))],
    client: ClientOf,
    idempotency_key: IdempotencyKey = None,
) -> Enqueued:
    """Accept one job. The answer is sent after the job is committed."""
    accepted = await client.enqueue(
        build(new.kind, new.args),
        **new.options,
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
    bulk: Annotated[Bulk, Depends(reading(parse_bulk, many_jobs))],
    client: ClientOf,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Accept up to BULK_LIMIT jobs in one commit. If any job is invalid, none is stored, and the answer lists the faults."""
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
    openapi_extra={"parameters": parameters()},
)
async def find(caller: Viewer, asked: Annotated[Listing, Depends(listing)], client: ClientOf) -> Response:
    """A page of the jobs that match all given parameters, newest first.

    Ended jobs are ordered by their end, live jobs by their creation. A page has at most a megabyte, so it may hold fewer
    jobs than `limit`.
    """
    page = await client.find(asked.filter, cursor=asked.cursor, limit=asked.limit, longest=LONGEST)
    return Response(_page(page, asked), media_type="application/json")


@router.get(
    "/jobs/{job_id}",
    name="carafe_get_job",
    operation_id="getJob",
    summary="Follow a job",
    response_model=JobDetail,
    responses=problems(401, 403, 404, 422, 503),
)
async def get(caller: Viewer, job_id: UUID, client: ClientOf) -> JobRecord:
    """The current state of a job, its failed attempts and, while it waits, why it waits."""
    return await client.get(job_id)


@router.post(
    "/jobs/{job_id}/stack",
    operation_id="showStack",
    summary="Ask where a running job is",
    response_model=StackModel,
    responses=problems(401, 403, 404, 409, 422, 503),
)
async def stack(caller: Operator, job_id: UUID, client: ClientOf) -> StackRecord:
    """The lines of code at which a running job is now: files, numbers and functions, no values. Its worker answers within
    about a second."""
    return await client.stack(job_id)


def _add_route(action: Action) -> None:
    """Add the route ``POST /jobs/{job_id}/NAME`` of an action. The parameter `reason` is required if the action needs it."""
    first, *rest = action.name.split("_")
    why = f"Why; {action.reason_needed}."
    needed = Query(min_length=1, max_length=LONGEST_REASON, pattern=REASON, description=why)

    async def act(caller: Operator, job_id: UUID, client: ClientOf, reason: Reason = None) -> JobRecord:
        return await client.act(action.name, job_id, reason=reason, by=caller.actor)

    async def act_for_a_reason(
        caller: Operator, job_id: UUID, client: ClientOf, reason: Annotated[str, needed]
    ) -> JobRecord:
        return await client.act(action.name, job_id, reason=reason, by=caller.actor)

    router.add_api_route(
        f"/jobs/{{job_id}}/{action.name}",
        act_for_a_reason if action.reason_needed else act,
        methods=["POST"],
        operation_id=f"{first}{''.join(map(str.title, rest))}Job",
        summary=action.summary,
        description=action.description,
        response_model=JobDetail,
        responses=problems(401, 403, 404, 409, 422, 503),
    )


for _action in ACTIONS.values():
    _add_route(_action)


@router.post(
    "/jobs/{job_id}/edit-and-run",
    operation_id="editAndRunJob",
    summary="Run a job again with other arguments",
    status_code=202,
    response_model=AcceptedJob,
    responses={
        202: {"description": "A new job, committed; the old job is unchanged.", "headers": _LOCATION},
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
    """Enqueue a new job of the same kind with these arguments. Stored secrets can be reused without being shown."""
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
    "/paused-kinds",
    operation_id="listPausedKinds",
    summary="Which kinds are paused",
    response_model=PausedKindList,
    responses=problems(401, 403, 503),
)
async def list_paused_kinds(caller: Viewer, client: ClientOf) -> PausedKindList:
    """The kinds that are paused, since when, by whom and why."""
    return PausedKindList(kinds=[PausedKindModel.model_validate(kind) for kind in await client.paused_kinds()])


@router.post(
    "/kinds/{kind}/pause",
    operation_id="pauseKind",
    summary="Pause a kind",
    response_model=PausedKindModel,
    responses=problems(401, 403, 404, 422, 503),
)
async def pause_kind(caller: Operator, kind: KindName, client: ClientOf, reason: Reason = None) -> KindRecord:
    """Start no more jobs of the kind until it is resumed. Other kinds go on, running jobs continue, and new jobs of the kind
    are still accepted."""
    return await client.pause_kind(kind, reason=reason, by=caller.actor)


@router.post(
    "/kinds/{kind}/resume",
    operation_id="resumeKind",
    summary="Resume a kind",
    response_model=PausedKindModel,
    responses=problems(401, 403, 404, 422, 503),
)
async def resume_kind(caller: Operator, kind: KindName, client: ClientOf, reason: Reason = None) -> KindRecord:
    """Let a paused kind start jobs again."""
    return await client.resume_kind(kind, reason=reason, by=caller.actor)


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
    """Start no more jobs of the queue until it is resumed. Running jobs continue, and new jobs are still accepted."""
    return await client.pause(name, reason=reason, by=caller.actor)


@router.post(
    "/queues/{name}/resume",
    operation_id="resumeQueue",
    summary="Resume a queue",
    response_model=QueueModel,
    responses=problems(401, 403, 404, 422, 503),
)
async def resume(caller: Operator, name: QueueName, client: ClientOf, reason: Reason = None) -> QueueRecord:
    """Let a paused queue start jobs again."""
    return await client.resume(name, reason=reason, by=caller.actor)


def _page(page: Page, asked: Listing) -> bytes:
    """Returns a page as JSON, with as many of its jobs as fit into `PAGE_BYTES`.

    The JSON is written without pydantic models: making five hundred of them would block the event loop.
    """
    jobs: list[bytes] = []
    size = 0
    cursor, searched_to = page.next_cursor, page.searched_to
    for number, job in enumerate(page.jobs):
        text = written({name: getattr(job, name) for name in IN_LISTS})
        size += len(text)
        if size > PAGE_BYTES and jobs:
            cursor, searched_to = cursor_behind(page.jobs[:number], asked.filter, asked.cursor), None
            break
        jobs.append(text)
    more = b'],"next_cursor":' + written(cursor) + b',"searched_to":' + written(searched_to)
    return b'{"jobs":[' + b",".join(jobs) + more + b"}"


BREATH = 0.01
"""Seconds for which jobs are validated in one go. Then other requests get the event loop for a moment."""


async def _built(bulk: Bulk, limits: Limits) -> list[NewJob]:
    """Returns the jobs of a bulk, ready to be enqueued.

    Raises `BulkInvalid` with the faults of all jobs: those of their form, those of their arguments, and those that would
    otherwise be found only when the jobs are stored. Raises ProblemError 422 if there are only faults of form.
    """
    jobs: list[NewJob] = []
    places: list[int] = []
    faults: list[tuple[int, CarafeError]] = []
    faulty = listed = 0
    until = time.monotonic() + BREATH
    for index, new in zip(bulk.places, bulk.jobs, strict=True):
        try:
            jobs.append(NewJob(build(new.kind, new.args), **new.options))
            places.append(index)
        except CarafeError as error:
            faulty += 1
            if listed < MAX_FAULTS:
                faults.append((index, error))
                listed += len(error.faults) if isinstance(error, InvalidArguments) else 1
        if time.monotonic() > until:
            await asyncio.sleep(0)
            until = time.monotonic() + BREATH
    if not faulty and not bulk.malformed:
        return jobs
    try:
        prepare(jobs, limits)
    except BulkInvalid as more:
        faulty += more.count
        faults += [(places[index], error) for index, error in more.errors[: max(0, MAX_FAULTS - listed)]]
    if not faulty:
        raise bulk.refusal()
    faults += [(index, Malformed(found)) for index, found in bulk.malformed]
    count = faulty + len(bulk.malformed) + bulk.more_jobs
    raise BulkInvalid(sorted(faults, key=lambda fault: fault[0]), bulk.total, count=count)


_schemas: dict[type[Job], dict[str, Any] | None] = {}


def _kind(job_class: type[Job], limits: Limits) -> KindModel:
    if job_class not in _schemas:
        try:
            _schemas[job_class] = job_class.model_json_schema()
        except (PydanticInvalidForJsonSchema, PydanticUserError):
            _schemas[job_class] = None  # an application's type that JSON Schema cannot express
    options = job_class.job_options
    return KindModel(
        kind=options.kind,
        description=inspect.cleandoc(job_class.__doc__) if job_class.__doc__ else None,
        version=options.version,
        **limits.resolve(options),
        args_schema=_schemas[job_class],
    )
