"""The pages of dead letters: a list of groups, and a page for each group.

A group is all dead letters with the same kind and error fingerprint. On its page, an operator retries one job as a probe,
sees its outcome, and then replays or discards all the others. The probe is an ordinary retry; its job's id is in the
page's URL, so that a reload still shows the outcome. Replays and discards are bulk actions with the group's filter.
"""

from typing import Annotated, Literal
from urllib.parse import urlencode
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response

from carafe import CarafeError, InvalidOption, State
from carafe.dashboard.dashboard import Dashboard
from carafe.dashboard.dependencies import DashboardOf, OperatorOf, ViewerOf
from carafe.dashboard.pages.bulk import LISTED, described, rate_of
from carafe.dashboard.pages.filter_chips import address, kept_filter
from carafe.dashboard.pages.fragments import show
from carafe.dashboard.security.access import Viewer
from carafe.dashboard.security.forms import FormOf
from carafe.dashboard.security.refusals import Refused
from carafe.dashboard.view.rendering import after
from carafe.jobs.actions import ACTIONS
from carafe.readmodel.records import DeadGroup, JobView
from carafe.store.filters import JobFilter

router = APIRouter()

SHOWN = 100
"""How many groups the list shows; with ``?all=1`` it shows all."""

NEWEST = 20
"""How many jobs of the group its page shows: the newest."""


@router.get("/dead")
async def list_groups(
    request: Request,
    viewer: ViewerOf,
    dashboard: DashboardOf,
    everything: Annotated[Literal["1", ""], Query(alias="all")] = "",
) -> Response:
    """The groups of dead letters, the largest first."""
    found = await dashboard.model.dead_groups()
    shown = found.groups if everything else found.groups[:SHOWN]
    return show(
        request,
        "dead",
        found=found,
        groups=[(group, group_path(group.kind, group.fingerprint)) for group in shown],
        hidden=len(found.groups) - len(shown),
        here="/dead?all=1" if everything else "/dead",
        newest=max((group.last_at for group in found.groups), default=None),
    )


@router.get("/dead/group")
async def show_group(request: Request, viewer: ViewerOf, dashboard: DashboardOf) -> Response:
    """One group of dead letters, its probe, and the bulk actions on it."""
    wanted = _wanted(request.query_params.get("kind", ""), request.query_params.get("fingerprint", ""))
    probe_id = _uuid(request.query_params.get("probe"))
    return await _group(request, viewer, dashboard, wanted, probe_id)


async def _group(
    request: Request,
    viewer: Viewer,
    dashboard: Dashboard,
    wanted: JobFilter,
    probe_id: UUID | None,
    *,
    fault: str = "",
) -> Response:
    group = await _found(dashboard, wanted)
    newest = await dashboard.model.jobs(wanted, limit=NEWEST)
    probe = None if probe_id is None else await dashboard.model.job(probe_id)
    working = [
        described(record, viewer)
        for record in await dashboard.model.bulk_actions(limit=LISTED)
        if _concerns(kept_filter(record.filter), wanted)
    ]
    return show(
        request,
        "dead_group",
        422 if fault else 200,
        group=group,
        kind=wanted.kind,
        fingerprint=wanted.fingerprint,
        newest=newest,
        probe=probe,
        outcome=None if probe is None else outcome(probe, wanted.fingerprint),
        working=working,
        replaying=any(one["record"].action == "retry" and one["record"].state in ("running", "paused") for one in working),
        here=group_path(str(wanted.kind), str(wanted.fingerprint), probe_id),
        jobs=address("/jobs", wanted),
        resolved=address("/jobs", JobFilter(frozenset({State.DEAD}), wanted.kind, None, wanted.fingerprint, resolved=True)),
        rate=f"{ACTIONS['retry'].bulk_rate:g}",
        fault=fault,
    )


@router.post("/dead/group/probe")
async def probe(request: Request, operator: OperatorOf, form: FormOf, dashboard: DashboardOf) -> Response:
    """Retry one job of the group, and show the group's page with the job's outcome."""
    wanted = _wanted(str(form.get("kind", "")), str(form.get("fingerprint", "")))
    job_id = _uuid(str(form.get("id", "")))
    if job_id is None:
        page = await dashboard.model.jobs(wanted, limit=1)
        if not page.jobs:
            return after(request, _path(wanted), "Nothing to probe: the group is empty.")
        job_id = page.jobs[0].id
    try:
        await dashboard.client.retry(job_id, reason="probe of its error group", by=operator.actor)
    except CarafeError as error:
        return after(request, _path(wanted), f"Not probed: {error}.")
    return after(request, group_path(str(wanted.kind), str(wanted.fingerprint), job_id), "Probing one job of the group.")


