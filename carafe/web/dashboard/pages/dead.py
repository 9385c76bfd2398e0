"""Dead letters: the groups; and a group: probe one job, see its outcome in place, then replay or discard all the others.

A group is a kind and an error fingerprint. A probe is an ordinary retry of one job, whose id stands in the address, so
that its outcome is still there after a reload. Replays and discards are bulk actions of the group's filter.
"""

from typing import Annotated, Literal
from urllib.parse import urlencode
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response

from carafe.jobs import CarafeError, InvalidOption, State
from carafe.jobs.bulk import DEFAULT_RATE
from carafe.jobs.filters import JobFilter
from carafe.readmodel.records import DeadGroup, JobView
from carafe.web.dashboard.access import OperatorOf, Viewer, ViewerOf
from carafe.web.dashboard.dashboard import Dashboard, DashboardOf
from carafe.web.dashboard.forms import FormOf
from carafe.web.dashboard.pages.bulk import LISTED, described, rate_of
from carafe.web.dashboard.pages.chosen import address, kept_filter
from carafe.web.dashboard.pages.parts import show
from carafe.web.dashboard.refusals import Refused
from carafe.web.dashboard.rendering import after

router = APIRouter()

SHOWN = 100
"""Groups on the page; all of them with ``?all=1``."""

NEWEST = 20
"""Jobs of a group on its page."""


@router.get("/dead")
async def list_groups(
    request: Request,
    viewer: ViewerOf,
    dashboard: DashboardOf,
    everything: Annotated[Literal["1", ""], Query(alias="all")] = "",
) -> Response:
    """The groups, largest first."""
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
    """One group, its probe, and the bulk actions that work on it."""
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
        rate=f"{DEFAULT_RATE:g}",
        fault=fault,
    )


@router.post("/dead/group/probe")
async def probe(request: Request, operator: OperatorOf, form: FormOf, dashboard: DashboardOf) -> Response:
    """Retry one job of the group, and come back to see what becomes of it."""
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
    """Retry all of the group, at a rate."""
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
    pace = f"at {record.rate:g} a second" if record.rate else "as fast as it goes"
    return after(request, _path(wanted, probe_id), f"Replaying {record.matched.number:,} jobs {pace}.")


@router.post("/dead/group/discard")
async def discard(request: Request, operator: OperatorOf, form: FormOf, dashboard: DashboardOf) -> Response:
    """Give all of the group up, with a reason."""
    wanted = _wanted(str(form.get("kind", "")), str(form.get("fingerprint", "")))
    try:
        record = await dashboard.client.start_bulk("discard", wanted, reason=str(form.get("reason", "")), by=operator.actor)
    except InvalidOption as error:
        return await _group(request, operator, dashboard, wanted, None, fault=str(error))
    return after(request, _path(wanted), f"Discarding {record.matched.number:,} jobs; they stay findable as resolved.")


def outcome(probe: JobView, fingerprint: str | None) -> tuple[str, str, str]:
    """What became of a probe: tone, words, and what to do next."""
    job = probe.job
    failed = ": ".join(part for part in (job.error_class, job.error) if part)
    match job.state:
        case State.SUCCEEDED:
            return "good", "It worked.", "The cause seems to be gone: replay all the others."
        case State.DEAD if probe.fingerprint == fingerprint:
            return (
                "critical",
                f"It died again of the same error: {failed}",
                "Replaying the others would waste their attempts.",
            )
        case State.DEAD:
            return (
                "warning",
                f"It died of another error now: {failed}",
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
            return "info", "It runs.", ""
    return "info", probe.waiting or "It waits to be run.", ""


def group_path(kind: str, fingerprint: str, probe_id: UUID | None = None) -> str:
    """The address of a group's page."""
    pairs = {"kind": kind, "fingerprint": fingerprint}
    if probe_id is not None:
        pairs["probe"] = str(probe_id)
    return f"/dead/group?{urlencode(pairs)}"


def _path(wanted: JobFilter, probe_id: UUID | None = None) -> str:
    return group_path(str(wanted.kind), str(wanted.fingerprint), probe_id)


def _wanted(kind: str, fingerprint: str) -> JobFilter:
    """The filter of a group. Raises `Refused`."""
    if not kind or not fingerprint:
        raise Refused(404, "No such group", "A group of dead letters has a kind and a fingerprint; begin at Dead letters.")
    pairs = [("state", "dead"), ("kind", kind), ("fingerprint", fingerprint), ("resolved", "false")]
    return JobFilter.from_query(pairs)


def _concerns(kept: JobFilter, group: JobFilter) -> bool:
    return (kept.kind, kept.fingerprint) == (group.kind, group.fingerprint)


async def _found(dashboard: Dashboard, wanted: JobFilter) -> DeadGroup | None:
    return await dashboard.model.dead_group(str(wanted.kind), str(wanted.fingerprint))


def _uuid(text: str | None) -> UUID | None:
    try:
        return UUID(text or "")
    except ValueError:
        return None
