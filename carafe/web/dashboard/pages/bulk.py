"""Bulk actions: say what will be done and to how many, start it, then follow, pause, resume or cancel it.

Each is a durable row that the steward works off (`carafe.steward.bulk`): this page starts it and shows it.
"""

from collections.abc import Mapping
from typing import Any, Literal
from uuid import UUID

from fastapi import APIRouter, Request, Response

from carafe.jobs import InvalidOption
from carafe.jobs.bulk import ACTIONS, DEFAULT_RATE, RATED_ABOVE, Action, BulkActionRecord, checked_rate, narrow
from carafe.jobs.filters import JobFilter
from carafe.web.dashboard.access import OperatorOf, Viewer, ViewerOf
from carafe.web.dashboard.dashboard import Dashboard, DashboardOf
from carafe.web.dashboard.forms import FormOf
from carafe.web.dashboard.pages.chosen import Chip, address, checked, chips, kept_filter
from carafe.web.dashboard.pages.parts import show
from carafe.web.dashboard.refusals import Refused
from carafe.web.dashboard.rendering import after

router = APIRouter()

WORDS: Mapping[Action, str] = {"retry": "Retry", "run_now": "Run now", "cancel": "Cancel", "discard": "Discard"}

LISTED = 50
"""Bulk actions on the page."""


@router.get("/bulk")
async def list_bulk_actions(request: Request, viewer: ViewerOf, dashboard: DashboardOf) -> Response:
    """The newest bulk actions."""
    records = await dashboard.model.bulk_actions(limit=LISTED)
    return show(request, "bulk_list", actions=[described(record, viewer) for record in records])


@router.get("/bulk/new")
async def ask(request: Request, operator: OperatorOf, dashboard: DashboardOf) -> Response:
    """What would be done, to how many, and how fast: the page before a bulk action begins.

    Takes the filter of a list of jobs, and either `all` or the ids that were `selected` there.
    """
    query = request.query_params
    if "all" in query:
        wanted = JobFilter.from_query((name, value) for name, value in query.multi_items() if name != "selected")
    elif query.getlist("selected"):
        wanted = JobFilter.from_query(("id", value) for value in query.getlist("selected"))
    elif "selecting" in query:
        raise Refused(422, "Nothing is selected", "Tick the jobs in the list, or “all that match”, and choose again.")
    else:
        wanted = JobFilter.from_query(query.multi_items())
    return await _asked(request, operator, dashboard, _action(query.get("action")), checked(wanted, operator))


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
    rated = action == "retry" and matching.number > RATED_ABOVE
    return show(
        request,
        "bulk_new",
        422 if fault else 200,
        action=action,
        verb=WORDS[action],
        matching=matching,
        chips=chips(wanted, viewer),
        hidden=wanted.to_query(),
        back=address("/jobs", wanted),
        rate=f"{DEFAULT_RATE:g}" if rated else "",
        rated=rated,
        fault=fault,
        given=given or {},
    )


@router.post("/bulk")
async def start(request: Request, operator: OperatorOf, form: FormOf, dashboard: DashboardOf) -> Response:
    """Start it."""
    action = _action(_text(form.get("action")))
    pairs = [(name, value) for name, value in form.multi_items() if isinstance(value, str)]
    wanted = checked(JobFilter.from_query(pairs), operator)
    reason, rate = _text(form.get("reason")), _text(form.get("rate"))
    try:
        record = await dashboard.client.start_bulk(
            action, wanted, rate=rate_of(rate), reason=reason or None, by=operator.actor
        )
    except InvalidOption as error:
        given = {"reason": reason, "rate": rate}
        return await _asked(request, operator, dashboard, action, wanted, fault=str(error), given=given)
    target = back_to(_text(form.get("back"))) or f"/bulk/{record.id}"
    return after(request, target, f"Started: {WORDS[action].lower()} {record.matched.number:,} jobs.")


@router.get("/bulk/{bulk_id}")
async def follow(request: Request, viewer: ViewerOf, dashboard: DashboardOf, bulk_id: UUID) -> Response:
    """One bulk action, followed live."""
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
    """Pause, resume or cancel it."""
    client = dashboard.client
    moves = {
        "pause": (client.pause_bulk, "Paused."),
        "resume": (client.resume_bulk, "Resumed."),
        "cancel": (client.cancel_bulk, "Cancelled: what is done stays done, nothing more will be."),
    }
    act, said = moves[move]
    await act(bulk_id, by=operator.actor)
    return after(request, back_to(_text(form.get("back"))) or f"/bulk/{bulk_id}", said)


def described(record: BulkActionRecord, viewer: Viewer) -> dict[str, Any]:
    """A bulk action with what a template shows of it."""
    wanted = kept_filter(record.filter)
    # A list says of a large selection only how many jobs it has.
    selected = record.filter.get("ids")
    many = [Chip("selected", selected, JobFilter())] if isinstance(selected, str) else []
    worked = record.done + record.skipped + record.failed
    share = 1.0 if record.state == "done" else None
    if record.matched.number and share is None:
        share = min(worked / record.matched.number, 1.0)
    return {
        "record": record,
        "verb": WORDS[record.action],
        "chips": [*chips(wanted, viewer), *many],
        "worked": worked,
        "share": share or 0.0,
        "remaining": max(record.matched.number - worked, 0),
        "jobs": address("/jobs", wanted) if viewer.sees_args or wanted.argument is None else "/jobs",
    }


def rate_of(text: str) -> float | None:
    """Jobs a second that were typed; None for an empty field. Raises `InvalidOption`."""
    if not text:
        return None
    try:
        return checked_rate(float(text))
    except ValueError:
        raise InvalidOption("rate", "must be a number of jobs a second, or empty") from None


def back_to(path: str) -> str | None:
    """A page of the dashboard to go back to; None for anything else, such as another site."""
    inside = path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable()
    return path if inside else None


def _action(text: str | None) -> Action:
    for action in ACTIONS:
        if action == text:
            return action
    raise Refused(422, "No such action", f"There are {', '.join(ACTIONS)}.")


def _text(value: Any) -> str:
    return value.strip() if isinstance(value, str) else ""
