"""Bulk actions over HTTP: start an operator's action on all jobs that match a filter; follow, pause, resume or cancel it.

A start is answered 201 after the commit. From then on the steward carries the action out, whatever happens to this process.
"""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request, Response

from carafe.settings.settings import Settings
from carafe.web.authentication import Operator, Viewer
from carafe.web.bodies import reads
from carafe.web.documented import DocumentedRoute
from carafe.web.installation import ClientOf
from carafe.web.models import BulkActionList, BulkActionModel, BulkActionRequest
from carafe.web.openapi import problems, request_body

router = APIRouter(route_class=DocumentedRoute)


def _selection(settings: Settings) -> int:
    """Returns the maximum number of bytes of the body of a bulk action: enough for 10,000 ids of jobs and the other
    fields."""
    return 1_048_576


_REPLAY = {
    "action": "retry",
    "filter": {"kind": "report.send", "error_class": "ConnectTimeout", "since": "2030-01-01T14:02:00Z"},
    "rate": 20,
    "reason": "the webhook is back",
}
_DISCARD = {
    "action": "discard",
    "filter": {"ids": ["01980a2e-7c11-7000-8000-000000000001"]},
    "reason": "the reports were sent by hand",
}


@router.post(
    "/bulk-actions",
    operation_id="startBulkAction",
    summary="Act on many jobs",
    status_code=201,
    response_model=BulkActionModel,
    responses={
        201: {
            "description": "Committed; the steward processes it.",
            "headers": {"Location": {"description": "The bulk action.", "schema": {"type": "string"}}},
        },
        **problems(400, 401, 403, 413, 415, 422, 503),
    },
    openapi_extra=request_body(BulkActionRequest, replay=_REPLAY, selection=_DISCARD),
)
async def start(
    request: Request,
    response: Response,
    caller: Operator,
    asked: Annotated[BulkActionRequest, Depends(reads(BulkActionRequest, _selection))],
    client: ClientOf,
) -> BulkActionModel:
    """Start an action on all jobs that match the filter now. Jobs that end or are created later are not touched."""
    record = await client.start_bulk(asked.action, asked.filter, rate=asked.rate, reason=asked.reason, by=caller.actor)
    response.headers["Location"] = request.url_for("carafe_get_bulk_action", bulk_id=record.id).path
    return BulkActionModel.of(record)


@router.get(
    "/bulk-actions",
    operation_id="listBulkActions",
    summary="List bulk actions",
    response_model=BulkActionList,
    responses=problems(401, 403, 422, 503),
)
async def latest(caller: Viewer, client: ClientOf, limit: Annotated[int, Query(ge=1, le=500)] = 50) -> BulkActionList:
    """The newest bulk actions."""
    return BulkActionList(bulk_actions=[BulkActionModel.of(record) for record in await client.bulks(limit)])


@router.get(
    "/bulk-actions/{bulk_id}",
    name="carafe_get_bulk_action",
    operation_id="getBulkAction",
    summary="Follow a bulk action",
    response_model=BulkActionModel,
    responses=problems(401, 403, 404, 422, 503),
)
async def get(caller: Viewer, bulk_id: UUID, client: ClientOf) -> BulkActionModel:
    """How far the bulk action has come, and how many jobs could not be changed."""
    return BulkActionModel.of(await client.bulk(bulk_id))


@router.post(
    "/bulk-actions/{bulk_id}/pause",
    operation_id="pauseBulkAction",
    summary="Pause a bulk action",
    response_model=BulkActionModel,
    responses=problems(401, 403, 404, 409, 422, 503),
)
async def pause(caller: Operator, bulk_id: UUID, client: ClientOf) -> BulkActionModel:
    """Pause the bulk action after its current batch. Nothing more is done until it is resumed."""
    return BulkActionModel.of(await client.pause_bulk(bulk_id, by=caller.actor))


@router.post(
    "/bulk-actions/{bulk_id}/resume",
    operation_id="resumeBulkAction",
    summary="Resume a bulk action",
    response_model=BulkActionModel,
    responses=problems(401, 403, 404, 409, 422, 503),
)
async def resume(caller: Operator, bulk_id: UUID, client: ClientOf) -> BulkActionModel:
    """Let a paused bulk action continue where it stopped."""
    return BulkActionModel.of(await client.resume_bulk(bulk_id, by=caller.actor))


@router.post(
    "/bulk-actions/{bulk_id}/cancel",
    operation_id="cancelBulkAction",
    summary="Cancel a bulk action",
    response_model=BulkActionModel,
    responses=problems(401, 403, 404, 409, 422, 503),
)
async def cancel(caller: Operator, bulk_id: UUID, client: ClientOf) -> BulkActionModel:
    """Stop the bulk action for good. Jobs that it has already changed stay changed; no others will be."""
    return BulkActionModel.of(await client.cancel_bulk(bulk_id, by=caller.actor))
