"""The pages of bulk actions: preview one with its number of jobs, start it, then follow, pause, resume or cancel it.

A bulk action is a row in Postgres that the steward carries out (`carafe.steward.bulk`). These pages only write and show it.
"""

from collections.abc import Mapping
from typing import Any, Literal
from uuid import UUID

from fastapi import APIRouter, Request, Response

from carafe import InvalidOption
from carafe.dashboard.dashboard import Dashboard
from carafe.dashboard.dependencies import DashboardOf, OperatorOf, ViewerOf
from carafe.dashboard.pages.filter_chips import Chip, address, chips, kept_filter, meant
from carafe.dashboard.pages.fragments import show
from carafe.dashboard.security.access import Viewer
from carafe.dashboard.security.forms import FormOf
from carafe.dashboard.security.refusals import Refused
from carafe.dashboard.view.rendering import after
from carafe.jobs.actions import ACTIONS, RATED_ABOVE, Action
from carafe.store.bulk import BulkActionRecord, checked_rate, narrow
from carafe.store.filters import JobFilter

router = APIRouter()

LISTED = 50
"""How many bulk actions the list shows."""


@router.get("/bulk")
async def list_bulk_actions(request: Request, viewer: ViewerOf, dashboard: DashboardOf) -> Response:
    """The newest bulk actions."""
    records = await dashboard.model.bulk_actions(limit=LISTED)
    return show(request, "bulk_list", actions=[described(record, viewer) for record in records])


@router.get("/bulk/new")
async def ask(request: Request, operator: OperatorOf, dashboard: DashboardOf) -> Response:
    """The page that previews a bulk action: which action, how many jobs, at what rate.

    The query string has the filter of a list of jobs, and either `all` or the ids of the jobs that were `selected` there.
    """
    query = request.query_params
    if "all" in query:
        pairs = query.multi_items()
    elif query.getlist("selected"):
        pairs = [("id", value) for value in query.getlist("selected")]
    elif "selecting" in query:
        raise Refused(422, "Nothing is selected", "Tick the jobs in the list, or “all that match”, and choose again.")
    else:
        pairs = query.multi_items()
    return await _asked(request, operator, dashboard, _action(query.get("action")), meant(pairs, operator))


async def _asked(
    request: Request,
    viewer: Viewer,
    dashboard: Dashboard,
    action: Action,
    wanted: JobFilter,
    *,
    fault: str = "",
    given: Mapping[str, Any] | None = None,
) -> Response:
    wanted = narrow(action, wanted)
    matching = await dashboard.model.matching(wanted)
    rate = action.bulk_rate if matching.number > RATED_ABOVE else None
    return show(
        request,
        "bulk_new",
        422 if fault else 200,
        action=action,
        matching=matching,
        chips=chips(wanted, viewer),
        hidden=wanted.to_query(),
        back=address("/jobs", wanted),
        rate=f"{rate:g}" if rate else "",
        fault=fault,
        given=given or {},
    )


@router.post("/bulk")
async def start(request: Request, operator: OperatorOf, form: FormOf, dashboard: DashboardOf) -> Response:
    """Start a bulk action. If the reason or the rate is faulty, show the preview again, with the error."""
    action = _action(_text(form.get("action")))
    pairs = [(name, value) for name, value in form.multi_items() if isinstance(value, str)]
    wanted = meant(pairs, operator)
    reason, rate = _text(form.get("reason")), _text(form.get("rate"))
    try:
        record = await dashboard.client.start_bulk(
            action.name, wanted, rate=rate_of(rate), reason=reason or None, by=operator.actor
        )
    except InvalidOption as error:
        given = {"reason": reason, "rate": rate}
        return await _asked(request, operator, dashboard, action, wanted, fault=str(error), given=given)
    target = back_to(_text(form.get("back"))) or f"/bulk/{record.id}"
    return after(request, target, f"Started: {action.label.lower()} {record.matched.number:,} jobs.")


@router.get("/bulk/{bulk_id}")
async def follow(request: Request, viewer: ViewerOf, dashboard: DashboardOf, bulk_id: UUID) -> Response:
    """One bulk action, updated live."""
    record = await dashboard.client.bulk(bulk_id)
    found = described(record, viewer)
    return show(request, "bulk", bulk=found)


@router.post("/bulk/{bulk_id}/{move}")
async def steer(
    request: Request,
    operator: OperatorOf,
    form: FormOf,
    dashboard: DashboardOf,
    bulk_id: UUID,
    move: Literal["pause", "resume", "cancel"],
) -> Response:
    """Pause, resume or cancel a bulk action."""
    client = dashboard.client
    moves = {
        "pause": (client.pause_bulk, "Paused."),
        "resume": (client.resume_bulk, "Resumed."),
        "cancel": (client.cancel_bulk, "Cancelled: jobs that are already done stay done, no more will follow."),
    }
    act, said = moves[move]
    await act(bulk_id, by=operator.actor)
    return after(request, back_to(_text(form.get("back"))) or f"/bulk/{bulk_id}", said)


def described(record: BulkActionRecord, viewer: Viewer) -> dict[str, Any]:
    """Returns a bulk action's record and what templates show beside it: its filter in words, and how far it has come."""
    wanted = kept_filter(record.filter)
    # A list shows only the number of jobs of a large selection.
    selected = record.filter.get("ids")
    many = [Chip("selected", selected, JobFilter())] if isinstance(selected, str) else []
    worked = record.done + record.skipped + record.failed
    share = 1.0 if record.state == "done" else None
    if record.matched.number and share is None:
        share = min(worked / record.matched.number, 1.0)
    return {
        "record": record,
        "verb": ACTIONS[record.action].label if record.action in ACTIONS else record.action,
        "chips": [*chips(wanted, viewer), *many],
        "worked": worked,
        "share": share or 0.0,
        "remaining": max(record.matched.number - worked, 0),
        "jobs": address("/jobs", wanted) if viewer.sees_args or wanted.argument is None else "/jobs",
    }


def rate_of(text: str) -> float | None:
    """Returns the typed rate, in jobs a second; None for an empty field. Raises `InvalidOption` if it is not valid."""
    if not text:
        return None
    try:
        return checked_rate(float(text))
    except ValueError:
        raise InvalidOption("rate", "must be a number of jobs a second, or empty") from None


def back_to(path: str) -> str | None:
    """Returns `path` if it is the path of a page of the dashboard. Otherwise, for example for another site's URL, returns
    None."""
    inside = path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable()
    return path if inside else None


def _action(text: str | None) -> Action:
    for action in ACTIONS.values():
        if action.name == text:
            return action
    raise Refused(422, "No such action", f"There are {', '.join(ACTIONS)}.")


def _text(value: Any) -> str:
    return value.strip() if isinstance(value, str) else ""
