"""The HTTP API of briefings: create a briefing, follow it, and list briefings.

A briefing's row and its job are stored in one transaction. The briefing's status then follows the job (`briefings.status`).
"""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request, Response
from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from app.models import BriefingAccepted, BriefingFilter, BriefingModel, BriefingPage, BriefingRequest
from briefings.jobs import GenerateBriefing
from briefings.model import Briefing
from carafe import IdempotencyConflict, InvalidOption, uuid7
from carafe.web import ClientOf, DocumentedRoute, IdempotencyKey, Operator, ProblemError, Viewer, reads, transaction
from carafe.web.openapi import problems, request_body

router = APIRouter(prefix="/api/v1", tags=["briefings"], route_class=DocumentedRoute)


@router.post(
    "/briefings",
    operation_id="requestBriefing",
    summary="Have a briefing written",
    status_code=202,
    response_model=BriefingAccepted,
    responses={
        202: {
            "description": "Committed, with its job.",
            "headers": {"Location": {"description": "The briefing.", "schema": {"type": "string"}}},
        },
        **problems(400, 401, 403, 409, 413, 415, 422, 503),
    },
    openapi_extra=request_body(BriefingRequest, coffee={"topic": "Coffee prices this morning"}),
)
async def request_briefing(
    request: Request,
    response: Response,
    caller: Operator,
    wanted: Annotated[BriefingRequest, Depends(reads(BriefingRequest))],
    client: ClientOf,
    idempotency_key: IdempotencyKey = None,
) -> Briefing:
    """Create a briefing with the status pending, and the job that writes it. The header Location has the briefing's URL."""
    if idempotency_key is not None and not idempotency_key.isprintable():
        raise InvalidOption("Idempotency-Key", "must be printable characters")
    async with transaction(client) as session:
        briefing = await _insert(session, wanted.topic, caller.name, idempotency_key)
        if briefing is not None:
            enqueued = await client.enqueue(
                GenerateBriefing(briefing_id=briefing.id), session=session, created_by=caller.name or None
            )
            briefing.job_id = enqueued.id
        else:
            briefing = await _asked_before(session, wanted.topic, caller.name, idempotency_key)
            response.headers["Idempotency-Replayed"] = "true"
    response.headers["Location"] = request.url_for("get_briefing", briefing_id=briefing.id).path
    return briefing


@router.get(
    "/briefings",
    operation_id="listBriefings",
    summary="List briefings",
    response_model=BriefingPage,
    responses=problems(401, 403, 422, 503),
)
async def list_briefings(caller: Viewer, wanted: Annotated[BriefingFilter, Query()], client: ClientOf) -> BriefingPage:
    """A page of briefings, newest first."""
    query = select(Briefing).order_by(Briefing.id.desc()).limit(wanted.limit + 1)
    if wanted.cursor is not None:
        query = query.where(Briefing.id < wanted.cursor)
    async with transaction(client) as session:
        found = list(await session.scalars(query))
    page = [BriefingModel.model_validate(briefing) for briefing in found[: wanted.limit]]
    return BriefingPage(briefings=page, next_cursor=page[-1].id if len(found) > wanted.limit else None)


@router.get(
    "/briefings/{briefing_id}",
    name="get_briefing",
    operation_id="getBriefing",
    summary="Follow a briefing",
    response_model=BriefingModel,
    responses=problems(401, 403, 404, 422, 503),
)
async def get_briefing(caller: Viewer, briefing_id: UUID, client: ClientOf) -> Briefing:
    """The current state of a briefing: pending, processing, completed with its content, or failed with its error."""
    async with transaction(client) as session:
        briefing = await session.get(Briefing, briefing_id)
    if briefing is None:
        raise ProblemError(404, "briefing-not-found", f"no briefing {briefing_id}")
    return briefing


async def _insert(session: AsyncSession, topic: str, caller: str, key: str | None) -> Briefing | None:
    """Inserts a briefing and returns it. Returns None when the caller has used the idempotency key before.

    Waits for another request that is using the same key at the moment.
    """
    return await session.scalar(
        insert(Briefing)
        .values(id=uuid7(), topic=topic, requested_by=caller, request_key=key)
        .on_conflict_do_nothing()
        .returning(Briefing)
    )


async def _asked_before(session: AsyncSession, topic: str, caller: str, key: str | None) -> Briefing:
    briefing = await session.scalar(select(Briefing).where(Briefing.requested_by == caller, Briefing.request_key == key))
    if briefing is None or briefing.topic != topic:
        raise IdempotencyConflict(str(key))
    return briefing
