"""Workers and the audit over HTTP: who works, what operators did, and draining one worker."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Response

from carafe.jobs import Client
from carafe.jobs.stored_json import written
from carafe.readmodel.model import ReadModel
from carafe.readmodel.records import Workers
from carafe.web.authentication import Operator, Viewer
from carafe.web.installation import ClientOf
from carafe.web.jobs import PAGE_BYTES, Reason
from carafe.web.models import AuditList, AuditModel, DrainModel, WorkerList, WorkerModel
from carafe.web.openapi import problems

router = APIRouter()

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
    """Workers that are alive, with what they run (up to 100 jobs each), and those that went in the last hour.

    The newest 500, or as many as fit into a megabyte, the live ones first; `cut` says that there are more.
    """
    return Response(_listed(await _model(client).workers()), media_type="application/json")


def _listed(found: Workers) -> bytes:
    """Workers as JSON, as many as fit; written directly, since five hundred models would hold the loop."""
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
    """As at SIGTERM: it takes nothing more, finishes or hands back what it has, and ends. It sees this within a second."""
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
    """What operators did, newest first; with `target` (a job's id, a queue's name, …) what was done to that alone.

    The jobs of a bulk action have rows of their own, which only `target` shows.
    """
    page = await _model(client).audit(target=target, cursor=cursor, limit=limit)
    return AuditList(rows=[AuditModel.model_validate(row) for row in page.rows], next_cursor=page.next_cursor)