@router.post("/dead/group/replay")
async def replay(request: Request, operator: OperatorOf, form: FormOf, dashboard: DashboardOf) -> Response:
    """Retry all jobs of the group, at the given rate."""
    wanted = _wanted(str(form.get("kind", "")), str(form.get("fingerprint", "")))
    probe_id = _uuid(str(form.get("probe", "")))
    try:
        record = await dashboard.client.start_bulk(
            "retry",
            wanted,
            rate=rate_of(str(form.get("rate", "")).strip()),
            reason=str(form.get("reason", "")).strip() or None,
            by=operator.actor,
        )
    except InvalidOption as error:
        return await _group(request, operator, dashboard, wanted, probe_id, fault=str(error))
    pace = f"at {record.rate:g} per second" if record.rate else "without a rate limit"
    return after(request, _path(wanted, probe_id), f"Replaying {record.matched.number:,} jobs {pace}.")


@router.post("/dead/group/discard")
async def discard(request: Request, operator: OperatorOf, form: FormOf, dashboard: DashboardOf) -> Response:
    """Discard all jobs of the group, for a given reason."""
    wanted = _wanted(str(form.get("kind", "")), str(form.get("fingerprint", "")))
    try:
        record = await dashboard.client.start_bulk("discard", wanted, reason=str(form.get("reason", "")), by=operator.actor)
    except InvalidOption as error:
        return await _group(request, operator, dashboard, wanted, None, fault=str(error))
    return after(request, _path(wanted), f"Discarding {record.matched.number:,} jobs; you can still find them as resolved.")


def outcome(probe: JobView, fingerprint: str | None) -> tuple[str, str, str]:
    """Returns what the group's page shows about a probe: the tone of the message, its text, and what to do next ('' if
    nothing)."""
    job = probe.job
    failed = ": ".join(part for part in (job.error_class, job.error) if part)
    match job.state:
        case State.SUCCEEDED:
            return "good", "It succeeded.", "The cause seems to be gone: replay all the others."
        case State.DEAD if probe.fingerprint == fingerprint:
            return (
                "critical",
                f"It is dead again with the same error: {failed}",
                "Replaying the others would waste their attempts.",
            )
        case State.DEAD:
            return (
                "warning",
                f"It is dead with a different error: {failed}",
                "The first cause may be gone, but there is a second one.",
            )
        case State.CANCELLED:
            return "warning", "It was cancelled.", "Probe another one."
        case State.RETRYING:
            latest = probe.attempts[-1] if probe.attempts else None
            again = "" if latest is None else ": ".join(part for part in (latest.error_class, latest.error) if part)
            return (
                "warning",
                f"It failed and waits to be retried: {again}" if again else "It failed, and will be retried.",
                "",
            )
        case State.RUNNING:
            return "info", "It is running.", ""
    return "info", probe.waiting or "It waits to be run.", ""


def group_path(kind: str, fingerprint: str, probe_id: UUID | None = None) -> str:
    """Returns the path of a group's page, with its query."""
    pairs = {"kind": kind, "fingerprint": fingerprint}
    if probe_id is not None:
        pairs["probe"] = str(probe_id)
    return f"/dead/group?{urlencode(pairs)}"


def _path(wanted: JobFilter, probe_id: UUID | None = None) -> str:
    return group_path(str(wanted.kind), str(wanted.fingerprint), probe_id)


def _wanted(kind: str, fingerprint: str) -> JobFilter:
    """Returns the filter that matches a group's dead letters. Raises `Refused` 404 if `kind` or `fingerprint` is empty."""
    if not kind or not fingerprint:
        text = "The URL of a group needs a kind and a fingerprint; open the group from the page of dead letters."
        raise Refused(404, "No such group", text)
    pairs = [("state", "dead"), ("kind", kind), ("fingerprint", fingerprint), ("resolved", "false")]
    return JobFilter.from_query(pairs, strict=True)


def _concerns(kept: JobFilter, group: JobFilter) -> bool:
    return (kept.kind, kept.fingerprint) == (group.kind, group.fingerprint)


async def _found(dashboard: Dashboard, wanted: JobFilter) -> DeadGroup | None:
    return await dashboard.model.dead_group(str(wanted.kind), str(wanted.fingerprint))


def _uuid(text: str | None) -> UUID | None:
    try:
        return UUID(text or "")
    except ValueError:
        return None
