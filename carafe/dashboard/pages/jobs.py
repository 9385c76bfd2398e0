"""The page that lists jobs: a tab for each state, filters as chips (kept in the URL), a search box, and bulk actions."""

import asyncio
from dataclasses import replace
from urllib.parse import urlencode
from uuid import UUID

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse

from carafe import InvalidOption, State
from carafe.dashboard.dashboard import Dashboard
from carafe.dashboard.dependencies import DashboardOf, ViewerOf
from carafe.dashboard.pages.filter_chips import address, checked, chips, shortened, total
from carafe.dashboard.pages.fragments import show
from carafe.dashboard.security.access import Viewer
from carafe.dashboard.view.rendering import url
from carafe.jobs.actions import ACTIONS
from carafe.jobs.records import MAX_HELD, Count
from carafe.store.filters import JobFilter

router = APIRouter()

SEARCH = ("q", "search")
"""The query parameters that may hold the text of a search box."""

PAGE = 50
"""How many jobs a page lists."""


@router.get("/jobs")
async def list_jobs(request: Request, viewer: ViewerOf, dashboard: DashboardOf) -> Response:
    """The jobs that match the filter, newest first."""
    pairs = request.query_params.multi_items()
    typed = next((value.strip() for name, value in pairs if name in SEARCH and value.strip()), "")
    rest = [(name, value) for name, value in pairs if name not in SEARCH]
    try:
        wanted = checked(JobFilter.from_query(rest), viewer)
    except InvalidOption as error:
        return await _page(request, viewer, dashboard, JobFilter(), typed=typed, fault=str(error))
    if typed:
        return await _searched(request, viewer, dashboard, wanted, typed)
    cursor = request.query_params.get("cursor") or None
    if any(not value.strip() for _, value in pairs) and (shorter := shortened(pairs, wanted, cursor=cursor)):
        return RedirectResponse(url(request, shorter), 303)
    return await _page(request, viewer, dashboard, wanted, cursor=cursor)


async def _searched(request: Request, viewer: Viewer, dashboard: Dashboard, wanted: JobFilter, typed: str) -> Response:
    """Redirect to the result of a search: to the job whose id was typed, or to the list of jobs that match."""
    try:
        found = checked(wanted.search(typed), viewer)
    except InvalidOption as error:
        return await _page(request, viewer, dashboard, wanted, typed=typed, fault=str(error))
    job_id = _uuid(typed)
    if job_id is None:
        return RedirectResponse(url(request, address("/jobs", found)), 303)
    if await dashboard.model.versions([job_id]):
        return RedirectResponse(url(request, f"/jobs/{job_id}"), 303)
    fault = f"There is no job {job_id}: it never existed, or its retention has passed."
    return await _page(request, viewer, dashboard, wanted, typed=typed, fault=fault)


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


async def _page(
    request: Request,
    viewer: Viewer,
    dashboard: Dashboard,
    wanted: JobFilter,
    *,
    cursor: str | None = None,
    typed: str = "",
    fault: str | None = None,
) -> Response:
    status = 200
    # Counts run concurrently with the page: on a busy machine both mostly wait.
    counting = asyncio.ensure_future(dashboard.model.counts(wanted))
    counting.add_done_callback(lambda task: task.cancelled() or task.exception())  # also where the page fails first
    try:
        page = await dashboard.model.jobs(wanted, cursor=cursor, limit=PAGE)
    except InvalidOption as error:
        page, fault = await dashboard.model.jobs(wanted, limit=PAGE), str(error)
        cursor = None
    except BaseException:
        counting.cancel()
        raise
    counts = await counting
    if fault is not None:
        status = 404 if _uuid(typed) else 422
    matching = total(count for state, count in counts.items() if not wanted.states or state in wanted.states)
    tabs: list[tuple[str, str, Count | None, bool]] = []
    tabs.append(("All", address("/jobs", replace(wanted, states=frozenset())), total(counts.values()), not wanted.states))
    for state in State:
        target = replace(wanted, states=frozenset({state}))
        tabs.append((state.value, address("/jobs", target), counts.get(state), wanted.states == {state}))
    return show(
        request,
        "jobs",
        status,
        page=page,
        wanted=wanted,
        tabs=tabs,
        chips=[
            (chip.label, chip.value, address("/jobs", chip.without))
            for chip in chips(wanted, viewer, states=len(wanted.states) > 1)
        ],
        plain=address("/jobs", JobFilter(states=wanted.states)),
        here=address("/jobs", wanted, cursor=cursor),
        first=address("/jobs", wanted) if cursor else "",
        next=address("/jobs", wanted, cursor=page.next_cursor) if page.next_cursor else "",
        hidden=wanted.to_query(),
        matching=matching,
        actions=[
            action
            for action in ACTIONS.values()
            if (not wanted.states or wanted.states & action.states) and not (action.unresolved and wanted.resolved)
        ],
        kinds=await dashboard.model.kinds(),
        typed=typed,
        fault=fault,
        paused=await dashboard.model.pause_of(wanted.kind) if wanted.kind else None,
        most_held=MAX_HELD,
        query=urlencode(wanted.to_query()),
    )
