"""Workers and the audit over HTTP: list the workers, drain one of them, and list what operators did."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Response

from carafe import Client
from carafe.jobs.stored_json import written
from carafe.readmodel.model import ReadModel
from carafe.readmodel.records import Workers
from carafe.web.authentication import Operator, Viewer
from carafe.web.documented import DocumentedRoute
from carafe.web.installation import ClientOf
from carafe.web.jobs import PAGE_BYTES, Reason
from carafe.web.models import AuditList, AuditModel, DrainModel, WorkerList, WorkerModel
from carafe.web.openapi import problems

router = APIRouter(route_class=DocumentedRoute)

Text = Annotated[str | None, Query(max_length=500, pattern=r"^[^\x00]*$")]


def _model(client: Client) -> ReadModel:
    return ReadModel(client.database, client.queue)


@router.get(
    "/workers",
    operation_id="listWorkers",
    summary="List workers",
    response_model=WorkerList,
    responses=problems(401, 403, 503),
)
async def workers(caller: Viewer, client: ClientOf) -> Response:
    """Live workers with the jobs that they run (up to 100 each), and workers that ended or were lost in the last hour.

    Lists at most 500 workers, and no more than fit into a megabyte: live ones first, then the newest. `cut` says whether
    some were left out.
    """
    return Response(_listed(await _model(client).workers()), media_type="application/json")


def _listed(found: Workers) -> bytes:
    """Returns workers as JSON, as many as fit into `PAGE_BYTES`.

    The JSON is written without pydantic models: making five hundred of them would block the event loop.
    """
    lists: dict[str, list[bytes]] = {"live": [], "gone": []}
    size, cut = 0, found.cut
    for name, worker in [*(("live", worker) for worker in found.live), *(("gone", worker) for worker in found.gone)]:
        text = written({field: getattr(worker, field) for field in WorkerModel.model_fields})
        size += len(text)
        if size > PAGE_BYTES:
            cut = True
            break
        lists[name].append(text)
    parts = [b'"%s":[%s]' % (name.encode(), b",".join(texts)) for name, texts in lists.items()]
    return b'{%s,"cut":%s}' % (b",".join(parts), written(cut))


@router.post(
    "/workers/{worker_id}/drain",
    operation_id="drainWorker",
    summary="Drain a worker",
    status_code=202,
    response_model=DrainModel,
    responses=problems(401, 403, 404, 422, 503),
)
async def drain(caller: Operator, worker_id: UUID, client: ClientOf, reason: Reason = None) -> DrainModel:
    """Ask a worker to stop as at SIGTERM: it claims no more jobs, finishes its jobs or returns them to the queue, and exits.

    The worker learns of the request within a second.
    """
    since = await client.drain_worker(worker_id, reason=reason, by=caller.actor)
    return DrainModel(id=worker_id, drain_requested_at=since)


@router.get(
    "/audit",
    operation_id="listAudit",
    summary="Who did what",
    response_model=AuditList,
    responses=problems(401, 403, 422, 503),
)
async def audit(
    caller: Viewer,
    client: ClientOf,
    target: Text = None,
    cursor: Text = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
) -> AuditList:
    """What operators did, newest first. With `target` (a job's id, a queue's name, …), only what was done to that target.

    A bulk action also has one row for each of its jobs. Those rows are listed only with the job's id as `target`.
    """
    page = await _model(client).audit(target=target, cursor=cursor, limit=limit)
    return AuditList(rows=[AuditModel.model_validate(row) for row in page.rows], next_cursor=page.next_cursor)
