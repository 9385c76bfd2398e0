"""The briefings pages of the dashboard: an example of pages that an application adds. `app.main` registers them.

They list briefings with their status, take the topic of a new one, and show a briefing live while it is written. They are
built like all pages of the dashboard: with `render`, `after`, the viewer's role, and fragments that the browser fetches
again when a job changes.
"""

from pathlib import Path
from uuid import UUID

from fastapi import APIRouter, Request, Response
from pydantic import ValidationError
from sqlalchemy import select

from app.models import BriefingRequest
from briefings.jobs import GenerateBriefing
from briefings.model import Briefing, Status
from carafe import Client, faults_of, uuid7
from carafe.dashboard import DashboardOf, FormOf, OperatorOf, Refused, Viewer, ViewerOf, after, render
from carafe.web import transaction

TEMPLATES = Path(__file__).parent / "templates"

NEWEST = 30
"""How many briefings a page lists."""

UNDER_WAY = frozenset({Status.PENDING, Status.PROCESSING})

router = APIRouter()


@router.get("/briefings")
async def list_briefings(request: Request, viewer: ViewerOf, dashboard: DashboardOf) -> Response:
    """The newest briefings, and the form for a new one."""
    return await _page(request, dashboard.client, _older_than(request.query_params.get("before")))


@router.post("/briefings")
async def generate(request: Request, operator: OperatorOf, form: FormOf, dashboard: DashboardOf) -> Response:
    """Create a briefing. Its row, its job and the audit's row are stored in one commit."""
    typed = str(form.get("topic", ""))
    try:
        topic = BriefingRequest(topic=typed).topic
    except ValidationError as error:
        return await _page(request, dashboard.client, None, typed, "; ".join(fault.message for fault in faults_of(error)))
    briefing_id = await _generate(dashboard.client, operator, topic)
    return after(request, f"/briefings/{briefing_id}", "A worker will write it; this page follows.")


@router.get("/briefings/{briefing_id}")
async def follow(request: Request, viewer: ViewerOf, dashboard: DashboardOf, briefing_id: UUID) -> Response:
    """One briefing, updated live."""
    async with transaction(dashboard.client) as session:
        briefing = await session.get(Briefing, briefing_id)
    if briefing is None:
        raise Refused(404, "No such briefing", f"There is no briefing {briefing_id}.")
    return render(request, "briefings/one.html", briefing=briefing)


async def _page(request: Request, client: Client, before: UUID | None, typed: str = "", error: str = "") -> Response:
    query = select(Briefing).order_by(Briefing.id.desc()).limit(NEWEST + 1)
    if before is not None:
        query = query.where(Briefing.id < before)
    async with transaction(client) as session:
        found = list(await session.scalars(query))
    shown = found[:NEWEST]
    watched = [f"job:{briefing.job_id}" for briefing in shown if briefing.status in UNDER_WAY and briefing.job_id]
    return render(
        request,
        "briefings/list.html",
        422 if error else 200,
        briefings=shown,
        here=f"/briefings?before={before}" if before else "/briefings",
        first="/briefings" if before else "",
        next=f"/briefings?before={shown[-1].id}" if len(found) > NEWEST else "",
        topics=" ".join(["jobs", *watched]),
        typed=typed,
        error=error,
    )


async def _generate(client: Client, operator: Viewer, topic: str) -> UUID:
    async with transaction(client) as session:
        briefing = Briefing(id=uuid7(), topic=topic, requested_by=operator.name)
        enqueued = await client.enqueue(
            GenerateBriefing(briefing_id=briefing.id), session=session, created_by=operator.name, by=operator.actor
        )
        briefing.job_id = enqueued.id
        session.add(briefing)
    return briefing.id


def _older_than(text: str | None) -> UUID | None:
    try:
        return None if text is None else UUID(text)
    except ValueError:
        raise Refused(422, "This URL is not valid", "before: must be a briefing's id.") from None
