"""Bulk actions over HTTP: retry, cancel, discard or run now all jobs that meet a filter; follow, pause and cancel that.

201 is answered after the commit: from then on the steward works it off, whatever happens to this process.
"""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request, Response

from carafe.jobs.errors import InvalidOption
from carafe.jobs.filters import JobFilter
from carafe.settings import Settings
from carafe.web.authentication import Operator, Viewer
from carafe.web.bodies import reads
from carafe.web.installation import ClientOf
from carafe.web.models import BulkActionList, BulkActionModel, BulkActionRequest, BulkFilter
from carafe.web.openapi import problems, request_body

router = APIRouter()


def _selection(settings: Settings) -> int:
    """Bytes of a body: 10,000 ids, and the rest."""
    return 1_048_576


_REPLAY = {
    "action": "retry",
    "filter": {"kind": "briefing.generate", "error_class": "ConnectTimeout", "since": "2030-01-01T14:02:00Z"},
    "rate": 20,
    "reason": "the webhook is back",
}
_DISCARD = {
    "action": "discard",
    "filter": {"ids": ["01980a2e-7c11-7000-8000-000000000001"]},
    "reason": "the briefings were cancelled by hand",
}


@router.post(
    "/bulk-actions",
    operation_id="startBulkAction",
    summary="Retry, cancel, discard or run now many jobs",
    status_code=201,
    response_model=BulkActionModel,
    responses={
        201: {
            "description": "Committed; the steward works it off.",
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
    """What it concerns is what meets the filter now; jobs that end or come later are not touched."""
    record = await client.start_bulk(
        asked.action, _filter(asked.filter), rate=asked.rate, reason=asked.reason, by=caller.actor
    )
    response.headers["Location"] = request.url_for("carafe_get_bulk_action", bulk_id=record.id).path
    return BulkActionModel.of(record)


def _filter(given: BulkFilter) -> JobFilter:
    try:
        return JobFilter.from_json(given.model_dump(mode="json", exclude_none=True))
    except InvalidOption as error:
        raise InvalidOption(f"filter.{error.option}", str(error).partition(": ")[2]) from None


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
    """How far it has come, and what could not be done."""
    return BulkActionModel.of(await client.bulk(bulk_id))


@router.post(
    "/bulk-actions/{bulk_id}/pause",
    operation_id="pauseBulkAction",
    summary="Pause a bulk action",
    response_model=BulkActionModel,
    responses=problems(401, 403, 404, 409, 422, 503),
)
async def pause(caller: Operator, bulk_id: UUID, client: ClientOf) -> BulkActionModel:
    """Nothing more is done, after the batch under way, until it is resumed."""
    return BulkActionModel.of(await client.pause_bulk(bulk_id, by=caller.actor))


@router.post(
    "/bulk-actions/{bulk_id}/resume",
    operation_id="resumeBulkAction",
    summary="Resume a bulk action",
    response_model=BulkActionModel,
    responses=problems(401, 403, 404, 409, 422, 503),
)
async def resume(caller: Operator, bulk_id: UUID, client: ClientOf) -> BulkActionModel:
    """It goes on where it was paused."""
    return BulkActionModel.of(await client.resume_bulk(bulk_id, by=caller.actor))


@router.post(
    "/bulk-actions/{bulk_id}/cancel",
    operation_id="cancelBulkAction",
    summary="Cancel a bulk action",
    response_model=BulkActionModel,
    responses=problems(401, 403, 404, 409, 422, 503),
)
async def cancel(caller: Operator, bulk_id: UUID, client: ClientOf) -> BulkActionModel:
    """What is done stays done; nothing more will be."""
    return BulkActionModel.of(await client.cancel_bulk(bulk_id, by=caller.actor))
