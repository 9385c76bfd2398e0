"""The list of jobs: tabs by state, filters as chips that stand in the address, a search box, what can be done to many."""

import asyncio
from dataclasses import replace
from urllib.parse import urlencode
from uuid import UUID

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse

from carafe.jobs import InvalidOption, State
from carafe.jobs.bulk import STATES
from carafe.jobs.filters import JobFilter
from carafe.jobs.records import Count
from carafe.web.dashboard.access import Viewer, ViewerOf
from carafe.web.dashboard.dashboard import Dashboard, DashboardOf
from carafe.web.dashboard.pages.chosen import address, checked, chips, total
from carafe.web.dashboard.pages.parts import show
from carafe.web.dashboard.rendering import url

router = APIRouter()

SEARCH = ("q", "search")
"""The names that the search boxes use."""

PAGE = 50
"""Jobs on a page."""


@router.get("/jobs")
async def list_jobs(request: Request, viewer: ViewerOf, dashboard: DashboardOf) -> Response:
    """Jobs that meet the filter, newest first."""
    pairs = request.query_params.multi_items()
    typed = next((value.strip() for name, value in pairs if name in SEARCH and value.strip()), "")
    rest = [(name, value) for name, value in pairs if name not in SEARCH]
    try:
        wanted = checked(JobFilter.from_query(rest), viewer)
    except InvalidOption as error:
        return await _page(request, viewer, dashboard, JobFilter(), typed=typed, fault=str(error))
    if typed:
        return await _searched(request, viewer, dashboard, wanted, typed)
    if any(not value.strip() for _, value in pairs):
        # A form sends its empty fields too; the address keeps what was filled in.
        return RedirectResponse(url(request, address("/jobs", wanted)), 303)
    return await _page(request, viewer, dashboard, wanted, cursor=request.query_params.get("cursor"))


async def _searched(request: Request, viewer: Viewer, dashboard: Dashboard, wanted: JobFilter, typed: str) -> Response:
    """Go where the search leads: to the job whose id was typed, or to the list that matches."""
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
    # Counted beside the page: on a busy machine most of either is waiting.
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
        actions=[action for action, states in STATES.items() if not wanted.states or wanted.states & states],
        kinds=await dashboard.model.kinds(),
        typed=typed,
        fault=fault,
        query=urlencode(wanted.to_query()),
    )
