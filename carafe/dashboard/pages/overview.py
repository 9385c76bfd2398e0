"""The overview page: key figures, what needs attention, the charts, and the buttons that pause and resume the queue.

An open page fetches two parts of it again: the figures every second, the charts only as often as their time range gains a
bucket.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import HTMLResponse

from carafe.dashboard.dependencies import DashboardOf, OperatorOf, ViewerOf
from carafe.dashboard.security.forms import FormOf
from carafe.dashboard.security.refusals import Refused
from carafe.dashboard.view import charts
from carafe.dashboard.view.rendering import after, render, render_shared
from carafe.jobs.errors import InvalidOption
from carafe.jobs.records import Count
from carafe.jobs.states import State
from carafe.readmodel.records import Range, Snapshot
from carafe.store.filters import JobFilter

RANGES: dict[Range, tuple[str, float]] = {
    "5m": ("last 5 minutes", 5.0),
    "1h": ("last hour", 15.0),
    "24h": ("last 24 hours", 60.0),
    "7d": ("last 7 days", 300.0),
}
"""The charts' time ranges: for each, its name in words and the seconds after which open pages fetch the charts again."""

SHARED = 2.0
"""Seconds for which a rendered part of the page is reused for all viewers."""

router = APIRouter()


@dataclass(frozen=True, slots=True)
class Counter:
    """A state's number of jobs, and the page that lists them."""

    state: State
    count: Count
    path: str


@router.get("/")
async def overview(
    request: Request,
    viewer: ViewerOf,
    dashboard: DashboardOf,
    range: Annotated[Range, Query()] = "1h",  # noqa: A002  the word in the address
    kind: Annotated[str, Query(max_length=500, pattern=r"^[^\x00]*$")] = "",
    fragment: Annotated[Literal["now", "charts", ""], Query()] = "",
) -> HTMLResponse:
    """The overview page, or one of its two live parts (`fragment`)."""
    snapshot = dashboard.snapshots.latest()
    if fragment == "now":
        if away := dashboard.snapshots.trouble()["postgres"]:
            # The page keeps the last numbers that it has.
            raise Refused(503, "Postgres cannot be used", away, headers={"Retry-After": "2"})

        async def now() -> dict[str, Any]:
            return of_now(snapshot)

        return await render_shared(request, "overview/now.html", snapshot and snapshot.at, SHARED, now)

    def charts_at(which: str) -> str:
        return "/?" + urlencode({"range": which} | ({"kind": kind} if kind else {}))

    async def drawn() -> dict[str, Any]:
        return of_charts(charts.draw(await dashboard.model.series(range, kind or None)), range, kind, charts_at)

    if fragment == "charts":
        return await render_shared(request, "overview/charts.html", (range, kind), SHARED, drawn)
    return render(request, "overview.html", kinds=await dashboard.model.kinds(), **of_now(snapshot), **await drawn())


@router.post("/pause")
async def pause(request: Request, operator: OperatorOf, dashboard: DashboardOf, form: FormOf) -> Response:
    """Pause the queue: no new job starts."""
    try:
        queue = await dashboard.client.pause(reason=str(form.get("reason", "")), by=operator.actor)
    except InvalidOption as error:
        return after(request, "/", f"Nothing was done. {error}.")
    dashboard.snapshots.mark_stale()
    if queue.unchanged:
        return after(request, "/", f"It was paused already, by {queue.paused_by or 'somebody'}: nothing changed.")
    return after(request, "/", "Paused: no new job starts. Running jobs finish.")


@router.post("/resume")
async def resume(request: Request, operator: OperatorOf, dashboard: DashboardOf) -> Response:
    """Resume the paused queue: jobs start again."""
    await dashboard.client.resume(by=operator.actor)
    dashboard.snapshots.mark_stale()
    return after(request, "/", "Resumed: jobs start again.")


def of_charts(
    drawn: charts.Charts,
    range: Range,  # noqa: A002
    kind: str,
    charts_at: Callable[[str], str],
    *,
    alone: bool = False,
) -> dict[str, Any]:
    """Returns the variables for the template of the charts. `charts_at` returns the path of the page for a range. `alone`:
    the charts show only the jobs of `kind`, on its own page."""
    words, every = RANGES[range]
    return {
        "charts": drawn,
        "range": range,
        "ranges": [(key, words) for key, (words, _) in RANGES.items()],
        "label": words,
        "every": every,
        "kind": kind,
        "alone": alone,
        "charts_at": charts_at,
    }


def of_now(snapshot: Snapshot | None) -> dict[str, Any]:
    """Returns the variables for the template of the key figures. If there is no snapshot, they are those of a page without
    figures."""
    if snapshot is None:
        return {"counters": (), "oldest_path": "/jobs", "waiting": 0}
    counts = {state: snapshot.counts.get(state, Count(0)) for state in State}
    return {
        "counters": [Counter(state, count, _path(state)) for state, count in counts.items()],
        "oldest_path": _path(State.QUEUED),
        "waiting": counts[State.QUEUED].number,
    }


def _path(state: State) -> str:
    """Returns the path of the page that lists a state's jobs. Dead jobs are on the page of dead letters."""
    if state is State.DEAD:
        return "/dead"
    return "/jobs?" + urlencode(JobFilter(states=frozenset({state})).to_query())
