"""The audit page: who did what, when and from where. Every action writes an audit row in its own transaction."""

from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from fastapi import APIRouter, Request, Response

from carafe import InvalidOption
from carafe.dashboard.dependencies import DashboardOf, ViewerOf
from carafe.dashboard.pages.fragments import show
from carafe.dashboard.security.access import Viewer
from carafe.dashboard.view.trees import shown
from carafe.store.audit import AuditRecord

router = APIRouter()


@router.get("/audit")
async def list_audit(request: Request, viewer: ViewerOf, dashboard: DashboardOf) -> Response:
    """The audit, newest first. With `target` in the query string, only actions on that job, worker, queue or bulk action."""
    target = request.query_params.get("target", "").strip() or None
    cursor = request.query_params.get("cursor") or None
    fault = ""
    try:
        page = await dashboard.model.audit(target=target, cursor=cursor)
    except InvalidOption as error:
        page, fault, cursor = await dashboard.model.audit(target=target), str(error), None
    return show(
        request,
        "audit",
        422 if fault else 200,
        rows=[(row, path_of_target(row), shown(shown_details(row, viewer))) for row in page.rows],
        target=target or "",
        here=_address(target, cursor),
        first=_address(target, None) if cursor else "",
        next=_address(target, page.next_cursor) if page.next_cursor else "",
        fault=fault,
    )


def path_of_target(row: AuditRecord) -> str | None:
    """Returns the path of the page about an audit row's target; None when the target, such as a queue, has no page."""
    try:
        target = UUID(row.target)
    except ValueError:
        return None
    if "bulk" in row.action:
        return f"/bulk/{target}"
    return "/workers" if "drain" in row.action else f"/jobs/{target}"


def shown_details(row: AuditRecord, viewer: Viewer) -> dict[str, Any]:
    """Returns an audit row's details, without the values of job arguments if the viewer may not see them."""
    details = dict(row.details)
    kept = details.get("filter")
    if not viewer.sees_args and isinstance(kept, dict) and "argument" in kept:
        details["filter"] = {**kept, "argument": "(not shown)"}
    return details


def _address(target: str | None, cursor: str | None) -> str:
    pairs = [(name, value) for name, value in (("target", target), ("cursor", cursor)) if value]
    return f"/audit?{urlencode(pairs)}" if pairs else "/audit"
